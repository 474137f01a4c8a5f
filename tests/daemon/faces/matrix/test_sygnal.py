"""Payloads for Matrix against those of Sygnal, where that is installed."""

from __future__ import annotations

import json
import logging
from importlib.util import find_spec
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txapns.daemon.faces.matrix.payloads import payload_of
from txapns.daemon.faces.matrix.requests import read

__all__ = ["SygnalTests"]

pytestmark = pytest.mark.skipif(find_spec("sygnal") is None, reason="Sygnal is not installed")

TEXT = st.text(min_size=1, max_size=20) | st.text(min_size=1, max_size=3).map(lambda text: text * 500)
CONTENT = st.fixed_dictionaries(
    {},
    optional={
        "msgtype": st.sampled_from(["m.text", "m.emote", "m.image", "m.file"]),
        "body": TEXT,
        "offer": st.fixed_dictionaries({"sdp": st.sampled_from(["m=video", "m=audio"])}),
    },
)
TYPES = ["m.room.message", "m.room.encrypted", "m.call.invite", "m.room.member", "com.example.other"]
EVENT = {
    "room_id": TEXT,
    "type": st.sampled_from(TYPES),
    "sender": TEXT,
    "sender_display_name": TEXT,
    "room_name": TEXT,
    "room_alias": TEXT,
    "user_is_target": st.booleans(),
    "membership": st.sampled_from(["invite", "join"]),
    "content": CONTENT,
    "counts": st.fixed_dictionaries({"unread": st.integers(0, 9)}, optional={"missed_calls": st.integers(0, 9)}),
}
APS = {"mutable-content": st.just(1), "badge": st.just(7), "alert": st.fixed_dictionaries({"title": TEXT})}
DEFAULT = st.fixed_dictionaries({"aps": st.fixed_dictionaries({}, optional=APS)}, optional={"account": TEXT})


class SygnalTests(SynchronousTestCase):
    """What the daemon sends for a request, and what Sygnal sends."""

    def by_sygnal(self, notification: dict[str, Any], *, counts: bool) -> dict[str, Any] | None:
        """Make a payload as Sygnal does."""
        from sygnal.apnspushkin import ApnsPushkin
        from sygnal.notifications import Notification
        from sygnal.utils import NotificationLoggerAdapter

        pushkin = object.__new__(ApnsPushkin)
        found = Notification(notification)
        [device] = found.devices
        if found.event_id and not found.type:
            default = (device.data or {}).get("default_payload", {})
            return dict(pushkin._get_payload_event_id_only(found, default, counts))
        log = NotificationLoggerAdapter(logging.getLogger(), {"request_id": "1"})
        payload = pushkin._get_payload_full(found, device, log, counts)
        return None if payload is None else dict(payload)

    @settings(deadline=None, max_examples=500)
    @given(st.fixed_dictionaries({}, optional=EVENT), st.none() | DEFAULT, st.booleans(), st.booleans())
    def test_same(self, event: dict[str, Any], default: dict[str, Any] | None, about_event: bool, counts: bool) -> None:
        """They are the same, but for what docs/matrix.rst says."""
        if about_event:
            event = {"event_id": "$1", **event}
        elif "type" not in event:
            event = {"counts": {"unread": 0}, **event}
        data = {} if default is None else {"default_payload": default}
        notification = {**event, "devices": [{"app_id": "a", "pushkey": "b", "data": data}]}
        request = read(json.dumps({"notification": notification}).encode())
        payload = payload_of(request.event, request.devices[0], counts=counts)
        self.assertEqual(payload, self.by_sygnal(notification, counts=counts))
