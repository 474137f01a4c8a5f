"""Tests for :mod:`txapns.daemon.intake`."""

from __future__ import annotations

import errno
import os
import sqlite3
import uuid
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.daemon.fakes import Apps, Waiting
from tests.daemon.store.contract import result
from tests.daemon.store.sqlite.world import SQLiteWorld
from txapns._network.clocks import wall_clock
from txapns.daemon.errors import (
    AppQueueFull,
    KeyConflict,
    Malformed,
    NotSupported,
    RequestRefused,
    TooLarge,
    Unavailable,
    UnknownApp,
)
from txapns.daemon.identifiers import Identifiers
from txapns.daemon.intake import (
    BULK_DEVICES,
    FURTHEST,
    MAX_HEADER,
    MAX_PAYLOAD,
    MAX_TOKEN,
    URGENT_DEVICES,
    Intake,
    lane_of,
)
from txapns.daemon.interfaces import IApps, IIntake
from txapns.daemon.store.sqlite import file
from txapns.daemon.values import (
    ANYBODY,
    CHANNEL,
    Caller,
    Draft,
    Environment,
    Idempotency,
    Lane,
    Limits,
    Outcome,
    Receipt,
    State,
)
from txapns.notification import Notification

__all__ = ["AcceptTests", "CheckTests", "LaneTests", "SideTests", "WaitTests"]

PAYLOAD = b'{ "aps": {"alert": "Hello"} }'
TOKENS = [bytes([n]) * 32 for n in range(1, 4)]


class IntakeCase(SynchronousTestCase):
    """An intake with a real queue."""

    def setUp(self) -> None:
        """Make one, for an app with a queue of five and three tokens per request."""
        self.world = SQLiteWorld(Path(self.mktemp()))
        self.addCleanup(lambda: self.world.stop())
        self.clock = self.world.clock
        self.apps = Apps({"chess": Limits(queue=5, tokens=3), "small": Limits(queue=2, tokens=100)})
        self.waiting = Waiting(self.clock)
        self.woken: list[str] = []
        self.intake = Intake(
            self.apps, self.world.queue, Identifiers(wall_clock(self.clock)), self.waiting, self.woken.append
        )

    def result(self, deferred: Deferred[Any]) -> Any:
        """Let a little time pass until there is a result."""
        return result(self.clock, deferred)

    def draft(self, tokens: Sequence[bytes] = (TOKENS[0],), **changes: Any) -> Draft:
        """Make a draft."""
        return Draft(**{"payload": PAYLOAD, "headers": {"apns-topic": "com.example"}, "tokens": tokens, **changes})

    def refusal(self, *drafts: Draft, app: str = "chess") -> RequestRefused:
        """Submit a request that is refused; nothing of it may be stored."""
        refusal: RequestRefused = self.failureResultOf(self.intake.accept(app, drafts)).value  # type: ignore[assignment]
        self.assertEqual((self.world.queue.waiting(app).count, self.woken), (0, []))
        self.assertIsInstance(refusal, RequestRefused)
        return refusal


class SideTests(IntakeCase):
    """Which side notifications are for."""

    def test_named(self) -> None:
        """A notification or a broadcast may name a side of an app that has two; it is stored with that."""
        self.apps.divide("chess")
        drafts = [self.draft(environment=environment) for environment in (None, *Environment)]
        cast = self.draft([b""], headers={"apns-topic": "com.example", CHANNEL: "a"}, environment=Environment.SANDBOX)
        for group in (drafts, [cast]):
            self.result(self.intake.accept("chess", group))
        found = self.result(self.world.queue.lease("chess", 10, self.clock.seconds() + 60))
        self.assertEqual(
            [each.content.environment for each in found],
            [None, Environment.PRODUCTION, Environment.SANDBOX, Environment.SANDBOX],
        )

    def test_refused(self) -> None:
        """An app with one side refuses that, and nobody gives it as a header field."""
        cast = self.draft([b""], headers={"apns-topic": "com.example", CHANNEL: "a"})
        for draft in (self.draft(), cast):
            for environment in Environment:
                refused = self.refusal(msgspec.structs.replace(draft, environment=environment))
                self.assertIsInstance(refused, NotSupported)
                self.assertIn('its environment is not "auto"', str(refused))
            headers = {**draft.headers, "txapns-environment": "sandbox"}
            self.assertIsInstance(self.refusal(msgspec.structs.replace(draft, headers=headers)), Malformed)


class LaneTests(IntakeCase):
    """Which lane notifications are in."""

    def test_default(self) -> None:
        """It is by the size of the request and the priority."""
        for devices, priority, lane in (
            (1, {}, Lane.URGENT),
            (URGENT_DEVICES, {"apns-priority": "10"}, Lane.URGENT),
            (1, {"apns-priority": "5"}, Lane.NORMAL),
            (URGENT_DEVICES + 1, {}, Lane.NORMAL),
            (BULK_DEVICES - 1, {}, Lane.NORMAL),
            (BULK_DEVICES, {}, Lane.BULK),
        ):
            self.assertEqual(lane_of(self.draft(headers=priority), devices, ANYBODY), lane)

    def test_chosen(self) -> None:
        """A caller may choose, unless its key is bound."""
        draft, bound = self.draft(lane=Lane.BULK), Caller("web", None, lane=Lane.NORMAL)
        self.assertEqual([lane_of(draft, 1, each) for each in (ANYBODY, bound)], [Lane.BULK, Lane.NORMAL])
        self.assertEqual(lane_of(self.draft(), BULK_DEVICES, bound), Lane.NORMAL)

    def test_stored(self) -> None:
        """The queue has the lane and the caller, and what is urgent is said to be so."""
        hurried: list[str] = []
        identifiers = Identifiers(wall_clock(self.clock))
        intake = Intake(self.apps, self.world.queue, identifiers, self.waiting, self.woken.append, hurry=hurried.append)
        for caller, lane in ((Caller("web"), Lane.URGENT), (Caller("shop"), Lane.BULK)):
            self.result(intake.accept("chess", [self.draft(lane=lane)], caller=caller))
        found = [self.result(self.world.queue.lease("chess", 9, self.clock.seconds() + 60)) for _ in range(2)]
        self.assertEqual([each.content.lane for [each] in found], [Lane.URGENT, Lane.BULK])
        self.assertEqual((hurried, self.woken), (["chess"], ["chess"]))


class AcceptTests(IntakeCase):
    """Accepted requests."""

    def test_interfaces(self) -> None:
        """The intake, and the apps of the tests, have the interfaces."""
        verifyObject(IIntake, self.intake)
        verifyObject(IApps, self.apps)

    def test_stored(self) -> None:
        """Each device gets an id, the notifications are stored as submitted, and the sender is woken after that."""
        accepted = self.intake.accept("chess", [self.draft(TOKENS[:2]), self.draft(TOKENS[2:])])
        self.assertEqual((self.woken, self.world.queue.waiting("chess").count), ([], 3))
        [first, second] = [receipt.apns_ids for receipt in self.result(accepted)]
        self.assertEqual((len(first), len(second), self.woken), (2, 1, ["chess"]))
        leased = self.result(self.world.queue.lease("chess", 10, self.clock.seconds() + 60))
        self.assertEqual(
            [(each.token, each.apns_id) for each in leased], list(zip(TOKENS, first + second, strict=True))
        )
        self.assertEqual({each.payload for each in leased}, {PAYLOAD})
        self.assertEqual(dict(leased[0].content.headers), {"apns-topic": "com.example", "apns-push-type": "alert"})

    def test_push_types(self) -> None:
        """What has no push type gets the one that follows from its payload, if one does."""
        kinds = [
            (b'{"aps":{"alert":"x"}}', {}, "alert"),
            (b'{"aps":{"content-available":1}}', {}, "background"),
            (b'{"aps":{"event":"update"}}', {}, None),
            (b'{"aps":{"alert":"x"}}', {"apns-push-type": "voip"}, "voip"),
        ]
        drafts = [Draft(payload, headers, TOKENS[:1]) for payload, headers, _ in kinds]
        for some in (drafts[:2], drafts[2:]):
            self.result(self.intake.accept("chess", some))
        leased = self.result(self.world.queue.lease("chess", 10, self.clock.seconds() + 60))
        found = [each.content.headers.get("apns-push-type") for each in leased]
        self.assertEqual(found, [push_type for *_, push_type in kinds])

    def test_decoded(self) -> None:
        """A payload that the face has decoded is not decoded again; the face has found the push type."""
        for headers in ({"apns-push-type": "alert"}, {}):
            draft = msgspec.structs.replace(self.draft(), payload=b"not looked at", headers=headers, decoded=True)
            self.result(self.intake.accept("chess", [draft]))
            [leased] = self.result(self.world.queue.lease("chess", 10, self.clock.seconds() + 60))
            self.assertEqual(leased.content.headers, headers)

    def test_own_ids(self) -> None:
        """The ids of a caller are kept, in lower case, beside those that the intake chooses."""
        own = str(uuid.uuid4())
        drafts = [self.draft(), self.draft(apns_ids=[own.upper()]), self.draft()]
        [first], [second], [third] = (each.apns_ids for each in self.result(self.intake.accept("chess", drafts)))
        self.assertEqual(second, own)
        self.assertLess(first, third)

    def test_one_id_for_two(self) -> None:
        """A caller may use an id twice; each makes a notification of its own."""
        own = str(uuid.uuid4())
        drafts = [self.draft(apns_ids=[own]), self.draft([TOKENS[1]], apns_ids=[own.upper()])]
        first, second = self.result(self.intake.accept("chess", drafts))
        self.assertEqual((first.apns_ids, second.apns_ids), ([own], [own]))
        self.assertNotEqual(list(first.numbers), list(second.numbers))

    def test_again(self) -> None:
        """A repeated request with its key is accepted once; a different one with that key is refused."""
        same = Idempotency("caller/chess", "key", b"digest")
        first = self.result(self.intake.accept("chess", [self.draft(TOKENS[:2])], same))
        second = self.result(self.intake.accept("chess", [self.draft(TOKENS[:2])], same))
        self.assertEqual(([msgspec.structs.replace(each, earlier=True) for each in first], second), (second, second))
        self.assertEqual(self.world.queue.waiting("chess").count, 2)
        other = Idempotency("caller/chess", "key", b"other")
        with self.assertRaises(KeyConflict):
            self.result(self.intake.accept("chess", [self.draft()], other))

    def test_later(self) -> None:
        """What has a date or a rate is stored with it, and the sender learns that there is something for later."""
        expected: list[str] = []
        identifiers = Identifiers(wall_clock(self.clock))
        intake = Intake(self.apps, self.world.queue, identifiers, self.waiting, self.woken.append, expected.append)
        date = self.clock.now() + FURTHEST
        self.result(intake.accept("chess", [self.draft(not_before=date)]))
        self.result(intake.accept("chess", [self.draft(TOKENS[:2], rate=1)]))
        self.result(intake.accept("chess", [self.draft()]))
        self.assertEqual((expected, self.woken), (["chess"] * 2, ["chess"]))
        leased = self.result(self.world.queue.lease("chess", 10, self.clock.seconds() + 60))
        self.assertEqual([each.token for each in leased], [TOKENS[0], TOKENS[0]])
        self.clock.advance(FURTHEST)
        leased = self.result(self.world.queue.lease("chess", 10, self.clock.seconds() + 60))
        self.assertEqual(len(leased), 4)

    def test_cannot_be_stored(self) -> None:
        """If the queue refuses, the request is refused, and no sender is woken."""
        self.result(self.world.queue.stop())
        with self.assertRaises(Unavailable):
            self.result(self.intake.accept("chess", [self.draft()]))
        self.assertEqual(self.woken, [])

    def test_stopped(self) -> None:
        """After the stop requests are refused with a time to retry; those being stored are finished."""
        accepted = self.intake.accept("chess", [self.draft()])
        self.intake.stop()
        self.assertEqual(len(self.result(accepted)), 1)
        refusal = self.failureResultOf(self.intake.accept("chess", [self.draft()]), Unavailable).value
        self.assertGreater(refusal.retry_after, 0)  # type: ignore[attr-defined]


class CheckTests(IntakeCase):
    """Requests that are refused before anything is stored."""

    def test_unknown_app(self) -> None:
        """An unknown app."""
        self.assertIsInstance(self.refusal(self.draft(), app="checkers"), UnknownApp)

    def test_too_many_tokens(self) -> None:
        """More tokens than a request may have, or than the queue can ever hold: a retry is useless."""
        for app, drafts in (("chess", [self.draft(TOKENS), self.draft()]), ("small", [self.draft(TOKENS)])):
            refusal = self.refusal(*drafts, app=app)
            self.assertIsInstance(refusal, TooLarge)
            self.assertIsNone(refusal.retry_after)

    def test_queue(self) -> None:
        """The queue's limit counts notifications being stored; beyond it, requests are refused for now."""
        accepted = self.intake.accept("chess", [self.draft(TOKENS)])
        self.result(self.intake.accept("chess", [self.draft(TOKENS[:2])]))
        self.result(accepted)
        refusal = self.failureResultOf(self.intake.accept("chess", [self.draft()]), AppQueueFull).value
        self.assertGreater(refusal.retry_after, 0)  # type: ignore[attr-defined]
        self.assertEqual(self.world.queue.waiting("chess").count, 5)
        self.assertRaises(AppQueueFull, self.intake.check, "chess", [self.draft()])

    def test_nothing(self) -> None:
        """Requests without a device."""
        self.assertIsInstance(self.refusal(), Malformed)
        refusal = self.refusal(self.draft(), self.draft([]))
        self.assertEqual((type(refusal), refusal.path), (Malformed, "notifications[1].tokens"))

    def test_faults(self) -> None:
        """Faults of notifications: the path names the part of the notification."""
        cases: list[tuple[type[RequestRefused], str, dict[str, Any]]] = [
            (Malformed, "payload", {"payload": b"[]"}),
            (Malformed, "payload", {"payload": b"{"}),
            (Malformed, "payload", {"payload": b'{"a":NaN}'}),
            (Malformed, "payload", {"payload": b'{"a":"\xff"}'}),
            (Malformed, "payload", {"payload": b'{"a":' + b"[" * 30_000 + b"]" * 30_000 + b"}"}),
            (TooLarge, "payload", {"payload": b"{" + b" " * MAX_PAYLOAD + b"}"}),
            (Malformed, "headers", {"headers": {"apns-colour": "red"}}),
            (Malformed, "headers", {"headers": {"apns-id": "x"}}),
            (Malformed, "headers.apns-topic", {"headers": {"apns-topic": "a\r\nb: c"}}),
            (Malformed, "headers.apns-topic", {"headers": {"apns-topic": " a"}}),
            (Malformed, "headers.apns-topic", {"headers": {"apns-topic": "\ud800"}}),
            (Malformed, "headers.apns-topic", {"headers": {"apns-topic": "a" * (MAX_HEADER + 1)}}),
            (Malformed, "headers.apns-priority", {"headers": {"apns-priority": "high"}}),
            (Malformed, "headers.apns-expiration", {"headers": {"apns-expiration": "9" * 30}}),
            (Malformed, "headers.apns-id", {"apns_ids": ["no-uuid"]}),
            (Malformed, "headers.apns-id", {"apns_ids": [uuid.uuid4().hex]}),
            (Malformed, "headers.apns-id", {"apns_ids": [str(uuid.uuid4())] * 2}),
            (Malformed, "tokens[1]", {"tokens": [TOKENS[0], b""]}),
            (Malformed, "tokens[1]", {"tokens": [TOKENS[0], b"x" * (MAX_TOKEN + 1)]}),
        ]
        for kind, part, changes in cases:
            refusal = self.refusal(self.draft(), self.draft(**changes))
            self.assertEqual((type(refusal), refusal.path), (kind, f"notifications[1].{part}"), changes.keys())
            self.assertIn(refusal.path, str(refusal))

    def test_too_late(self) -> None:
        """What is to be sent in more than 30 days, or after it has expired, is refused at once."""
        now = self.clock.now()
        expired = {"apns-expiration": str(int(now) + 100)}
        for words, changes in (
            ("more than 30 days ahead", {"not_before": now + FURTHEST + 1.0}),
            ("expires before it is sent", {"not_before": now + 100.0, "headers": expired}),
        ):
            refusal = self.refusal(self.draft(**changes))
            self.assertEqual((type(refusal), refusal.path), (Malformed, "not_before"))
            self.assertIn(words, str(refusal))
        self.intake.check("chess", [self.draft(not_before=now + 99.0, headers=expired)])
        self.intake.check("chess", [self.draft(not_before=now + 99.0, headers={"apns-expiration": "0"})])

    def test_left_to_apple(self) -> None:
        """What only Apple's rules forbid is accepted."""
        headers = {
            "apns-topic": "",
            "apns-push-type": "telepathy",
            "apns-priority": "-7",
            "apns-expiration": "1",
            "apns-collapse-id": "x" * 65,
        }
        drafts = [self.draft([b"x"], headers=headers, payload=b'{"a":"' + b"x" * 6_000 + b'"}')]
        self.assertEqual(len(self.result(self.intake.accept("chess", drafts))), 1)

    @given(
        st.one_of(st.binary(max_size=30), st.text(max_size=30).map(lambda text: f'{{"a":"{text}"}}'.encode())),
        st.text(max_size=5),
        st.one_of(st.text(max_size=25), st.integers().map(str)),
    )
    def test_what_is_accepted_can_be_sent(self, payload: bytes, topic: str, priority: str) -> None:
        """From every accepted draft, a notification can be made."""
        draft = Draft(payload, {"apns-topic": topic, "apns-priority": priority}, [b"x"])
        try:
            self.intake.check("chess", [draft])
        except Malformed:
            return
        Notification(payload=payload, topic=topic, priority=int(priority))


class WaitTests(IntakeCase):
    """Waiting for outcomes."""

    def test_superseded(self) -> None:
        """A request in which one supersedes another may have outcomes; a broadcast supersedes nothing."""
        headers = {"apns-topic": "com.example", "apns-collapse-id": "score"}
        for tokens, fresh in (([TOKENS[0]] * 2, False), (TOKENS[1:2], True), (TOKENS[1:2], True)):
            self.intake.wait(self.result(self.intake.accept("chess", [self.draft(tokens, headers=headers)])), 1.0)
            self.assertEqual(self.waiting.asked[-1][1], fresh)
        self.assertEqual(self.world.queue.waiting("chess").count, 2)

    def test_fresh(self) -> None:
        """A new request has no outcomes yet; a repeated one may have some."""
        again = Idempotency("caller/chess", "key", b"digest")
        first = self.result(self.intake.accept("chess", [self.draft(TOKENS[:2])], again))
        self.intake.wait(first, 1.0)
        self.intake.wait(self.result(self.intake.accept("chess", [self.draft(TOKENS[:2])], again)), 1.0)
        other = self.result(self.intake.accept("chess", [self.draft(), self.draft()]))
        self.intake.wait(other, 1.0)
        numbers = list(first[0].numbers)
        others = [number for each in other for number in each.numbers]
        self.assertEqual(self.waiting.asked, [(numbers, True), (numbers, False), (others, True)])
        self.clock.advance(1.0)

    def test_on_disk(self) -> None:
        """
        A request of somebody who waits is not on the disk at once, but it is before the answer. If the disk fails,
        there is none, unless all have an outcome.
        """

        def fails(descriptor: int) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        self.patch(file, "_fdatasync", fails)
        self.world.database._file.writing.execute("PRAGMA busy_timeout = 1")
        with closing(sqlite3.connect(self.world.path, isolation_level=None)) as other:
            other.execute("BEGIN")
            other.execute("SELECT * FROM queue_next").fetchall()  # it needs the log as it is
            known = self.result(self.intake.accept("chess", [self.draft()], awaited=True))
            [number] = known[0].numbers
            self.waiting.tell(Outcome(number, "", "chess", State.ACCEPTED, 200, "", None, 1, 1.0, 2.0))
            self.assertEqual(list(self.result(self.intake.wait(known, 0.005))), [number])
            waiting = self.intake.wait([*known, Receipt([number + 1], [""])], 0.005)
            self.assertRaises(Unavailable, self.result, waiting)
            self.assertRaises(Unavailable, self.result, self.intake.accept("chess", [self.draft()]))
        self.assertTrue(self.world.database._file.behind)
        self.assertEqual(list(self.result(self.intake.wait([Receipt([number + 1], [""])], 0.005))), [])
        self.assertFalse(self.world.database._file.behind)
