"""Tests that the protocols as values need neither Twisted nor TLS."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from txapns import errors

PACKAGE = Path(errors.__file__).parent

# The package's own __init__ offers the client and so imports Twisted; a bare module of the same name stands for it.
PREPARE = """
import sys, types

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"twisted", "zope", "OpenSSL"}:
            raise ModuleNotFoundError(f"{name} is blocked here", name=name)

sys.meta_path.insert(0, Blocked())
package = types.ModuleType("txapns")
package.__path__ = [sys.argv[1]]
sys.modules["txapns"] = package
"""

IMPORT = """
import importlib
for name in sys.argv[2:]:
    importlib.import_module(name)
"""

IMPORT_TWISTED = """
import twisted.internet
"""

ROUND_TRIP = """
from txapns.wire.feedback import FeedbackParser, encode
from txapns.wire.frames import ErrorParser, NotificationParser, encode_error, encode_framed
from txapns.wire.unconfirmed import Unconfirmed

window = Unconfirmed()
written = b"".join(encode_framed(window.push(token), token, b"{}", 0, 10) for token in (b"a", b"b", b"c"))
received = NotificationParser().receive(written)
packet = ErrorParser().receive(encode_error(8, received[1].identifier))
response = window.apply(packet.status, packet.identifier)
gone = FeedbackParser().receive(encode(1700000000, response.rejected))
print(response.accepted, gone[0].token, response.resend)
"""


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a fresh interpreter in which Twisted, zope and OpenSSL cannot be imported."""
    command = [sys.executable, "-c", PREPARE + program, str(PACKAGE), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def pure_modules() -> list[str]:
    """List the modules that must be pure: all of ``wire``, and the values that it and its users share."""
    values = ["errors", "reasons", "payload", "notification", "result"]
    names = [f"txapns.{name}" for name in values if (PACKAGE / f"{name}.py").exists()]
    paths = [path.relative_to(PACKAGE.parent).with_suffix("") for path in sorted(PACKAGE.glob("wire/**/[!_]*.py"))]
    return names + [".".join(path.parts) for path in paths]


class PurityTests(SynchronousTestCase):
    """Each test runs in a separate interpreter."""

    def test_imports(self) -> None:
        """Every pure module can be imported alone where Twisted cannot."""
        for name in pure_modules():
            self.assertEqual(run(IMPORT, name).stderr, "", name)

    def test_round_trip(self) -> None:
        """A whole exchange, from notification to response, works through the parsers of both sides."""
        finished = run(ROUND_TRIP)
        self.assertEqual((finished.stdout, finished.stderr), ("[b'a'] b'b' [b'c']\n", ""))

    def test_block(self) -> None:
        """Twisted really cannot be imported there, so that the other tests mean something."""
        self.assertIn("twisted is blocked here", run(IMPORT_TWISTED).stderr)
