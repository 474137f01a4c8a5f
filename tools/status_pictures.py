"""
Take the pictures of the status page for the documentation: ``python -m tools.status_pictures docs``.

Chromium shows the pages of ``tests/daemon/serve_admin.py``. It takes a minute or two.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.daemon.fakes import key_of
from tests.interop.browser import Browser

__all__ = ["main"]

_SERVE = [sys.executable, "-m", "tests.daemon.serve_admin", "--keys"]


def main(directory: Path) -> None:
    """Take them."""
    pipe = subprocess.PIPE
    with subprocess.Popen(_SERVE, stdin=pipe, stdout=pipe, text=True) as daemon:  # noqa: S603 - our own program
        assert daemon.stdin is not None
        assert daemon.stdout is not None
        url = daemon.stdout.readline().strip().replace("//", f"//any:{key_of('boss')}@")
        daemon.stdin.write("trip\n")
        daemon.stdin.flush()
        _take(url, directory / "status-page.png", (1280, 1180))
        _take(url, directory / "status-narrow.png", (390, 900), top="#apps-title")
        _take(f"{url}/apps/weather.beta", directory / "status-app.png", (1280, 1180))
        daemon.stdin.write("end\n")


def _take(url: str, path: Path, size: tuple[int, int], top: str = "body") -> None:
    """Take a picture of a page, from an element on."""
    browser = Browser(*size)
    try:
        browser.open(url)
        browser.until(lambda: "Circuit tripped" in browser.text("body"))
        browser.run("[...document.querySelectorAll('#manage details')].forEach((each) => { each.open = true; })")
        place = browser.run(f"return document.querySelector('{top}').getBoundingClientRect().top + scrollY")
        browser.photograph(path, top=max(0.0, place - 20.0), size=size)
    finally:
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
