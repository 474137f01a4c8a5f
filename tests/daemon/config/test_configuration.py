"""Tests for :mod:`txapns.daemon.config.configuration`."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.config.reading import COUNT, HERE, read
from txapns.daemon.config.configuration import Configuration
from txapns.daemon.errors import ConfigurationError
from txapns.daemon.values import Limits

__all__ = ["ConfigurationTests"]


class ConfigurationTests(SynchronousTestCase):
    """Reading a file."""

    def test_nothing_is_enough(self) -> None:
        """An empty file is a configuration: it listens for this machine only, and asks for keys."""
        found = read("")
        self.assertEqual(found.intake.native.listen, ("tcp:port=8080:interface=127.0.0.1",))
        self.assertTrue(found.intake.native.keys)
        self.assertEqual(
            (found.intake.apple, found.intake.binary, found.intake.pyapns, found.intake.matrix), (None,) * 4
        )
        self.assertEqual((found.apps, found.webhook), ({}, {}))

    def test_files(self) -> None:
        """File names are relative to the configuration's directory, including the defaults."""
        found = read("secrets.master_key_file = '/run/key'\n[apps.a]\ncertificate = 'a.pem'")
        self.assertEqual(found.apps["a"].certificate, HERE / "a.pem")
        self.assertEqual(found.database.path, HERE / "apns.db")
        self.assertEqual(found.secrets.master_key_file, Path("/run/key"))

    def test_from_file(self) -> None:
        """A file is read, and its name is in the messages."""
        path = Path(self.mktemp())
        path.write_text("limits.body = 7")
        found = Configuration.from_file(path)
        self.assertEqual((found.limits.body, found.database.path), (7, path.absolute().parent / "apns.db"))
        path.write_text("limits.body = 0")
        error = self.assertRaises(ConfigurationError, Configuration.from_file, path)
        self.assertEqual(str(error), f"{path.name}: limits.body: found 0; allowed is {COUNT}")
        for encoding in ("utf-8-sig", "utf-16"):
            path.write_text("limits.body = 7", encoding)
            self.assertEqual(Configuration.from_file(path).limits.body, 7)

    def test_unreadable(self) -> None:
        """A file that is missing, not text or not TOML is reported as such."""
        path = Path(self.mktemp())
        with self.assertRaisesRegex(ConfigurationError, "No such file"):
            Configuration.from_file(path)
        path.write_bytes(b"ab\xff")
        with self.assertRaisesRegex(ConfigurationError, "byte 3 is not UTF-8"):
            Configuration.from_file(path)
        path.write_text("[apps\n")
        with self.assertRaisesRegex(ConfigurationError, "this is not TOML: .*line 1"):
            Configuration.from_file(path)

    def test_limits(self) -> None:
        """An app's own limits override those of all apps."""
        found = read("limits.queue = 5\nretries.attempts = 6\n[apps.a]\ncertificate = 'a'\nlimits.in_flight = 7")
        self.assertEqual(found.limits_of(found.apps["a"].limits), Limits(queue=5, attempts=6, in_flight=7))
