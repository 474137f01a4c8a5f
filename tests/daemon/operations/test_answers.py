"""Tests for :mod:`txapns.daemon.operations.answers`; those of the admin endpoint ask for its pages."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from txapns.daemon.operations.answers import app_of, make_error

__all__ = ["AnswersTests"]


class AnswersTests(SynchronousTestCase):
    """How errors are written."""

    def test_no_request(self) -> None:
        """If the head of the request cannot be read, nobody knows what the caller reads: it is JSON."""
        answer = make_error(None, 400, "odd")
        self.assertEqual(
            (answer.status, answer.kind, json.loads(answer.body)), (400, b"application/json", {"error": "odd"})
        )
        self.assertIn(b"X-Frame-Options", dict(answer.headers))

    def test_app(self) -> None:
        """The path of a page says of which app it is, if it is one."""
        for path, app in (
            (b"/apps/chess", "chess"),
            (b"/apps/weather%2Ebeta", "weather.beta"),
            (b"/apps/", None),
            (b"/apps/a/b", None),
            (b"/apps/%3Cb%3E", None),
            (b"/", None),
        ):
            self.assertEqual(app_of(path), app)
