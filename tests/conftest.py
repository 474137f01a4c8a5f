"""Each test runs in a directory of its own, as trial has it, so that ``mktemp`` leaves nothing in the checkout."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
