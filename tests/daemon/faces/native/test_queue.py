"""Tests for :mod:`txapns.daemon.faces.native.queue`."""

from __future__ import annotations

import json

from twisted.logger import capturedLogs, formatEvent

from tests.daemon.faces.native.native_case import ANN, BOB, NativeCase
from tests.daemon.fakes import Keys, Response
from txapns.daemon.faces.native.face import Native
from txapns.daemon.values import Caller, Settlement, State

__all__ = ["QueueTests"]

PATH = "/v1/apps/chess/queue"


class QueueTests(NativeCase):
    """``/v1/apps/<app>/queue``."""

    keys = Keys(Caller("all", None, None), Caller("operator", manage=True))

    def setUp(self) -> None:
        """Record the apps that are woken."""
        super().setUp()
        self.woken: list[str] = []
        self.server.application = Native(
            self.intake,
            self.world.outcome_log,
            self.world.log,
            self.world.feed,
            self.apps,
            self.keys,
            wake=self.woken.append,
        )

    def give_up(self, *tokens: str, app: str = "chess") -> list[str]:
        """Accept notifications, and give them up; returns their ids."""
        body = json.dumps({"notifications": [{"tokens": tokens, "payload": {}}]}).encode()
        [accepted] = self.post(body, f"/v1/apps/{app}/notifications").json["notifications"]
        given_up = [Settlement(each.number, State.DEAD, 503, "ServiceUnavailable") for each in self.lease(app)]
        self.result(self.world.queue.settle(given_up))
        return list(accepted["ids"])

    def ask(self, path: str, body: object | None = None) -> Response:
        """Send a request as an operator."""
        if body is None:
            return self.get(f"{PATH}{path}", key="operator")
        return self.post(json.dumps(body).encode(), f"{PATH}{path}", key="operator")

    def test_listed(self) -> None:
        """Dead letters are listed in pages, with the reason, and with a shortened token."""
        ids = self.give_up(ANN, BOB)
        self.give_up(ANN, app="news")
        first = self.ask("?limit=1").json
        [found] = first["notifications"]
        self.assertEqual((found["id"], found["token"], found["state"]), (ids[0], "aaaa…aaaa", "dead"))
        self.assertEqual((found["attempts"], found["status"], found["reason"]), (1, 503, "ServiceUnavailable"))
        self.assertLessEqual(found["accepted_at"], found["settled_at"])
        second = self.ask(f"?after={first['cursor']}")
        self.assertEqual([each["id"] for each in second.json["notifications"]], ids[1:])
        self.assertNotIn(BOB.encode(), second.body)
        cursor = second.json["cursor"]
        self.assertEqual(self.ask(f"?after={cursor}").json, {"notifications": [], "cursor": cursor})

    def test_states(self) -> None:
        """Other states can be listed, too."""
        self.give_up(ANN)
        [waiting] = self.post().json["notifications"][0]["ids"]
        [found] = self.ask("?state=waiting").json["notifications"]
        self.assertEqual((found["id"], found["attempts"], "reason" in found), (waiting, 0, False))
        self.assertEqual(self.ask("?state=rejected").json["notifications"], [])
        for unfit in ("accepted", "", "DEAD"):
            response = self.ask(f"?state={unfit}")
            self.assertEqual((response.status, response.json["error"]["path"]), (400, "state"))

    def test_retried(self) -> None:
        """Dead letters become due again, the oldest first, and the dispatcher is woken."""
        ids = self.give_up(ANN, BOB)
        with capturedLogs() as events:
            self.assertEqual(self.ask("/retry", {"limit": 1}).json, {"count": 1})
        self.assertEqual([(event["app"], event["count"]) for event in events], [("chess", 1)])
        self.assertIn("operator", formatEvent(events[0]))
        self.assertEqual(([each.apns_id for each in self.lease()], self.woken), (ids[:1], ["chess"]))
        self.assertEqual(self.ask("/retry", {}).json, {"count": 1})
        self.assertEqual(self.ask("/retry", {}).json, {"count": 0})

    def test_purged(self) -> None:
        """Notifications are deleted, except those under way."""
        self.give_up(ANN, BOB)
        self.post()
        self.lease()
        self.post()
        with capturedLogs() as events:
            self.assertEqual(self.ask("/purge", {"state": "dead", "limit": 1}).json, {"count": 1})
        self.assertRegex(formatEvent(events[0]), "operator purged 1 notifications of chess: dead")
        self.assertEqual(self.ask("/purge", {"state": "dead"}).json, {"count": 1})
        self.assertEqual(self.ask("/purge", {"state": "waiting"}).json, {"count": 1})
        self.assertEqual((self.world.queue.waiting("chess").count, self.woken), (1, []))

    def test_unfit(self) -> None:
        """A misspelt request changes nothing."""
        self.give_up(ANN)
        for path, body in (
            ("/purge", {}),
            ("/purge", {"state": "accepted"}),
            ("/purge", {"state": "dead", "limit": 0}),
            ("/purge", {"state": "dead", "limit": 1.5}),
            ("/retry", {"limits": 1}),
            ("/retry", {"limit": 10_001}),
            ("/retry", []),
            ("/retry?limit=1", {}),
        ):
            response = self.ask(path, body)
            self.assertEqual((response.status, response.code), (400, "malformed"), (path, body))
        for path in ("/retry", "/purge"):
            response = self.post(
                b'{"state":"dead"}', PATH + path, key="operator", headers={"Content-Type": "text/plain"}
            )
            self.assertEqual(response.status, 415)
        self.assertEqual(len(self.ask("").json["notifications"]), 1)

    def test_not_allowed(self) -> None:
        """A key without ``manage`` is refused; one with it needs no other permission."""
        for method, path in (("GET", PATH), ("POST", f"{PATH}/retry"), ("POST", f"{PATH}/purge")):
            response = self.connection.request(method, path, b"{}" if method == "POST" else None, "all")
            self.assertEqual((response.status, response.code), (403, "not_allowed"))

    def test_apps(self) -> None:
        """An app that was removed still has a queue; a name that no app ever had is unknown."""
        self.give_up(ANN)
        self.apps.remove("chess")
        self.assertEqual(self.ask("/retry", {}).json, {"count": 1})
        response = self.get("/v1/apps/chest/queue", key="operator")
        self.assertEqual((response.status, response.code), (404, "unknown_app"))
        self.assertEqual(self.get("/v1/apps/news/queue", key="operator").status, 200)

    def test_nothing_asked_for(self) -> None:
        """Where no keys are required, everything is allowed."""
        self.server.application = Native(
            self.intake, self.world.outcome_log, self.world.log, self.world.feed, self.apps, None
        )
        self.assertEqual(self.get(PATH, key=None).status, 200)
