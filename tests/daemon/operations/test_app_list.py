"""Tests for :mod:`txapns.daemon.operations.app_list`."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txapns.daemon.operations.activity import Activity
from txapns.daemon.operations.app_list import COLUMNS, PAGE, AppDigest, Query, app_row, digest_of
from txapns.daemon.operations.cells import Cell
from txapns.daemon.operations.health import AppOverview, SideOverview
from txapns.daemon.sending.context import AppState
from txapns.gateway import Gateway

__all__ = ["DigestTests", "QueryTests", "RowTests"]

NOW = 1_700_000_000.0
DAY = 86_400.0


def overview(name: str, **others: Any) -> AppOverview:
    """Make the health of an app that works, but for what is given."""
    gateway = Gateway.parse("production")
    fine = AppOverview(name, "working", "", None, None, gateway, None, 0, None, AppState(name), 0, f"com.{name}")
    return msgspec.structs.replace(fine, **others)


def digest(*apps: AppOverview) -> AppDigest:
    """Look at apps."""
    clock, found = Clock(), []
    Deferred.fromCoroutine(digest_of(clock, apps, NOW)).addCallback(found.append)
    clock.pump([0.0] * 20)
    return found[0]  # type: ignore[no-any-return]


class QueryTests(SynchronousTestCase):
    """What is asked for in an address."""

    def test_parse(self) -> None:
        """It is read, and what makes no sense is ignored."""
        for text, query in (
            (b"", Query()),
            (b"search=a%26b&page=3", Query("a&b", 3)),
            (b"search=%C3%A4+&page=0", Query("ä")),
            (b"page=-1", Query()),
            (b"page=%C2%B2&other=1", Query()),
            (b"page=99999999999999", Query()),
            (b"&".join([b"a=1"] * 50), Query()),
            (b"search=" + b"x" * 999, Query("x" * 200)),
        ):
            self.assertEqual(Query.parse(text), query)

    def test_address(self) -> None:
        """The address of a page leads to the same search."""
        for query in (Query("a&b=ü", 3), Query("x"), Query("", 9)):
            self.assertEqual(Query.parse(query.address(query.page).partition("?")[2].encode()), query)
        self.assertEqual(Query().address(1), "./")


class DigestTests(SynchronousTestCase):
    """All apps together."""

    def test_order(self) -> None:
        """The worst problems come first, then dead letters, then what waits, then names."""
        apps = [
            overview("b"),
            overview("a"),
            overview("full", waiting=5),
            overview("letters", dead=2),
            overview("expired", expires=NOW - DAY),
            overview("paused", condition="paused", reason="by ann"),
            overview("open", condition="open", reason="away"),
            overview("tripped", condition="tripped", reason="refused"),
            overview("connecting", condition="connecting"),
        ]
        found = digest(*apps)
        order = ["tripped", "expired", "open", "paused", "letters", "full", "a", "b", "connecting"]
        self.assertEqual([app.name for app in found.apps], order)
        self.assertEqual(found.problems[:2], ["tripped: refused", "expired: its certificate expired; renew it"])
        self.assertEqual((found.troubled, found.named, found.dead), (4, 4, 2))

    def test_bounded(self) -> None:
        """Of many problems some are named, and all are counted."""
        apps = [
            overview(f"app{n:05}", condition="open", reason="away", waiting=2, oldest=float(n)) for n in range(2500)
        ]
        found = digest(*apps)
        self.assertEqual((found.troubled, found.named, len(found.problems)), (2500, 10, 10))
        self.assertEqual((found.waiting, found.oldest, found.expires), (5000, 2499.0, None))

    def test_unknown(self) -> None:
        """Of what is unknown for one app nothing is said for all."""
        self.assertIsNone(digest(overview("a"), overview("b", dead=None)).dead)

    def test_find(self) -> None:
        """Names and topics are searched in any case; a page too far is the last."""
        found = digest(*(overview(f"app{n:03}") for n in range(2 * PAGE + 1)))
        first, last = found.find(Query()), found.find(Query(page=9))
        self.assertEqual((len(first.apps), first.text, first.previous), (PAGE, f"1 to {PAGE} of {2 * PAGE + 1}", ""))
        self.assertEqual((first.next, last.previous, last.next, len(last.apps)), ("?page=2", "?page=2", "", 1))
        for search, count in (("APP00", 10), ("com.app099", 1), ("none", 0)):
            self.assertEqual(len(found.find(Query(search)).apps), count)
        self.assertEqual(found.find(Query("none")).text, "none that match “none”")


class RowTests(SynchronousTestCase):
    """The row of an app."""

    def row(self, **others: Any) -> list[Cell]:
        """Make the row of an app."""
        row = app_row(overview("chess", **others), Activity(Clock()), NOW)
        self.assertEqual(len(row), len(COLUMNS))
        return row

    def test_sides(self) -> None:
        """An app with two sides says so, and has both credentials, marked for what is most urgent."""
        sides = (SideOverview("production", False, None, "ABCDE12345"), SideOverview("sandbox", True, NOW - 1, ""))
        app = overview("chess", condition="partial", reason="sandbox: refused", sides=sides)
        cells = dict(zip(COLUMNS, app_row(app, Activity(Clock()), NOW), strict=True))
        self.assertEqual(cells["Credential"].text, "key ABCDE12345")
        self.assertRegex(cells["Credential"].note, "^sandbox: certificate .*, expired$")
        self.assertEqual(cells["Credential"].kind, "bad")
        self.assertIn("and sandbox", [cell.note for cell in cells.values()])
        self.assertEqual((cells["State"].text, cells["State"].kind), ("Works on one side: sandbox: refused", "warn"))

    def test_destinations(self) -> None:
        """Apple's environments have names, other servers addresses."""
        for text, shown in (
            ("production", "production"),
            ("sandbox", "sandbox"),
            ("http2:host=apns.test:port=8443", "apns.test:8443"),
            ("binary:host=apns.test:port=2195", "apns.test:2195 (binary)"),
        ):
            self.assertEqual(self.row(gateway=Gateway.parse(text))[2], Cell(shown))
        self.assertEqual(self.row(gateway=None)[2], Cell("unknown"))

    def test_credentials(self) -> None:
        """A key has an identifier, a certificate an end; dead letters are marked."""
        self.assertEqual(self.row(key_id="ABC123DEFG")[3], Cell("ABC123DEFG", note="key"))
        self.assertEqual(self.row(expires=NOW - DAY)[3], Cell("2023-11-13, expired", "bad", "certificate"))
        self.assertEqual([self.row(dead=n)[-1] for n in (0, 3)], [Cell("0"), Cell("3", "warn")])
        self.assertEqual(self.row(dead=None)[-1], Cell("unknown"))
