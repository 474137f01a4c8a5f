"""The configuration as a whole."""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Iterator
from pathlib import Path

import attrs
import msgspec
import msgspec.toml
from msgspec.structs import asdict

from txapns._texts import utf8
from txapns.daemon.config.checks import (
    app_faults,
    binary_faults,
    database_faults,
    event_faults,
    listener_faults,
    matrix_faults,
    name_faults,
    node_faults,
    webhook_faults,
)
from txapns.daemon.config.decoding import Decoder, dotted, fault
from txapns.daemon.config.sections import (
    AdminSection,
    AppLimitsSection,
    AppSection,
    DatabaseSection,
    IntakeSection,
    LimitsSection,
    ListenerSection,
    NodeSection,
    OutcomesSection,
    RetriesSection,
    SecretsSection,
    TableOfTables,
    WebhookSection,
)
from txapns.daemon.errors import ConfigurationError
from txapns.daemon.values import Limits

__all__ = ["Configuration"]


class Configuration(TableOfTables, frozen=True, kw_only=True):
    """The whole file. Read it with :meth:`from_file` or :meth:`from_text`. The database may have more apps."""

    database: DatabaseSection = DatabaseSection()
    node: NodeSection = NodeSection()
    secrets: SecretsSection = SecretsSection()
    intake: IntakeSection = IntakeSection()
    admin: AdminSection = AdminSection()
    limits: LimitsSection = LimitsSection()
    retries: RetriesSection = RetriesSection()
    outcomes: OutcomesSection = OutcomesSection()
    webhook: dict[str, WebhookSection] = msgspec.field(default_factory=dict)
    apps: dict[str, AppSection] = msgspec.field(default_factory=dict)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Configuration:
        """
        Read and check a file.

        :raises ConfigurationError: it cannot be read, or has mistakes; the message has a line for each.
        """
        path = Path(path)
        try:
            text = utf8(path.read_bytes()).decode()
        except OSError as error:
            raise ConfigurationError(f"{path}: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise ConfigurationError(f"{path}: byte {error.start + 1} is not UTF-8") from None
        return cls.from_text(text, path.absolute().parent, path.name)

    @classmethod
    def from_text(cls, text: str, directory: Path, name: str = "apns.toml") -> Configuration:
        """
        Read and check a text.

        :param directory: what relative file names are relative to.
        :param name: what to call the text in errors.
        :raises ConfigurationError: it has mistakes; the message has a line for each.
        """
        try:
            table = msgspec.toml.decode(text)
        except msgspec.DecodeError as error:
            raise ConfigurationError(f"{name}: this is not TOML: {error}") from None
        decoder = Decoder(directory)
        configuration = decoder.table(cls, table, "")
        assert configuration is not None  # a table of tables always has a value
        faults = [*decoder.faults, *configuration.faults(decoder.given)]
        if faults:
            raise ConfigurationError("\n".join(f"{name}: {each}" for each in faults))
        return configuration

    def faults(self, given: Collection[str]) -> Iterator[str]:
        """
        Find values that are allowed by themselves but not together.

        :param given: the dotted keys that have values of their own; the others have their defaults.
        :returns: a line for each mistake.
        """
        yield from database_faults(self.database, given)
        if self.database.url is not None:
            yield from node_faults(self.node_name)
        for name in ("native", "apple", "pyapns", "matrix"):
            listener: ListenerSection | None = getattr(self.intake, name)
            if listener is not None:
                yield from listener_faults(f"intake.{name}", listener)
        yield from listener_faults("admin", self.admin)
        if self.intake.binary is not None:
            yield from binary_faults(self.intake.binary)
        if self.intake.matrix is not None:
            yield from matrix_faults(self.intake.matrix)
        for name, app in self.apps.items():
            yield from name_faults(dotted("apps", name), name)
            yield from app_faults(dotted("apps", name), app)
        for name, webhook in self.webhook.items():
            yield from name_faults(dotted("webhook", name), name)
            yield from webhook_faults(dotted("webhook", name), webhook)
            yield from event_faults(dotted("webhook", name), webhook, self.apps)
        if self.retries.longest < self.retries.first:
            yield fault("retries.longest", self.retries.longest, f"at least retries.first, {self.retries.first}")

    @property
    def node_name(self) -> str:
        """What this daemon is called among those that share its database: the name of the machine if none is given."""
        return self.node.name or socket.gethostname()

    def limits_of(self, own: AppLimitsSection) -> Limits:
        """Complete the limits of an app with those of all apps."""
        limits = self.limits
        each = limits.queue, limits.tokens, limits.in_flight, limits.connections
        common = Limits(*each, self.retries.attempts, limits.rate)
        return attrs.evolve(common, **{name: value for name, value in asdict(own).items() if value is not None})
