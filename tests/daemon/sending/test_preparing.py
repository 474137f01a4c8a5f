"""Tests for :mod:`txapns.daemon.sending.preparing`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txapns.daemon.sending.preparing import prepare
from txapns.daemon.values import Content, Leased, Settlement, State

__all__ = ["PrepareTests"]

DATE = 1_700_000_000.0


def leased(number: int, content: Content) -> Leased:
    """Make a notification with a content."""
    apns_id = f"00000000-0000-4000-8000-{number:012}"
    return Leased(number, content, bytes([number]) * 32, apns_id, 0, DATE, DATE)


class PrepareTests(SynchronousTestCase):
    """What is sent, and what is settled without being sent."""

    def test_triples(self) -> None:
        """Devices share the notification of a content, and each has its own token."""
        content = Content("chess", b'{"aps":{}}', {"apns-topic": "com.example.app", "apns-priority": "5"})
        sent = [leased(number, content) for number in (1, 2)]
        prepared = prepare(sent, "com.example.other", DATE)
        self.assertEqual((prepared.ready, prepared.settlements, len(prepared.notifications)), (sent, [], 1))
        [first, second] = prepared.triples()
        self.assertEqual([(each, token) for each, _, token in (first, second)], [(each, each.token) for each in sent])
        self.assertIs(first[1], second[1])
        self.assertEqual((first[1].topic, first[1].priority), ("com.example.app", 5))

    def test_broadcasts(self) -> None:
        """A broadcast is for its channel, and not for a device."""
        contents = [Content("chess", b'{"aps":{}}', each) for each in ({"apns-channel-id": "AbCd"}, {})]
        broadcast, device = (leased(number, content) for number, content in enumerate(contents))
        prepared = prepare([broadcast, device], "com.example.app", DATE)
        [(found, notification, channel)] = prepared.broadcasts()
        self.assertEqual((found, notification.apns_id, channel), (broadcast, broadcast.apns_id, "AbCd"))
        self.assertEqual([found for found, *_ in prepared.triples()], [device])

    def test_topic(self) -> None:
        """Without a topic of its own content gets the app's."""
        prepared = prepare([leased(1, Content("chess", b'{"aps":{}}', {}))], "com.example.app", DATE)
        [(_, notification, _)] = prepared.triples()
        self.assertEqual(notification.topic, "com.example.app")

    def test_shared_fields(self) -> None:
        """Contents that share their header fields have payloads of their own, and the push type that follows."""
        fields = {"apns-expiration": "2000000000"}
        payloads = [b'{"aps":{"alert":"a"}}', b'{"aps":{"alert":"b"}}', b'{"aps":{"content-available":1}}', b'{"aps":1']
        sent = [leased(number, Content("chess", payload, fields)) for number, payload in enumerate(payloads)]
        prepared = prepare(sent, "com.example.app", DATE)
        found = {each.body: (each.push_type, each.priority, each.expiration) for _, each, _ in prepared.triples()}
        alert, background = ("alert", None, 2_000_000_000), ("background", 5, 2_000_000_000)
        self.assertEqual(found, dict(zip(payloads, [alert, alert, background], strict=False)))
        self.assertEqual(prepared.settlements, [Settlement(3, State.REJECTED, 0, "InvalidPayload")])

    def test_settled(self) -> None:
        """What has expired or is invalid is settled; the others are ready."""
        good, payload = Content("chess", b'{"aps":{}}', {}), b'{"aps":{}}'
        contents = [
            Content("chess", b"[]", {}),
            good,
            Content("chess", payload, {"apns-expiration": str(int(DATE))}),
            Content("chess", payload, {"apns-priority": "high"}),
            Content("chess", payload, {"apns-expiration": str(int(DATE) + 1)}),
        ]
        prepared = prepare([leased(number, content) for number, content in enumerate(contents)], None, DATE)
        self.assertEqual([each.number for each in prepared.ready], [1, 4])
        self.assertEqual(
            prepared.settlements,
            [
                Settlement(0, State.REJECTED, 0, "InvalidPayload"),
                Settlement(2, State.EXPIRED, 0, ""),
                Settlement(3, State.REJECTED, 0, "ValueError"),
            ],
        )
