"""A daemon's installation, as commands work on it: its configuration, its secrets and its database."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from pathlib import Path

import attrs

from txapns.daemon.config.configuration import Configuration
from txapns.daemon.errors import ConfigurationError
from txapns.daemon.secrets.master_key import Secrets
from txapns.daemon.store.factory import is_there, visiting_tables
from txapns.daemon.store.store import Tables

__all__ = ["Installation", "iso_time", "now", "read_configuration"]


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
        configuration = read_configuration(path)
        return cls(configuration, Secrets(configuration.secrets.master_key_file, os.environ))

    @property
    def has_database(self) -> bool:
        """Whether there may be something in the database, which otherwise need not be made only to be read."""
        return is_there(self.configuration)

    def visiting(self) -> AbstractContextManager[Tables]:
        """Open the database, also while the daemon has it."""
        return visiting_tables(self.configuration)


def read_configuration(path: Path) -> Configuration:
    """
    Read the configuration.

    :raises ConfigurationError: it cannot be used; if there is no such file, the message says what to do.
    """
    try:
        return Configuration.from_file(path)
    except ConfigurationError as error:
        if not isinstance(error.__context__, FileNotFoundError):
            raise
        advice = "give --config FILE, or try the daemon with txapns serve --demo"
        raise ConfigurationError(f"{error}; {advice}") from None


def now() -> datetime:
    """Tell the time, in UTC."""
    return datetime.now(timezone.utc)


def iso_time(seconds: float) -> str:
    """Write a time in UNIX seconds for a list."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")
