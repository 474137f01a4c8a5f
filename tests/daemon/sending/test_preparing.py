"""Tests for :mod:`txapns.daemon.sending.preparing`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txapns.daemon.sending.preparing import prepare
from txapns.daemon.values import Content, Leased, Settlement, State

__all__ = ["PrepareTests"]

DATE = 1_700_000_000.0
PAYLOAD = b'{"aps":{}}'


def leased(number: int, content: Content, payload: bytes = PAYLOAD) -> Leased:
    """Make a notification with a content."""
    apns_id = f"00000000-0000-4000-8000-{number:012}"
    return Leased(number, content, payload, bytes([number]) * 32, apns_id, 0, DATE, DATE)


class PrepareTests(SynchronousTestCase):
    """What is sent, and what is settled without being sent."""

    def test_triples(self) -> None:
        """Devices share the notification of a content, and each has its own token."""
        content = Content("chess", {"apns-topic": "com.example.app", "apns-priority": "5"})
        sent = [leased(number, content) for number in (1, 2)]
        prepared = prepare(sent, "com.example.other", DATE)
        self.assertEqual((prepared.ready, prepared.settlements, len(prepared.notifications)), (sent, [], 1))
        [first, second] = prepared.triples()
        self.assertEqual([(each, token) for each, _, token in (first, second)], [(each, each.token) for each in sent])
        self.assertIs(first[1], second[1])
        self.assertEqual((first[1].topic, first[1].priority), ("com.example.app", 5))

    def test_broadcasts(self) -> None:
        """A broadcast is for its channel, and not for a device."""
        contents = [Content("chess", each) for each in ({"apns-channel-id": "AbCd"}, {})]
        broadcast, device = (leased(number, content) for number, content in enumerate(contents))
        prepared = prepare([broadcast, device], "com.example.app", DATE)
        [(found, notification, channel)] = prepared.broadcasts()
        self.assertEqual((found, notification.apns_id, channel), (broadcast, broadcast.apns_id, "AbCd"))
        self.assertEqual(notification.body, PAYLOAD)
        self.assertEqual([found for found, *_ in prepared.triples()], [device])

    def test_topic(self) -> None:
        """Without a topic of its own content gets the app's."""
        prepared = prepare([leased(1, Content("chess", {}))], "com.example.app", DATE)
        [(_, notification, _)] = prepared.triples()
        self.assertEqual(notification.topic, "com.example.app")

    def test_settled(self) -> None:
        """What has expired or is invalid is settled; the others are ready."""
        good = Content("chess", {})
        contents = [
            good,
            Content("chess", {"apns-expiration": str(int(DATE))}),
            Content("chess", {"apns-priority": "high"}),
            Content("chess", {"apns-expiration": str(int(DATE) + 1)}),
        ]
        prepared = prepare([leased(number, content) for number, content in enumerate(contents)], None, DATE)
        self.assertEqual([each.number for each in prepared.ready], [0, 3])
        self.assertEqual(
            prepared.settlements,
            [
                Settlement(1, State.EXPIRED, 0, ""),
                Settlement(2, State.REJECTED, 0, "ValueError"),
            ],
        )
