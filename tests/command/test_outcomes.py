"""Tests for :mod:`txapns.command.outcomes`."""

from __future__ import annotations

import json
from contextlib import redirect_stdout
from io import StringIO

from twisted.trial.unittest import SynchronousTestCase

from txapns.command.outcomes import FEW, report
from txapns.errors import InvalidToken
from txapns.notification import Notification
from txapns.result import Outcomes, Rejection, Unsent

__all__ = ["ReportTests"]

NOTIFICATION = Notification(alert="Hi")


def dead(line: int) -> Rejection:
    """Make a rejection."""
    return Rejection(line, f"{line:064x}", 410, "Unregistered")


def invalid(line: int, text: str) -> Unsent:
    """Make an outcome of a token that was not sent."""
    return Unsent(line, "zz", InvalidToken(text), NOTIFICATION)


class ReportTests(SynchronousTestCase):
    """What ``txapns send`` tells of a batch, to a pipe."""

    def report(self, *outcomes: Rejection | Unsent, as_json: bool = False) -> list[str]:
        """Report a batch; returns the lines."""
        with redirect_stdout(StringIO()) as output:
            report(Outcomes(1, outcomes), 2.0, as_json)
        return output.getvalue().splitlines()

    def test_few(self) -> None:
        """Few tokens with the same cause have a line each, in the order of the file."""
        lines = self.report(*map(dead, range(FEW, 0, -1)))
        self.assertEqual([line.split(",")[0] for line in lines[:-1]], [f"line {n}" for n in range(1, FEW + 1)])
        self.assertEqual(lines[-1], f"1 accepted, {FEW} failed, 0 unsent, 0 uncertain in 2.0 s, 3/s")

    def test_many(self) -> None:
        """More share a line, at the place of the first; another cause has its own."""
        causes = [*map(dead, range(2, 2_000)), invalid(1, "of 2"), invalid(3, "of 3"), invalid(4_000, "of 3")]
        lines = [line.partition(". ")[0] for line in self.report(*causes)]
        self.assertEqual(
            lines[:-1],
            [
                "line 1, token …: unsent, InvalidToken",
                "lines 2, 3, 4 and 1,995 more: failed, Unregistered",
                "line 3, token …: unsent, InvalidToken",
                "line 4000, token …: unsent, InvalidToken",
            ],
        )

    def test_json(self) -> None:
        """JSON has a line for each, with the whole token."""
        *lines, summary = map(json.loads, self.report(*map(dead, range(1, 101)), as_json=True))
        self.assertEqual([line["token"] for line in lines], [f"{line:064x}" for line in range(1, 101)])
        self.assertEqual(
            summary, {"summary": {"accepted": 1, "failed": 100, "unsent": 0, "uncertain": 0, "seconds": 2.0}}
        )
