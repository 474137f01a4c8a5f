"""The ``txapns`` command, as ``python -m txapns``."""

from __future__ import annotations

from txapns.command.main import main

if __name__ == "__main__":
    main()
