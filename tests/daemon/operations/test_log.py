"""Tests for :mod:`txapns.daemon.operations.log`."""

from __future__ import annotations

import io
import json
from typing import Any

from twisted.logger import ILogObserver, Logger, LogLevel, LogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from txapns.daemon.operations.log import FIELDS, observer, scrub
from txapns.simulator import Authority

__all__ = ["LogTests", "ScrubTests"]

TOKEN = "0123456789abcdef" * 4
KEY = "txapns_3f9a01c7_" + "6d" * 32
JWT = "eyJhbGciOiJFUzI1NiIsImtpZCI6IkFCQyJ9.eyJpc3MiOiJERUYifQ.c2lnbmF0dXJl"
MASTER = "Zm9vYmFyYmF6Zm9vYmFyYmF6Zm9vYmFyYmF6Zm9vYmE="


class Terminal(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        """It is a terminal."""
        return True


class LogTests(SynchronousTestCase):
    """What the log contains."""

    def begin(self, stream: io.StringIO, **options: Any) -> Logger:
        """Log to a stream."""
        publisher = LogPublisher()
        publisher.addObserver(observer(stream, **options))
        return Logger("txapns.daemon.sending.breaker", observer=publisher)

    def lines(self, stream: io.StringIO) -> list[dict[str, Any]]:
        """Read JSON lines."""
        return [json.loads(line) for line in stream.getvalue().splitlines()]

    def test_interface(self) -> None:
        """It is a log observer."""
        verifyObject(ILogObserver, observer(io.StringIO()))

    def test_json(self) -> None:
        """Without a terminal an event is a line of JSON with the known fields and no others."""
        stream = io.StringIO()
        log = self.begin(stream)
        log.error("{app} is tripped: {reason}", app="chess", reason="the key\nis gone", secret="hush", count=3)
        [line] = self.lines(stream)
        self.assertRegex(line.pop("time"), r"^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        expected = {
            "level": "error",
            "namespace": "txapns.daemon.sending.breaker",
            "message": "chess is tripped: the key\nis gone",
            "app": "chess",
            "reason": "the key\nis gone",
            "count": 3,
        }
        self.assertEqual(line, expected)

    def test_values(self) -> None:
        """A field that is neither a number nor text is only in the message."""
        stream = io.StringIO()
        self.begin(stream).info("{name} {status} {left}", name=["a"], status=2.5, left=True)
        [line] = self.lines(stream)
        self.assertEqual((line.get("name"), line["status"], line["left"]), (None, 2.5, True))
        self.assertIn("['a']", line["message"])
        self.assertEqual(list(FIELDS), sorted(FIELDS))

    def test_failure(self) -> None:
        """A failure is one line with its traceback, without secrets."""
        stream = io.StringIO()
        try:
            raise ValueError(f"no such key: {KEY}")
        except ValueError:
            self.begin(stream).failure("It broke for {token}", Failure(), token=TOKEN)
        [line] = self.lines(stream)
        self.assertEqual((line["level"], line["message"]), ("critical", "It broke for 0123…cdef"))
        self.assertIn("ValueError", line["exception"])
        self.assertNotIn("6d6d", line["exception"])

    def test_unformattable(self) -> None:
        """An event that cannot be formatted is logged nevertheless."""
        stream = io.StringIO()
        self.begin(stream).info("{nothing}")
        self.assertEqual(len(self.lines(stream)), 1)

    def test_print(self) -> None:
        """Of what other packages say, warnings and errors are logged, also those of the legacy logging system."""
        stream = io.StringIO()
        log = observer(stream)
        legacy = {"log_format": "{text}", "log_time": 0.0, "log_namespace": "log_legacy"}
        log({**legacy, "text": "Hello", "log_level": LogLevel.info})
        log({**legacy, "text": "Oh", "log_level": LogLevel.critical})
        [line] = self.lines(stream)
        self.assertEqual((line["message"], line["level"], line["time"]), ("Oh", "critical", "1970-01-01T00:00:00.000Z"))

    def test_level(self) -> None:
        """The level decides what is logged of this package, and of others if it is higher."""
        for level, expected in (("debug", "diwe"), ("info", "iwe"), ("warn", "we"), ("error", "e")):
            stream = io.StringIO()
            log = observer(stream, level=level)
            for each in (LogLevel.debug, LogLevel.info, LogLevel.warn, LogLevel.error):
                for namespace, text in (("txapns.daemon", each.name[0]), ("twisted.web", each.name[0].upper())):
                    log({"log_format": text, "log_time": 0.0, "log_level": each, "log_namespace": namespace})
            found = "".join(line["message"] for line in self.lines(stream))
            self.assertEqual("".join(filter(str.islower, found)), expected)
            self.assertEqual("".join(filter(str.isupper, found)), "E" if level == "error" else "WE")

    def test_style(self) -> None:
        """The style may be chosen."""
        for stream, style, first in ((io.StringIO(), "text", "2"), (Terminal(), "json", "{")):
            self.begin(stream, style=style).warn("Hello")
            self.assertEqual(stream.getvalue()[0], first)

    def test_text(self) -> None:
        """On a terminal an event is text."""
        stream = Terminal()
        self.begin(stream).warn("{app} waits for {token}", app="chess", token=TOKEN)
        self.assertRegex(
            stream.getvalue(),
            r"^20\S+ \d\d:\d\d:\d\dZ \[txapns\.daemon\.sending\.breaker#warn\] chess waits for 0123…cdef\n$",
        )


class ScrubTests(SynchronousTestCase):
    """Secrets in the log."""

    def test_secrets(self) -> None:
        """Whatever looks like a secret is removed, and device tokens are shortened."""
        pem = Authority().client_pem().decode()
        for secret, found in (
            (KEY, "txapns_3f9a01c7_…"),
            (JWT, "…"),
            (MASTER, "…"),
            (f"authorization: bearer {JWT}", "authorization: bearer …"),
            ("Basic YW55OnR4YXBuc19rZXk=", "Basic …"),
            ("http://any:password@host:7077/", "http://…@host:7077/"),
            (TOKEN.upper(), "0123…CDEF"),
            ("ab" * 80, "abab…abab"),
        ):
            self.assertEqual(scrub(f"it is {secret}!"), f"it is {found}!")
        scrubbed = scrub(pem)
        self.assertNotIn("PRIVATE", scrubbed)
        self.assertIn("BEGIN CERTIFICATE", scrubbed)
        self.assertNotIn("PRIVATE", scrub(pem[: pem.rindex("-----END")]))

    def test_others(self) -> None:
        """Other text is left as it is."""
        for text in (
            "chess is tripped: The certificate is for the other environment.",
            "018bcfe5-6800-7000-8a3c-5d6e7f809112 was accepted",
            "/var/lib/txapns/apns.db can be used again",
            "http2:host=api.push.apple.com:port=443",
            "the basic idea",
            "basic configuration",
        ):
            self.assertEqual(scrub(text), text)
