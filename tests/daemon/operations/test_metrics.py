"""Tests for :mod:`txapns.daemon.operations.metrics`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache, partial
from typing import Any

import attrs
import msgspec
from docutils import nodes
from docutils.core import publish_doctree
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests import PROJECT
from tests.daemon.admin_world import AdminWorld, Nodes, node_status
from tests.daemon.dispatch_world import DEAD, token
from tests.daemon.fakes import Connection, Keys
from txapns._serving.http import HTTPServer
from txapns.daemon.errors import AppQueueFull, UnknownApp
from txapns.daemon.faces.native.face import Native
from txapns.daemon.interfaces import IIntake
from txapns.daemon.operations.health import AppOverview, Overview, SideOverview
from txapns.daemon.operations.metrics import MOST_APPS, OTHER_APPS, DaemonMetrics
from txapns.daemon.sending.context import AppState
from txapns.daemon.values import Caller, Content, Leased, Limits, Settlement, State
from txapns.simulator import Response

__all__ = ["CostTests", "DaemonMetricsTests", "DocumentationTests", "FaceTests", "ManyAppsTests"]

PAGE = PROJECT / "docs/daemon-operations.rst"
BODY = b'{"notifications": [{"tokens": ["aa11", "bb22"], "payload": {}}]}'


def found(text: bytes) -> dict[tuple[str, ...], float]:
    """Parse Prometheus' format: the value for each name with its label values, in the order of the labels' names."""
    return {
        (
            sample.name.removeprefix("apns_daemon_"),
            *(value for _, value in sorted(sample.labels.items())),
        ): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


class DaemonMetricsTests(SynchronousTestCase):
    """The metrics of a working daemon."""

    def setUp(self) -> None:
        """There is a daemon."""
        self.world = AdminWorld(delay=0.03)
        self.addCleanup(self.world.close)

    def look(self) -> dict[tuple[str, ...], float]:
        """Read the metrics."""
        self.world.advance(2.0)
        return found(self.world.scrape())

    def test_outcomes(self) -> None:
        """Each notification is counted by its outcome, with the time since it was accepted."""
        responses = [Response(429, "TooManyRequests"), Response(418, "Teapot" * 9)]
        self.world.simulator.http2_fault = lambda server, request, response: responses.pop(0) if responses else response
        self.world.take([token(n) for n in range(10)] + [DEAD])
        self.world.drain()
        values = self.look()
        self.assertEqual(values["received_total", "chess", "native"], 11)
        self.assertEqual(values["outcomes_total", "chess", "", "accepted"], 9)
        self.assertEqual(values["outcomes_total", "chess", "Unregistered", "rejected"], 1)
        self.assertEqual(values["outcomes_total", "chess", "other", "rejected"], 1)
        self.assertEqual(values["retries_total", "chess", "TooManyRequests"], 1)
        self.assertEqual(values["answer_seconds_count", "chess"], 11)
        self.assertEqual(values["answer_seconds_bucket", "chess", "0.02"], 0)
        self.assertEqual(values["answer_seconds_bucket", "chess", "0.5"], 10)
        totals = self.world.metrics.totals
        self.assertEqual((totals.received, totals.accepted, totals.failed, totals.retried), (11, 9, 2, 1))
        self.assertEqual(values["apns_notifications_sent_total", "chess"], 12)

    def test_nodes(self) -> None:
        """What is the same on all nodes is exported where that is asked for; the rest always."""
        world = AdminWorld(cluster=Nodes)
        self.addCleanup(world.close)
        own, gone = node_status("push-1", own=True, clock_offset=0.25), node_status("push-3", alive=False)
        world.store.cluster.found = [own, node_status("push-2"), gone]
        all_of_it, own_part = (found(world.scrape(shared=shared)) for shared in (True, False))
        self.assertEqual([all_of_it["nodes", state] for state in ("alive", "gone")], [2, 1])
        self.assertEqual(own_part["clock_offset_seconds",], 0.25)
        names = {name for name, *_ in all_of_it.keys() - own_part.keys()}
        self.assertEqual(names, {"queue", "dead_letters", "database_bytes", "nodes", "webhook_backlog"})
        self.assertIn(("in_flight", "chess"), own_part)
        self.assertNotIn(("clock_offset_seconds",), self.look())

    def test_sides(self) -> None:
        """An app with two sides has gauges for each; others have none."""
        self.assertNotIn("side_stopped", {name[0] for name in self.look()})
        _, side = self.world.add_sandbox()
        self.world.add_app("chess", sandbox=side)
        values = self.look()
        found = {name: value for name, value in values.items() if name[0].startswith("side_")}
        expires = values["certificate_expiry_timestamp_seconds", "chess"]
        for environment in ("production", "sandbox"):
            self.assertEqual(found.pop(("side_stopped", "chess", environment)), 0)
            self.assertEqual(found.pop(("side_certificate_expiry_timestamp_seconds", "chess", environment)), expires)
        self.assertEqual(found, {})

    def test_unanswered(self) -> None:
        """A notification that expired unsent has no answer time."""
        self.world.accept(expiration="5")
        self.world.drain()
        values = self.look()
        self.assertEqual(values["outcomes_total", "chess", "", "expired"], 1)
        self.assertEqual(values["answer_seconds_count", "chess"], 0)

    def test_states(self) -> None:
        """Gauges show the current state."""
        self.world.simulator.http2_fault = lambda server, request, response: Response(403, "BadCertificateEnvironment")
        self.world.take([token(1), token(2)])
        self.world.advance(5.0)
        values = self.look()
        self.assertEqual((values["queue", "chess"], values["in_flight", "chess"]), (2, 0))
        self.assertEqual([value for name, value in values.items() if name[:2] == ("connections", "chess")], [1])
        self.assertEqual([name[2] for name in values if name[0] == "app_condition"], ["tripped"])
        conditions = [values["apps", name] for name in ("working", "open", "tripped", "unusable")]
        self.assertEqual(conditions, [0, 0, 1, 0])
        expires = self.world.apps.get("chess").credential.expires.timestamp()  # type: ignore[union-attr]
        self.assertEqual(values["certificate_expiry_timestamp_seconds", "chess"], expires)
        self.assertEqual((values["database_trouble",], values["ready",]), (0, 0))
        self.world.simulator.http2_fault = None
        self.world.advance(60.0)
        self.assertEqual(self.look()["ready",], 1)

    def test_oldest(self) -> None:
        """The age of the queue is that of its oldest notification; an empty queue has none."""
        self.assertNotIn(("queue_oldest_seconds", "chess"), self.look())
        self.world.simulator.http2_fault = lambda server, request, response: None
        self.world.take([token(1)])
        self.world.advance(8.0)
        self.assertApproximates(self.look()["queue_oldest_seconds", "chess"], 10, 0.5)

    def test_webhook(self) -> None:
        """Webhooks have gauges, too."""
        values = self.look()
        self.assertEqual((values["webhook_backlog", "crm"], values["webhook_failing_seconds", "crm"]), (0, 0))
        self.world.take([DEAD])
        self.world.drain()
        self.world.webhook.start()
        self.world.advance(60.0)
        values = self.look()
        self.assertEqual(values["webhook_backlog", "crm"], 1)
        self.assertTrue(40 < values["webhook_failing_seconds", "crm"] < 62)

    def test_process(self) -> None:
        """The process and the version are included."""
        values = self.look()
        self.assertIn(("process_resident_memory_bytes",), values)
        self.assertTrue([name for name in values if name[0] == "apns_daemon_info" or name[0] == "info"])

    def test_secrets(self) -> None:
        """There are no tokens or addresses in it, and all reasons that a peer makes up count as one."""
        reasons = iter(range(1000))
        self.world.simulator.http2_fault = lambda server, request, response: Response(418, f"Made{next(reasons)}")
        self.world.take([token(n << 200) for n in range(50)])
        self.world.drain()
        self.world.advance(2.0)
        text = self.world.scrape().decode()
        self.assertNotIn("Made", text)
        self.assertNotIn("hush", text)
        self.assertIsNone(re.search("[0-9a-f]{32}", text))
        self.assertEqual(found(text.encode())["outcomes_total", "chess", "other", "rejected"], 50)


class ManyAppsTests(SynchronousTestCase):
    """Ten thousand apps."""

    def test_bounded(self) -> None:
        """A bounded number have labels of their own, those first that need attention; sums over all are right."""
        clock = Clock()
        metrics = DaemonMetrics(clock)
        for number in range(10_000):
            metrics.received("native", f"app{number}", 2)
        for number in range(100):
            metrics.client(f"more{number}").sent(3)
        text = self.rendered(clock, metrics)
        self.assertLess(len(text), 2_000_000)
        values = found(text)
        self.assertEqual(len({name[1] for name in values if name[0] == "received_total"}), MOST_APPS + 1)
        self.assertEqual(sum(value for name, value in values.items() if name[0] == "received_total"), 20_000)
        self.assertEqual(values["apns_notifications_sent_total", OTHER_APPS], 300)
        self.assertEqual(sum(value for name, value in values.items() if name[0] == "queue"), 10_000)
        self.assertEqual(values["queue_oldest_seconds", OTHER_APPS], 9_999)
        self.assertEqual(values["apps", "tripped"], 5)
        self.assertEqual(values["app_condition", OTHER_APPS, "working"], 10_000 - MOST_APPS - 5)
        self.assertEqual(values["app_condition", OTHER_APPS, "tripped"], 5)
        self.assertNotIn(b"_created", text)

    def test_sides(self) -> None:
        """Of those without a label the sides on which nothing gets through are counted, and the first date counts."""
        clock = Clock()
        metrics = DaemonMetrics(clock)
        for number in range(MOST_APPS):
            metrics.received("native", f"app{number}", 2)
        overview = overview_of(MOST_APPS + 3)
        sides = [
            (SideOverview("production", False, None, ""), SideOverview("sandbox", number > 0, 1e9 + number, ""))
            for number in range(3)
        ]
        last = [
            msgspec.structs.replace(app, condition="partial", sides=each)
            for app, each in zip(overview.apps[-3:], sides, strict=True)
        ]
        values = found(self.rendered(clock, metrics, attrs.evolve(overview, apps=(*overview.apps[:-3], *last))))
        expected = {
            ("app_condition", OTHER_APPS, "partial"): 3,
            ("side_stopped", OTHER_APPS, "production"): 0,
            ("side_stopped", OTHER_APPS, "sandbox"): 2,
            ("side_certificate_expiry_timestamp_seconds", OTHER_APPS, "sandbox"): 1e9,
        }
        names = {name for name, *_ in expected}
        self.assertEqual(
            {name: values[name] for name in values if name[0] in names and name[1] == OTHER_APPS}, expected
        )

    def rendered(self, clock: Clock, metrics: DaemonMetrics, overview: Overview | None = None) -> bytes:
        """Render them, which takes some turns of the reactor."""
        rendering = metrics.render(overview or overview_of(10_000))
        self.assertNoResult(rendering)
        clock.pump([0.0] * 100)
        return self.successResultOf(rendering)

    def test_attention(self) -> None:
        """Apps that do not work have labels before those that do, if they come in the same answer."""
        clock = Clock()
        values = found(self.rendered(clock, DaemonMetrics(clock)))
        self.assertEqual([name[1:] for name in values if name[::2] == ("app_condition", "tripped")], TRIPPED)


TRIPPED = [(f"app{number}", "tripped") for number in (9_995, 9_996, 9_997, 9_998, 9_999)]


def overview_of(count: int) -> Overview:
    """Make the health of apps of which the last five are tripped, and each has one notification waiting."""
    tripped = dict(TRIPPED)
    apps = [
        AppOverview(name, tripped.get(name, "working"), "", None, None, None, None, 1, float(number), AppState(name))  # type: ignore[arg-type]
        for number, name in enumerate(f"app{number}" for number in range(count))
    ]
    return Overview(0.0, tuple(apps), (), "", stopping=False)


class FaceTests(SynchronousTestCase):
    """What faces receive and refuse."""

    def setUp(self) -> None:
        """There is a native face with counted intake and answers."""
        self.world = AdminWorld()
        self.addCleanup(self.world.close)
        self.metrics = self.world.metrics
        native = Native(
            self.world.intake,
            self.world.outcome_log,
            self.world.log,
            self.world.feed,
            self.world.apps,
            Keys(Caller("all", None, None)),
        )
        self.server = HTTPServer(self.world.clock, native, refused=partial(self.metrics.refused, "native"))
        self.caller = Connection(self.server, self.world.clock)

    def refused(self) -> Mapping[tuple[str, ...], float]:
        """Return how often each status was refused."""
        values = found(self.world.scrape())
        return {name[1:]: value for name, value in values.items() if name[0] == "refused_total"}

    def test_interface(self) -> None:
        """The wrapper provides the interface of what it wraps."""
        verifyObject(IIntake, self.world.intake)

    def test_accepted(self) -> None:
        """An accepted request is counted once, by face and app; a repeated one is not counted again."""
        for _ in range(2):
            key = {"Idempotency-Key": "7"}
            said = self.caller.request("POST", "/v1/apps/chess/notifications", BODY, headers=key)
            self.assertEqual(said.status, 202)
        values = found(self.world.scrape())
        self.assertEqual(values["received_total", "chess", "native"], 2)
        self.assertEqual(self.refused(), {})

    def test_refused(self) -> None:
        """Wherever a request is refused, it is counted once, by its status."""
        self.caller.request("POST", "/v1/apps/nobody/notifications", BODY)
        self.caller.request("POST", "/v1/apps/chess/notifications", b"no JSON")
        self.caller.request("GET", "/nothing")
        self.caller.request("GET", "/v1/notifications/00000000-0000-7000-8000-000000000000")
        self.caller.request("GET", "/nothing", key="stranger")
        self.server.drain()
        Connection(self.server, self.world.clock).request("GET", "/nothing")
        statuses = {("native", "400"): 1, ("native", "401"): 1, ("native", "404"): 3, ("native", "503"): 1}
        self.assertEqual(self.refused(), statuses)

    def test_other_faces(self) -> None:
        """Faces without HTTP count their refusals themselves."""
        self.metrics.refused("binary", 429)
        self.assertEqual(self.refused(), {("binary", "429"): 1})

    def test_other_faces_intake(self) -> None:
        """For faces without HTTP the intake's refusals are counted."""
        intake = self.metrics.intake("binary", self.world.intake, refusals=True)
        self.failureResultOf(intake.accept("nobody", []), UnknownApp)
        self.assertEqual(self.refused(), {("binary", "404"): 1})

    def test_passed_on(self) -> None:
        """The intake's results and errors are passed on unchanged."""
        self.world.add_app("tiny", limits=Limits(queue=1))
        self.world.simulator.http2_fault = lambda server, request, response: None
        self.world.take([token(1)], "tiny")
        self.assertRaises(AppQueueFull, self.world.take, [token(2)], "tiny")
        self.assertEqual(self.world.metrics.totals.received, 1)
        waiting = self.world.intake.wait([], 1.0)
        self.assertEqual(self.successResultOf(waiting), {})


class CostTests(SynchronousTestCase):
    """The cost is per chunk, not per notification."""

    def test_settled(self) -> None:
        """One chunk of five hundred counts the same as five hundred chunks of one."""
        content = Content("chess", {})
        leased = [Leased(n, content, b"{}", token(n), "", 0, 0.0, 100.0 + n // 100) for n in range(500)]
        settlements = [Settlement(each.number, State.ACCEPTED, 200) for each in leased]
        together, apart = DaemonMetrics(Clock()), DaemonMetrics(Clock())
        together.settled("chess", leased, settlements, 104.5)
        for each, settlement in zip(leased, settlements, strict=True):
            apart.settled("chess", [each], [settlement], 104.5)
        self.assertEqual(together.totals, apart.totals)
        [one], [other] = (list(each.collect())[:1] for each in (together, apart))
        self.assertEqual(one.samples, other.samples)

    def test_superseded(self) -> None:
        """What newer notifications have superseded is counted for each app, as an outcome."""
        metrics = DaemonMetrics(Clock())
        metrics.superseded("chess", 3)
        [*_, outcomes] = [each for each in metrics.collect() if each.name == "apns_daemon_outcomes"]
        [sample] = [each for each in outcomes.samples if each.name.endswith("_total")]
        self.assertEqual((sample.labels["app"], sample.labels["state"], sample.value), ("chess", "superseded", 3.0))


class DocumentationTests(SynchronousTestCase):
    """``docs/daemon-operations.rst``."""

    def test_table(self) -> None:
        """Its table has exactly the metrics that exist, with their labels."""
        world = AdminWorld(cluster=Nodes)
        self.addCleanup(world.close)
        faults: list[Any] = [Response(429, "TooManyRequests"), None]
        world.simulator.http2_fault = lambda server, request, response: faults.pop() if faults else response
        world.metrics.refused("native", 400)
        world.take([token(n) for n in range(20)] + [DEAD])
        world.advance(40.0)
        world.drain(600)
        world.simulator.http2_fault = lambda server, request, response: None
        world.add_app("news", sandbox=world.add_sandbox()[1])
        world.take([token(1)], "news")
        world.advance(5.0)
        text = world.scrape().decode()
        actual = {}
        for family in text_string_to_metric_families(text):
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            if family.samples and family.name.startswith("apns_") and not family.name.endswith("_created"):
                actual[family.name] = labels
        self.assertEqual(documented(), actual)

    def test_alerts(self) -> None:
        """The alerts on the page are those in ``contrib``, and are about existing metrics."""
        page = PAGE.read_text(encoding="utf-8").partition("Suggested alerts")[2].partition("The database")[0]
        alerts = (PROJECT / "contrib/alerts.yaml").read_text(encoding="utf-8")
        expressions = re.findall("expr: (.+)", alerts)
        self.assertEqual(re.findall(r"\* - ``(.+)``", page), expressions)
        for expression in expressions:
            self.check(expression)

    def test_dashboard(self) -> None:
        """The dashboard in ``contrib`` is about existing metrics and their labels."""
        dashboard = json.loads((PROJECT / "contrib/grafana.json").read_text(encoding="utf-8"))
        expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
        self.assertGreater(len(expressions), 20)
        for expression in expressions:
            self.check(expression)

    def check(self, expression: str) -> None:
        """Check the names and the labels in an expression."""
        known = documented()
        for name, selected in re.findall(r"\b(apns_\w+)(\{[^}]*\})?", expression):
            family = re.sub("_(total|bucket|count|sum)$", "", name)
            self.assertIn(family, known, expression)
            self.assertLessEqual(set(re.findall(r"(\w+)[=!]", selected)), known[family], expression)
            for grouped in re.findall(r"by \(([^)]*)\) \((?:rate\()?" + name, expression):
                self.assertLessEqual(set(grouped.split(", ")) - {"le"}, known[family], expression)


@cache
def documented() -> dict[str, set[str]]:
    """Read the table: the labels of each metric, whose name is without the suffix of its type."""
    table = next(publish_doctree(PAGE.read_text(encoding="utf-8")).findall(nodes.table))
    rows = [[entry.astext() for entry in row.findall(nodes.entry)] for row in table.findall(nodes.row)][1:]
    return {re.sub("_total$", "", name): set(re.findall(r"\w+", labels)) for name, labels, _ in rows}
