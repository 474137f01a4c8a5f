"""Tests for :mod:`txapns.daemon.faces.native.outcomes`."""

from __future__ import annotations

from tests.daemon.faces.native.native_case import ANN, BOB, NativeCase, submission
from txapns.daemon.values import Settlement, State

__all__ = ["OutcomesTests"]

PATH = "/v1/apps/chess/outcomes"


class OutcomesTests(NativeCase):
    """``GET /v1/apps/<app>/outcomes``."""

    def live(self) -> list[str]:
        """Let one notification be accepted and one rejected, since its token is dead; returns their ids."""
        [accepted] = self.post(submission(ANN, BOB)).json["notifications"]
        first, second = self.lease()
        settlements = [
            Settlement(first.number, State.ACCEPTED, 200, unique_id="E77A"),
            Settlement(second.number, State.REJECTED, 410, "Unregistered", 5.0),
        ]
        self.result(self.world.queue.settle(settlements))
        return list(accepted["ids"])

    def test_pages(self) -> None:
        """Outcomes are read on by cursor, with their tokens, as they are asked for by id."""
        ids = self.live()
        first = self.get(f"{PATH}?limit=1").json
        self.assertEqual(first["cursor"], 1)
        second = self.get(f"{PATH}?after={first['cursor']}").json
        found = [*first["outcomes"], *second["outcomes"]]
        expected = [
            {**self.get(f"/v1/notifications/{apns_id}").json, "token": token, "cursor": n + 1}
            for n, (apns_id, token) in enumerate(zip(ids, (ANN, BOB), strict=True))
        ]
        self.assertEqual(found, expected)
        self.assertEqual([each.get("unique_id") for each in found], ["E77A", None])
        self.assertEqual(self.get(f"{PATH}?after=2&limit=10000").json, {"outcomes": [], "cursor": 2})

    def test_malformed(self) -> None:
        """A page that is none is refused."""
        for query in ("after=-1", "limit=0", "limit=10001", "before=1"):
            self.assertEqual(self.get(f"{PATH}?{query}").status, 400, query)

    def test_not_allowed(self) -> None:
        """The key must allow reading."""
        self.assertEqual([self.get(PATH, key=key).status for key in ("sender", "reader")], [403, 403])

    def test_not_recorded(self) -> None:
        """An app whose outcomes are not recorded is told from one that there is not."""
        refused = self.get("/v1/apps/news/outcomes")
        self.assertEqual((refused.status, refused.json["error"]["code"]), (409, "not_recorded"))
        self.assertIn("outcomes = true", refused.json["error"]["message"])
        self.assertEqual(self.get("/v1/apps/gone/outcomes").status, 404)
