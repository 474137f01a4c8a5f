"""A daemon's installation, as commands work on it: its configuration, its secrets and its database."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from pathlib import Path

import attrs

from txapns.daemon.config.configuration import Configuration
from txapns.daemon.secrets.master_key import Secrets
from txapns.daemon.store.factory import visiting_tables
from txapns.daemon.store.store import Tables

__all__ = ["Installation", "iso_time", "now"]


@attrs.frozen
class Installation:
    """A daemon's installation."""

    configuration: Configuration
    secrets: Secrets

    @classmethod
    def from_file(cls, path: Path) -> Installation:
        """
        Read the configuration.

        :raises ConfigurationError: it cannot be used.
        """
        configuration = Configuration.from_file(path)
        return cls(configuration, Secrets(configuration.secrets.master_key_file, os.environ))

    @property
    def database(self) -> Path:
        """Where the database is."""
        return self.configuration.database.path

    def visiting(self) -> AbstractContextManager[Tables]:
        """Open the database, also while the daemon has it."""
        return visiting_tables(self.configuration)


def now() -> datetime:
    """Tell the time, in UTC."""
    return datetime.now(timezone.utc)


def iso_time(seconds: float) -> str:
    """Write a time in UNIX seconds for a list."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")
