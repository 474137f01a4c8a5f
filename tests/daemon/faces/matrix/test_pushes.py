"""Tests for :mod:`txapns.daemon.faces.matrix.pushes`."""

from __future__ import annotations

import json

from twisted.logger import capturedLogs, formatEvent

from tests.daemon.faces.matrix.matrix_case import MatrixCase, device
from txapns.daemon.faces.matrix.requests import read
from txapns.daemon.values import ANYBODY, Outcome, State

__all__ = ["LogTests", "OutcomeTests"]


class LogTests(MatrixCase):
    """What is logged."""

    def test_unknown(self) -> None:
        """Each unknown app id once, shortened, and no more than a hundred: anybody can invent them."""
        with capturedLogs() as events:
            for start in (0, 0, 80):
                self.rejected(*[device(app_id=f"{number}\n{'x' * 200}") for number in range(start, start + 80)])
        lines = [formatEvent(event) for event in events]
        self.assertEqual((len(lines), len(set(lines))), (100, 100))
        self.assertEqual({(each["face"], len(each["app_id"])) for each in events}, {("intake.matrix", 100)})
        self.assertNotIn(device()["pushkey"], "".join(lines))


class OutcomeTests(MatrixCase):
    """Which outcomes mean that a pushkey is of no use."""

    def test_states(self) -> None:
        """Only that Apple rejected it for good, for a reason that is the token's."""
        request = read(json.dumps({"notification": {"event_id": "$1", "devices": [device()]}}).encode())
        push = self.face._pushes.make(request.event, request.devices[0], ANYBODY)
        assert push is not None
        found = {
            state
            for state in State
            if push.is_useless(Outcome(1, "", "chess", state, 410, "Unregistered", None, 1, 0.0, 0.0))
        }
        self.assertEqual(found, {State.REJECTED})
