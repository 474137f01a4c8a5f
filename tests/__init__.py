"""Tests."""

from __future__ import annotations

from pathlib import Path

#: The project's directory.
PROJECT = Path(__file__).parent.parent
