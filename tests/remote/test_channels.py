"""Tests for :mod:`txapns.remote.channels`: broadcasts and channels by way of a daemon in a process of its own."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import httpx
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.channels_world import UNKNOWN
from tests.daemon.fakes import key_of
from tests.remote.front import Front
from tests.remote.test_clients import DaemonCase
from txapns import Accepted, Channel, Notification, Rejection, StoragePolicy
from txapns.errors import (
    ConnectFailed,
    DaemonRefused,
    InvalidChannel,
    InvalidNotification,
    OutcomeUnknown,
    RequestRejected,
)
from txapns.remote import AsyncDaemonClient
from txapns.remote.asking import Daemon
from txapns.remote.channels import Channels
from txapns.remote.sending import Environment

__all__ = ["AskTests", "ClientTests"]

UPDATE = Notification.live_activity_update("com.example.chess", {"white": "Nf3"}, priority=5)


class ClientTests(DaemonCase):
    """``client.broadcast`` and ``client.channels``."""

    def test_broadcast(self) -> None:
        """A broadcast is accepted or rejected, as one that is sent directly; what cannot be sent is raised."""
        client, own = self.client(), uuid.uuid4()
        accepted = client.broadcast(UPDATE.with_apns_id(own), "AbCd")
        assert isinstance(accepted, Accepted)
        self.assertEqual((accepted.identifier, accepted.token, accepted.apns_id), ("AbCd", "", str(own)))
        outcome = client.outcome(str(own))
        assert outcome is not None
        self.assertEqual((outcome.state, accepted.unique_id), ("accepted", outcome.unique_id))
        rejection = client.broadcast(UPDATE, UNKNOWN)
        assert isinstance(rejection, Rejection)
        self.assertEqual((rejection.identifier, rejection.reason), (UNKNOWN, "ChannelNotRegistered"))
        self.assertRaises(InvalidChannel, client.broadcast, UPDATE, "a b")
        self.assertRaises(DaemonRefused, self.client(app="checkers").broadcast, UPDATE, "AbCd")

    def test_answer_lost(self) -> None:
        """When an answer is lost the same request is asked again, with the caller's key or a new one."""
        front = Front(self.url)
        front.start(self)
        front.faults.extend(["lose", 503])
        own = uuid.uuid4()
        self.client(front.url).broadcast(UPDATE.with_apns_id(own), "AbCd")
        self.assertEqual((len(front.keys), len(set(front.keys))), (3, 1))
        self.client(front.url).broadcast(UPDATE, "AbCd", key="goal 2")
        self.assertEqual(front.keys[-1], "goal 2")

    def test_life(self) -> None:
        """A channel is made, listed, read and deleted."""
        channels = self.client().channels
        before = channels.list()
        one = channels.create()
        other = channels.create(StoragePolicy.MOST_RECENT_MESSAGE_STORED)
        self.assertEqual((one.storage_policy, other.storage_policy, one.push_type), (0, 1, "LiveActivity"))
        self.assertEqual(channels.read(other.channel_id), other)
        self.assertEqual(channels.list(), [*before, one.channel_id, other.channel_id])
        for each in (one, other):
            channels.delete(each.channel_id)
        self.assertEqual(channels.list(), before)

    def test_environment(self) -> None:
        """Each side of an app with two has channels, and broadcasts, of its own."""
        client = self.client(app="play")
        channels = client.channels
        before = channels.list()
        one, other = channels.create(environment="sandbox"), channels.create()
        self.assertEqual(channels.list(environment="sandbox"), [one.channel_id])
        for production in (channels.list(environment="production"), channels.list()):
            self.assertEqual(production, [*before, other.channel_id])
        self.assertEqual(channels.read(one.channel_id, environment="sandbox"), one)
        self.assertRaises(RequestRejected, channels.read, one.channel_id)
        sides: tuple[Environment, ...] = ("sandbox", "production")
        for environment in sides:
            accepted = client.broadcast(UPDATE, "AbCd", environment=environment)
            outcome = client.outcome(str(accepted.apns_id))
            assert outcome is not None
            self.assertEqual((outcome.environment, outcome.channel), (environment, "AbCd"))
        channels.delete(one.channel_id, environment="sandbox")
        self.assertEqual(channels.list(environment="sandbox"), [])
        self.assertRaises(DaemonRefused, self.client().broadcast, UPDATE, "AbCd", environment="sandbox")

    def test_refused(self) -> None:
        """What Apple rejects is an exception with its reason, as with the client that asks directly."""
        channels = self.client().channels
        self.assertEqual(self.assertRaises(RequestRejected, channels.read, UNKNOWN).reason, "ChannelNotRegistered")
        error = self.assertRaises(RequestRejected, channels.create, push_type="Alert")
        self.assertEqual((error.status, error.reason), (0, "InvalidPushType"))
        self.assertRaises(InvalidNotification, channels.create, "latest")
        self.assertRaises(DaemonRefused, self.client(key="txapns_wrong").channels.list)

    def test_made_once(self) -> None:
        """If the answer is lost, no second channel is made; if the daemon asks to wait, it is asked again."""
        front = Front(self.url)
        front.start(self)
        front.faults.append(503)
        channels = self.client(front.url).channels
        before = self.client().channels.list()
        channels.create()
        front.faults.append("lose")
        self.assertRaises(OutcomeUnknown, channels.create)
        self.assertEqual(len(self.client().channels.list()), len(before) + 2)

    def test_async(self) -> None:
        """The methods for coroutines have the same results."""

        async def main() -> None:
            async with AsyncDaemonClient(self.url, app="chess", key=key_of("all")) as client:
                channel = await client.channels.create(1)
                self.assertIsInstance(channel, Channel)
                self.assertEqual(await client.channels.read(channel.channel_id), channel)
                self.assertIn(channel.channel_id, await client.channels.list())
                self.assertIsInstance(await client.broadcast(UPDATE, channel.channel_id), Accepted)
                await client.channels.delete(channel.channel_id)
                self.assertNotIn(channel.channel_id, await client.channels.list())

        asyncio.run(asyncio.wait_for(main(), 30))


class AskTests(SynchronousTestCase):
    """What becomes of requests that are not answered, by a daemon that is not asked for real."""

    def run_with(self, *answers: httpx.Response | httpx.TransportError) -> Any:
        """Take steps, with these answers one after the other."""
        given = list(answers)

        def run(steps: Any) -> Any:
            step = next(steps)
            while True:
                try:
                    if isinstance(step, float):
                        step = next(steps)
                        continue
                    answer = given.pop(0)
                    step = steps.throw(answer) if isinstance(answer, Exception) else steps.send(answer)
                except StopIteration as end:
                    return end.value

        return Channels(Daemon(["http://127.0.0.1"], "chess", 1e6), run)

    def test_no_answer(self) -> None:
        """If Apple's answer is lost, making a channel is not repeated, and the rest is."""
        lost = httpx.Response(504, json={"error": {"code": "no_answer", "message": "no answer"}})
        self.assertRaises(OutcomeUnknown, self.run_with(lost).create)
        self.assertRaises(OutcomeUnknown, self.run_with(httpx.ReadTimeout("too late")).create)
        self.assertEqual(self.run_with(lost, httpx.Response(200, json={"channels": ["AbCd"]})).list(), ["AbCd"])
        self.assertIsNone(self.run_with(lost, httpx.Response(204)).delete("AbCd"))

    def test_not_asked(self) -> None:
        """What was not done is repeated, making a channel as well."""
        made = httpx.Response(201, json={"channel": "AbCd", "storage_policy": 0, "push_type": "LiveActivity"})
        self.assertEqual(self.run_with(httpx.ConnectError("refused"), made).create().channel_id, "AbCd")
        daemon = Daemon(["http://127.0.0.1"], "chess", 0.0)
        self.assertRaises(ConnectFailed, Channels(daemon, self.run_with(httpx.ConnectError("no"))._run).list)
