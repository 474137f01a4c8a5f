"""Tests for :mod:`txapns.daemon.config.sections`, and of the example that shows them all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, get_args

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from tests import PROJECT
from tests.daemon.config.reading import read
from txapns.daemon.config.configuration import Configuration
from txapns.daemon.config.sections import AppLimitsSection
from txapns.daemon.values import Limits

__all__ = ["DefaultsTests", "ExampleTests"]

EXAMPLE = PROJECT / "contrib/apns.toml"


class DefaultsTests(SynchronousTestCase):
    """The defaults."""

    def test_the_same_defaults(self) -> None:
        """The default limits of an app are those of Limits."""
        self.assertEqual(read("").limits_of(AppLimitsSection()), Limits())


def sections(kind: Any) -> Iterator[type[msgspec.Struct]]:
    """Find all sections."""
    for each in (kind, *get_args(kind)):
        if isinstance(each, type) and issubclass(each, msgspec.Struct):
            yield each
            for field in msgspec.structs.fields(each):
                yield from sections(field.type)


class ExampleTests(SynchronousTestCase):
    """``contrib/apns.toml``."""

    def setUp(self) -> None:
        """Read it."""
        self.text = EXAMPLE.read_text(encoding="utf-8")
        self.whole = re.sub(r"^#(?=\[|[a-z_]+ = )", "", self.text, flags=re.MULTILINE)
        # A database is either SQLite or PostgreSQL.
        self.sqlite = re.sub(r"^(url = \"postgresql:|password_file|schema).*\n", "", self.whole, flags=re.MULTILINE)
        self.postgresql = self.whole.replace('path = "apns.db"\n', "")

    def test_as_it_is(self) -> None:
        """As shipped, it equals the defaults."""
        self.assertEqual(read(self.text), read(""))

    def test_whole(self) -> None:
        """It is also valid with everything uncommented."""
        for text in (self.sqlite, self.postgresql):
            self.assertEqual(list(read(text).apps), ["example", "other"])

    def test_complete(self) -> None:
        """It contains every key, at least once for each table that has it."""
        found = msgspec.toml.decode(self.whole)
        tables = {"apps": found["apps"]["example"] | found["apps"]["other"], "webhook": found["webhook"]["example"]}
        tables["sandbox"] = found["apps"]["example"]["sandbox"] | found["apps"]["other"]["sandbox"]
        tables["app_ids"] = found["intake"]["matrix"]["app_ids"]["com.example.app.ios"]

        def check(kind: type[msgspec.Struct], table: dict[str, Any]) -> None:
            self.assertEqual(set(table), set(kind.__struct_fields__), kind)
            for field in msgspec.structs.fields(kind):
                for section in list(sections(field.type))[:1]:
                    check(section, tables.get(field.name, table[field.name]))

        check(Configuration, found)

    def test_defaults(self) -> None:
        """It shows the defaults."""
        found, default = read(self.sqlite), read("")
        self.assertEqual(read(self.postgresql).database.schema, default.database.schema)
        self.assertEqual(msgspec.structs.replace(found.limits, rate=None), default.limits)
        for name in ("database", "secrets", "retries"):
            self.assertEqual(getattr(found, name), getattr(default, name), name)
        self.assertEqual(msgspec.structs.replace(found.admin, tls=None), default.admin)
        self.assertEqual(msgspec.structs.replace(found.intake.native, tls=None), default.intake.native)
        matrix = "[intake.matrix.app_ids.'com.example.app.ios']\napp = 'example'"
        on = read(f"[intake.apple]\n[intake.binary]\napp = 'example'\n[intake.pyapns]\n{matrix}").intake
        for name in ("apple", "binary", "pyapns", "matrix"):
            self.assertEqual(msgspec.structs.replace(getattr(found.intake, name), tls=None), getattr(on, name))
        self.assertEqual(found.limits_of(found.apps["example"].limits), Limits(rate=found.limits.rate))
        webhook = read("[webhook.a]\nurl = 'https://example.com/apns'\nsecret_file = 'webhook.secret'").webhook["a"]
        self.assertEqual(found.webhook["example"], webhook)
