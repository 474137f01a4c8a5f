"""Tests for :mod:`txapns.daemon.faces.matrix.requests`."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.faces.matrix.matrix_case import ANN, APP_ID, BOB, EVENT, EXAMPLE, device
from txapns.daemon.errors import Malformed
from txapns.daemon.faces.matrix.requests import Device, Request, read

__all__ = ["IdentityTests", "ReadTests"]


def request(*devices: dict[str, Any], **more: Any) -> Request:
    """Read a request."""
    return read(json.dumps({"notification": {**EVENT, **more, "devices": list(devices)}}).encode())


def one(**more: Any) -> Device:
    """Read a device."""
    [found] = request(device(**more)).devices
    return found


class ReadTests(SynchronousTestCase):
    """What is read."""

    def test_example(self) -> None:
        """The example of the specification is read as a whole."""
        found = read(json.dumps(EXAMPLE).encode())
        self.assertEqual((found.event.event_id, found.event.counts), ("$3957tyerfgewrf384", 3))
        self.assertEqual((found.event.content["msgtype"], found.event.urgent), ("m.text", True))
        [told] = found.devices
        self.assertEqual((told.app_id, told.since, told.data), (APP_ID, 12345678, {}))
        self.assertEqual(told.tweaks, {"sound": "bing"})

    def test_users(self) -> None:
        """What users can choose counts as missing if it is of another type; what is unknown is ignored."""
        wrong: list[Any] = [7, True, None, [], {}]
        for value in wrong:
            names = (
                "sender",
                "sender_display_name",
                "room_name",
                "room_alias",
                "type",
                "membership",
                "content",
                "prio",
            )
            event = request(**dict.fromkeys((*names, "user_is_target", "unknown"), value)).event
            self.assertEqual((event.sender, event.room_name, event.type, event.content), ("", "", "", {}))
            self.assertEqual((event.target, event.urgent), (value is True, True))
            found = one(pushkey_ts=value, tweaks=value)
            self.assertEqual((found.since, found.tweaks), (7 if value == 7 else None, {}))
        for value in (7, True, "x", []):
            self.assertIsNone(one(data=value).data)
        self.assertEqual(one(data=None).data, {})

    def test_numbers(self) -> None:
        """A number that is too large for any type is no error, either, where users can choose it."""
        body = b'{"notification":{"devices":[{"app_id":"a","pushkey":"b","data":{"x":1e400}}],"content":{"y":1e400}}}'
        found = read(body)
        self.assertEqual((found.devices[0].data, found.event.content), (None, {}))

    def test_ids(self) -> None:
        """An id that is far too long is the homeserver's mistake, and not that of a pushkey."""
        for name in ("event_id", "room_id"):
            self.assertEqual(getattr(request(**{name: "!" * 1_024}).event, name), "!" * 1_024)
            with self.assertRaisesRegex(Malformed, rf"notification\.{name}: .*length <= 1024"):
                request(device(), **{name: "!" * 1_025})

    def test_not_private(self) -> None:
        """Neither what people write nor a pushkey is in a representation."""
        found = request(device())
        for each in (found.event, found.devices[0]):
            self.assertNotRegex(repr(each), "peculiar|Tom|qqqq")

    def test_deep(self) -> None:
        """What is nested too deeply is malformed, and no more."""
        with self.assertRaises(Malformed):
            read(b'{"notification":{"devices":[],"content":' + b"[" * 200_000)


class IdentityTests(SynchronousTestCase):
    """Which requests repeat each other."""

    def test_same(self) -> None:
        """The order of keys and what may change do not matter."""
        first = one(data={"a": 1, "b": {"c": 2, "d": 3}}, pushkey_ts=1, tweaks={"sound": "x"})
        second = one(data={"b": {"d": 3, "c": 2}, "a": 1}, pushkey_ts=2)
        self.assertEqual(first.identity("$1"), second.identity("$1"))

    def test_different(self) -> None:
        """The event, the app, the pushkey and the data of the pusher do."""
        found = [one(), one(app_id="x"), one(token=BOB), one(data={"a": 1})]
        self.assertEqual(len({each.identity(event) for each in found for event in ("$1", "$2")}), 8)
        self.assertEqual(one(token=ANN).identity("$1"), found[0].identity("$1"))
