"""Tests for :mod:`txapns.errors`."""

from __future__ import annotations

import pickle
import re

from twisted.trial.unittest import SynchronousTestCase

from txapns import errors


def drawn_tree() -> dict[str, str]:
    """Read the tree in the module's docstring: each exception's name, with its parent's."""
    parents: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"    ((?:[│ ]   )*)(?:[├└]── )?([A-Z]\w+)", line)
        if match:
            depth = len(match[1]) // 4 + ("── " in line)
            path[depth:] = [match[2]]
            parents[match[2]] = path[depth - 1] if depth else "Exception"
    return parents


def defined() -> dict[str, type[BaseException]]:
    """Find every exception the module defines, public or not."""
    return {
        name: value
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, BaseException)
    }


class TreeTests(SynchronousTestCase):
    """The tree of exceptions is the one drawn at the top of the module."""

    def test_the_drawing_is_true(self) -> None:
        """The drawing names every exception under its base class, and no others."""
        self.assertEqual(drawn_tree(), {name: value.__bases__[0].__name__ for name, value in defined().items()})

    def test_local_values_are_value_errors(self) -> None:
        """An invalid argument can also be caught as a ValueError."""
        by_argument = {name for name, value in defined().items() if issubclass(value, ValueError)}
        local = {name for name, value in defined().items() if issubclass(value, errors.LocalError)}
        others = {"LocalError", "ClientClosed", "ClientElsewhere", "QueueFull", "DeadlinePassed", "TokensFailed"}
        self.assertEqual(local - by_argument, others)
        self.assertEqual(by_argument - local, set())

    def test_each_has_a_docstring_of_its_own(self) -> None:
        """Each exception has its own docstring that says what happened and what to do."""
        docstrings = [value.__doc__ for value in defined().values()]
        self.assertNotIn(None, docstrings)
        self.assertEqual(len(set(docstrings)), len(docstrings))

    def test_all_is_exact(self) -> None:
        """The public names are the exceptions and the function that shortens tokens."""
        self.assertEqual(sorted(errors.__all__), sorted([*defined(), "redact"]))
        self.assertEqual(len(set(errors.__all__)), len(errors.__all__))

    def test_each_survives_pickling(self) -> None:
        """Exceptions cross process boundaries with their message."""
        messages = {name: str(pickle.loads(pickle.dumps(value("why")))) for name, value in defined().items()}
        self.assertEqual(messages, dict.fromkeys(defined(), "why"))


class CredentialRefusedTests(SynchronousTestCase):
    """An exception with a field."""

    def test_reason(self) -> None:
        """The gateway's reason is a field; str() shows the message alone."""
        error = errors.CredentialRefused("the gateway rejected our certificate", "BadCertificate")
        self.assertEqual((error.reason, str(error)), ("BadCertificate", "the gateway rejected our certificate"))

    def test_pickle(self) -> None:
        """The reason survives pickling."""
        error = pickle.loads(pickle.dumps(errors.CredentialRefused("refused", "InvalidProviderToken")))
        self.assertEqual(error.reason, "InvalidProviderToken")


class RequestRejectedTests(SynchronousTestCase):
    """Another exception with fields."""

    def test_fields(self) -> None:
        """Status, reason and identifier are fields and survive pickling; str() shows the message alone."""
        error = errors.RequestRejected("no such channel", 400, "ChannelNotRegistered", "8a6f", 7.0)
        for each in (error, pickle.loads(pickle.dumps(error))):
            self.assertEqual((each.status, each.reason), (400, "ChannelNotRegistered"))
            self.assertEqual((each.request_id, each.retry_after), ("8a6f", 7.0))
            self.assertEqual(str(each), "no such channel")


class RedactTests(SynchronousTestCase):
    """Device tokens are shortened before they are shown."""

    def test_long(self) -> None:
        """Four digits at either end tell a token from others; text and bytes are shown alike."""
        token = bytes.fromhex("00112233445566778899aabbccddeeff")
        self.assertEqual([errors.redact(token), errors.redact(token.hex())], ["0011…eeff"] * 2)

    def test_short(self) -> None:
        """Nothing of a short token is shown, since its ends would be most of it."""
        self.assertEqual([errors.redact(b""), errors.redact(b"\x00" * 8), errors.redact("0" * 16)], ["…"] * 3)
