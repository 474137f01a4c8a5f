"""Tests for :mod:`txapns.simulator.inbox`."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.simulator.peers import DEVICE
from txapns._network.clocks import wall_clock
from txapns.simulator.inbox import Inbox, Reception
from txapns.wire.requests import Request

__all__ = ["KeptTests", "SecretTests"]


class KeptTests(SynchronousTestCase):
    """What an inbox keeps."""

    def setUp(self) -> None:
        """Make one that keeps ten."""
        self.inbox = Inbox(wall_clock(Clock()), keep=10)

    def note(self, count: int) -> None:
        """Record notifications."""
        for _ in range(count):
            self.inbox.note("http2", b"a", b"{}", {}, None)

    def test_latest(self) -> None:
        """The latest are kept, whether somebody looks at them or not; all are counted, and numbered on."""
        for looks in (1_000,), (3, 4, 993), (9, 5, 986):
            inbox = self.inbox = Inbox(wall_clock(Clock()), keep=10)
            for count in looks:
                self.note(count)
                last = inbox.last_id
                self.assertEqual([each.id for each in inbox.received], list(range(max(1, last - 9), last + 1)))
            self.assertEqual(inbox.counters()["received"], 1_000)
            self.assertIs(inbox.received[0], inbox.received[0])
            self.assertEqual((inbox.clear(), inbox.received), (10, []))

    def test_all(self) -> None:
        """If it is to keep all, it does, and counts what nobody has looked at when they are removed."""
        inbox = self.inbox = Inbox(wall_clock(Clock()))
        self.note(3_000)
        self.assertEqual(len(inbox.received), 3_000)
        self.note(2)
        self.assertEqual((inbox.clear(), inbox.received), (3_002, []))

    def test_token(self) -> None:
        """The token is that of the path, which may not be one."""
        for path, token, text in (
            (f"/3/device/{DEVICE.upper()}", bytes.fromhex(DEVICE), DEVICE),
            ("/3/device/abc", b"abc", "abc"),
            ("/3/device/", b"", ""),
        ):
            self.inbox.note("http2", b"", b"{}", {":path": path}, None)
            reception = self.inbox.received[-1]
            self.assertEqual((reception.token, reception.token_text), (token, text))

    def test_after(self) -> None:
        """What came after a number is found, whether that is still kept or not."""
        self.note(500)
        self.assertEqual([each.id for each in self.inbox.after(498)], [499, 500])
        self.assertEqual([len(self.inbox.after(each)) for each in (500, 9_999)], [0, 0])
        self.assertEqual(self.inbox.after(0), self.inbox.received)
        self.inbox.clear()
        self.note(2)
        self.assertEqual([each.id for each in self.inbox.after(0)], [501, 502])

    def test_nothing(self) -> None:
        """An inbox that keeps nothing counts."""
        inbox = Inbox(wall_clock(Clock()), keep=0)
        inbox.note("http2", b"a", b"{}", {}, "BadTopic", 400)
        self.assertEqual((inbox.received, inbox.counters()["rejected"]), ([], {"BadTopic": 1}))


class SecretTests(SynchronousTestCase):
    """What may be logged."""

    def test_repr(self) -> None:
        """The repr of a request and of its record shows no device token, provider token or payload."""
        headers = {":path": f"/3/device/{DEVICE}", "authorization": "bearer secret"}
        request = Request(1, [(name.encode(), value.encode()) for name, value in headers.items()], b"secret")
        self.assertEqual(repr(request), "Request(stream=1, headers=<2 fields>, body=<6 bytes>)")
        reception = Reception("http2", bytes.fromhex(DEVICE), b"secret", headers, None)
        self.assertEqual(
            repr(reception),
            "Reception(protocol='http2', token=abab…abab, payload=<6 bytes>, headers=<2 fields>, reason=None)",
        )
