"""The Apple face, with apps that have channels at the simulator."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.channels_world import APP, UPDATE, ChannelsWorld
from tests.daemon.faces.apple.face_case import Caller, Said
from txapns.daemon.config.sections import AppleSection
from txapns.daemon.faces.apple.face import Apple

__all__ = ["BROADCAST", "FIELDS", "MANAGE", "ChannelsCase"]

BROADCAST = f"/4/broadcasts/apps/{APP}"
MANAGE = f"/1/apps/{APP}/channels"
#: The header fields of a broadcast; there is no topic.
FIELDS = {"apns-topic": "-", "apns-push-type": "liveactivity", "apns-priority": "10", "apns-expiration": "0"}


class ChannelsCase(SynchronousTestCase):
    """A face with everything that it needs."""

    mode = "queue"

    def setUp(self) -> None:
        """Start it."""
        self.world = world = ChannelsWorld(Path(self.mktemp()))
        self.addCleanup(world.stop)
        options = AppleSection(mode=self.mode, wait=20.0)
        face = Apple(
            world.reactor, world.intake, world.apps, world.keys, world.log, options, world.limits, world.channels.of
        )
        self.caller = Caller(face)

    def begin(self, path: str, headers: Mapping[str, str], **more: Any) -> int:
        """Begin a request without a topic; returns its stream."""
        return self.caller.begin({"apns-topic": "-", **headers}, path=path, **more)

    def answer(self, stream: int, seconds: float = 0.05) -> Said:
        """Let time pass, and read the answer."""
        self.world.reactor.advance(seconds)
        said = self.caller.said(stream)
        assert said is not None, "there is no answer"
        return said

    def cast(self, headers: Mapping[str, str], path: str = BROADCAST, **more: Any) -> Said:
        """Broadcast; a field that is ``-`` is left out."""
        fields = {**FIELDS, "apns-channel-id": "AbCd", **headers}
        return self.answer(self.begin(path, fields, **{"body": UPDATE, **more}))

    def manage(self, method: str, headers: Mapping[str, str] | None = None, path: str = MANAGE, **more: Any) -> Said:
        """Ask about channels."""
        return self.answer(self.begin(path, headers or {}, method=method, **{"body": b"", **more}))

    def make_channel(self, policy: int = 0) -> str:
        """Make a channel; returns its identifier."""
        body = b'{"message-storage-policy":%d,"push-type":"LiveActivity"}' % policy
        said = self.manage("POST", body=body)
        assert (said.status, said.body) == (201, b""), said
        return said.headers["apns-channel-id"]
