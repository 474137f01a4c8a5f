"""Tests for :mod:`txapns.daemon.operations.view`."""

from __future__ import annotations

import attrs
import msgspec
from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.admin_world import AdminWorld, Nodes, node_status
from tests.daemon.dispatch_world import DEAD, token
from txapns.daemon.errors import Unavailable
from txapns.daemon.operations.app_list import Query, digest_of
from txapns.daemon.operations.cells import Cell
from txapns.daemon.operations.health import Overview
from txapns.daemon.operations.view import TABLES, View, view_of
from txapns.daemon.sending.webhook import WebhookState

__all__ = ["NodesTests", "ViewTests"]

DAY = 86_400.0


class ViewTests(SynchronousTestCase):
    """What the page says."""

    def setUp(self) -> None:
        """There is a daemon with one app."""
        self.world = AdminWorld(delay=0.03)
        self.addCleanup(self.world.close)

    def view(self) -> View:
        """Return what the page says now."""
        self.world.advance(2.0)
        found = self.world.result(self.world.status.view())
        assert isinstance(found, View)
        return found

    def view_of(self, overview: Overview) -> View:
        """Return what the page says of a state of health."""
        digest = self.world.result(Deferred.fromCoroutine(digest_of(self.world.clock, overview.apps, overview.at)))
        return view_of(overview, digest, self.world.history, 0.0, Query())

    def cells(self, table: str) -> list[list[str]]:
        """Read a table."""
        return [[cell.text for cell in row] for row in self.view().tables[table]]

    def test_ready(self) -> None:
        """If nothing is wrong, the page says so."""
        view = self.view()
        self.assertEqual((view.state.text, view.state.kind, view.state.faults), ("Ready", "ok", ()))
        self.assertEqual([figure.text for figure in view.figures][:4], ["1", "0", "–", "0"])
        self.assertEqual((view.tables["failures"], view.tables["minutes"]), ([], []))

    def test_rows(self) -> None:
        """Each row of a table has as many cells as there are columns."""
        self.world.take([token(1), DEAD])
        for _ in range(70):
            self.world.advance(1.0)
        for name, rows in self.view().tables.items():
            self.assertEqual({len(row) for row in rows}, {len(TABLES[name][0])}, name)

    def test_work(self) -> None:
        """Notifications are counted by app and by minute; tokens of failures are shortened."""
        self.world.take([token(n) for n in range(8)] + [DEAD])
        for _ in range(70):
            self.world.advance(1.0)
        [row] = self.view().tables["apps"]
        gateway = self.world.simulator.gateway()
        self.assertEqual([cell.text for cell in row[:3]], ["chess", "Working", f"{gateway.host}:{gateway.port}"])
        self.assertEqual([cell.text for cell in row[4:]], ["0", "0", "0", "32 ms", "8", "1", "0"])
        notes = [self.world.simulator.topic, "", "", "certificate", "", "1 ready", "", "32 ms", "", "", ""]
        self.assertEqual([cell.note for cell in row], notes)
        self.assertEqual(self.cells("minutes")[-1][1:], ["9", "8", "1", "0"])
        [failure] = self.cells("failures")
        self.assertEqual(failure[1:], ["chess", "dddd…dddd", "rejected", "410 Unregistered"])
        self.assertEqual(sum(self.view().rates[1].points) * 10, 8)

    def test_failures(self) -> None:
        """The latest failures are read from the database: of all apps, newest first, while it can be read."""
        self.world.add_app("news")
        for app in ("chess", "news"):
            self.world.take([DEAD], app)
            self.world.drain(app=app)
            self.world.advance(2.0)
        found = self.view().tables["failures"]
        self.assertEqual([row[1] for row in found], [Cell(app, link=f"apps/{app}") for app in ("news", "chess")])
        self.patch(self.world.outcome_log, "failures", lambda app, limit: fail(Unavailable("the database is away")))
        self.assertEqual(self.view().tables["failures"], [])

    def test_not_ready(self) -> None:
        """The headline says why the daemon is not ready."""
        self.world.apps.remove("chess")
        self.world.health.stopping = True
        self.assertEqual(self.view().state.kind, "bad")
        self.assertEqual(self.view().state.faults, ("the daemon is shutting down", "there are no apps"))

    def test_not_all_well(self) -> None:
        """The headline also names an app or a webhook with a problem, although the daemon is ready."""
        self.world.problems["news"] = "there is no certificate"
        overview = self.world.result(self.world.health.overview())
        [hook] = overview.webhooks
        state = WebhookState("crm", 7, 0.0, "the receiver answered 500", gave_up=False)
        ill = attrs.evolve(overview, webhooks=(attrs.evolve(hook, state=state, failing=300.0),))
        view = self.view_of(ill)
        self.assertEqual(view.state.kind, "warn")
        self.assertEqual(view.state.faults, ("news: there is no certificate", "webhook crm: the receiver answered 500"))
        expected = [Cell("crm"), Cell("the receiver answered 500 (for 5 min)", "warn"), Cell("0"), Cell("7")]
        self.assertEqual(view.tables["webhooks"], [expected])
        gave_up = attrs.evolve(
            ill, webhooks=(attrs.evolve(hook, state=attrs.evolve(state, gave_up=True), backlog=None),)
        )
        row = self.view_of(gave_up).tables["webhooks"][0]
        self.assertEqual((row[1].kind, row[2].text), ("bad", "unknown"))
        self.assertIn("next start", row[1].text)

    def test_certificates(self) -> None:
        """The page says how soon a certificate expires, and marks it at 30, 7 and 1 days."""
        overview = self.world.result(self.world.health.overview())
        for days, text, kind in (
            (40.0, "in 40 days", ""),
            (30.0, "in 30 days", "notice"),
            (7.5, "in 7 days", "notice"),
            (6.5, "in 6 days", "warn"),
            (1.5, "in a day", "warn"),
            (0.9, "within a day", "bad"),
            (-3.0, "expired", "bad"),
        ):
            [app] = overview.apps
            found = attrs.evolve(overview, apps=(msgspec.structs.replace(app, expires=overview.at + days * DAY),))
            view = self.view_of(found)
            cell = view.tables["apps"][0][3]
            self.assertEqual((cell.text.split(", ")[1], cell.kind), (text, kind))
            self.assertRegex(cell.text, r"^20\d\d-\d\d-\d\d, ")
            self.assertEqual(view.figures[-1].text, text)
            said = text if text == "expired" else f"expires {text}"
            urgent = (f"chess: its certificate {said}; renew it",) if kind == "bad" else ()
            self.assertEqual((view.state.kind, view.state.faults), ("warn" if urgent else "ok", urgent))

    def test_keys(self) -> None:
        """A signing key does not expire."""
        self.world.add_app("chess", credential=self.world.simulator.provider_token())
        cell = self.view().tables["apps"][0][3]
        key = self.world.apps.get("chess").credential.key_id
        self.assertEqual((cell, self.view().figures[-1].text), (Cell(key, note="key"), "–"))


class NodesTests(SynchronousTestCase):
    """What the page says of the nodes that share a database."""

    def setUp(self) -> None:
        """There are two nodes."""
        self.world = AdminWorld(cluster=Nodes)
        self.addCleanup(self.world.close)
        self.nodes = self.world.store.cluster

    def view(self) -> View:
        """Return what the page says now."""
        self.world.advance(2.0)
        found = self.world.result(self.world.status.view())
        assert isinstance(found, View)
        return found

    def test_none(self) -> None:
        """A daemon whose database no other can use has no table of nodes, and its name is not told."""
        world = AdminWorld()
        self.addCleanup(world.close)
        view = world.result(world.status.view())
        self.assertEqual((view.name, "nodes" in view.tables), ("Push daemon", False))

    def test_rows(self) -> None:
        """The page says which node it is of, and what is known of all."""
        view = self.view()
        self.assertEqual((view.name, view.state.kind), ("Push daemon push-1", "ok"))
        own, other = view.tables["nodes"]
        self.assertEqual(len(own), len(TABLES["nodes"][0]))
        cells = [
            Cell("push-1 (this one)"),
            Cell("Alive", "ok"),
            Cell("0.1"),
            Cell("c0ffeec0"),
            Cell("2023-11-14 22:13"),
        ]
        self.assertEqual(own, [*cells, Cell("5"), Cell("2 s ago"), Cell("+0.0 s")])
        self.assertEqual(other[0], Cell("push-2"))

    def test_differences(self) -> None:
        """What differs from this node is marked, and told at the top."""
        other = node_status("push-2", digest="beef", version="0.2", clock_offset=-3.0)
        self.nodes.found = [node_status("push-1", own=True), other, node_status("push-3", alive=False, heartbeat=500.0)]
        view = self.view()
        rows = view.tables["nodes"]
        self.assertEqual({cell.kind for cell in rows[0]}, {"", "ok"})
        self.assertEqual([cell.kind for cell in rows[1]], ["", "ok", "notice", "warn", "", "", "", "warn"])
        self.assertEqual([rows[2][1].text, rows[2][6].text], ["Gone", "8 min ago"])
        self.assertEqual((view.state.kind, len(view.state.faults)), ("warn", 4))

    def test_not_a_member(self) -> None:
        """A node that does not send says so."""
        self.nodes.trouble = "the database is away"
        view = self.view()
        self.assertEqual(view.tables["nodes"][0][1], Cell("Does not send", "bad"))
        self.assertEqual(view.state.kind, "bad")

    def test_unknown(self) -> None:
        """If the database cannot be read, the nodes are unknown."""
        self.nodes.found = None
        view = self.view()
        self.assertEqual((view.name, view.tables["nodes"]), ("Push daemon push-1", []))
