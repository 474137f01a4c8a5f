"""Tests for :mod:`txapns.daemon.errors`."""

from __future__ import annotations

import pickle
import re

from twisted.trial.unittest import SynchronousTestCase

from txapns.daemon import errors

__all__ = ["InWordsTests", "RequestRefusedTests", "TreeTests"]


def drawn_tree() -> dict[str, tuple[str, int | None]]:
    """Read the tree in the module's docstring: each exception's parent, and its status if it has one."""
    parents: dict[str, tuple[str, int | None]] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"    ((?:[│ ]   )*)(?:[├└]── )?([A-Z]\w+)(?: +(\d{3}):)?", line)
        if match:
            depth = len(match[1]) // 4 + ("── " in line)
            path[depth:] = [match[2]]
            parents[match[2]] = (path[depth - 1] if depth else "APNSError", int(match[3]) if match[3] else None)
    return parents


EXCEPTIONS = [name for name in errors.__all__ if isinstance(getattr(errors, name), type)]


class TreeTests(SynchronousTestCase):
    """The tree of exceptions is the one drawn at the top of the module."""

    def test_the_drawing_is_true(self) -> None:
        """The drawing names every exception under its own base class, with the status that callers see."""
        found = {}
        for name in EXCEPTIONS:
            error = getattr(errors, name)
            is_refusal = issubclass(error, errors.RequestRefused) and error is not errors.RequestRefused
            found[name] = (error.__bases__[0].__name__, error.status if is_refusal else None)
        self.assertEqual(drawn_tree(), found)

    def test_each_has_a_docstring_of_its_own(self) -> None:
        """Each exception has a docstring of its own, with what happened and what to do."""
        docstrings = [getattr(errors, name).__doc__ for name in EXCEPTIONS]
        self.assertNotIn(None, docstrings)
        self.assertEqual(len(set(docstrings)), len(docstrings))


class RequestRefusedTests(SynchronousTestCase):
    """Refused requests."""

    def test_message(self) -> None:
        """The message is shown without the delay, which is an attribute and survives pickling."""
        error = pickle.loads(pickle.dumps(errors.Unavailable("the disk is full", 5.0)))
        self.assertEqual((str(error), error.retry_after, error.status), ("the disk is full", 5.0, 503))
        self.assertIsNone(errors.Malformed("no token").retry_after)


class InWordsTests(SynchronousTestCase):
    """Errors as operators read them."""

    def test_ours(self) -> None:
        """The message of an error of ours is shown."""
        self.assertEqual(errors.in_words(errors.SecretError("no master key")), "no master key")

    def test_foreign(self) -> None:
        """Of any other error only the type is shown."""
        self.assertEqual(errors.in_words(RuntimeError("hunter2")), "RuntimeError; the daemon's log has more of it")
