"""Tests for :mod:`txapns.daemon.sending.handing`: broadcasts, from the queue to Apple and back."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.daemon.dispatch_world import DEAD, START, DispatcherCase, token
from txapns._session.batch import SendCancelled
from txapns.daemon.sending.handing import send
from txapns.daemon.sending.preparing import prepare
from txapns.daemon.values import Content, Leased, Limits, State
from txapns.simulator.http2 import Response
from txapns.wire.requests import Request

__all__ = ["BroadcastTests", "SendTests"]

UPDATE = b'{"aps":{"event":"update","timestamp":1700000000,"content-state":{"home":1}}}'
FIELDS = {"push_type": "liveactivity", "expiration": "0", "priority": "10"}


class HandingCase(DispatcherCase):
    """A dispatcher, and a channel."""

    started = {"timeout": 5.0}  # noqa: RUF012  # read only

    def setUp(self) -> None:
        """Make the channel."""
        super().setUp()
        self.channel = self.world.simulator.channels.make(self.world.simulator.topic, 0)

    def cast(self, channel: str | None = None, **headers: str) -> str:
        """Accept a broadcast; returns its id."""
        fields: dict[str, Any] = {**FIELDS, "channel_id": channel or self.channel, **headers}
        [apns_id] = self.world.accept(tokens=[b""], payload=UPDATE, **fields)
        return apns_id

    def received(self) -> Counter[str]:
        """How often each broadcast came to the simulator."""
        receptions = self.world.simulator.inbox.received
        return Counter([each.headers["apns-request-id"] for each in receptions if each.protocol == "broadcast"])


class BroadcastTests(HandingCase):
    """What becomes of broadcasts."""

    def test_accepted(self) -> None:
        """A broadcast is sent to its channel under its id, and settled; devices of the same chunk are served, too."""
        ids = self.world.accept(2)
        one, other = self.cast(), self.cast()
        self.world.advance(0.5)
        self.assertEqual(self.received(), {one: 1, other: 1})
        self.assertEqual(self.states([*ids, one, other]), [State.ACCEPTED] * 4)
        [sent, _] = [each for each in self.world.simulator.inbox.received if each.protocol == "broadcast"]
        self.assertEqual((sent.payload, sent.headers["apns-channel-id"], sent.reason), (UPDATE, self.channel, None))
        self.assertNotIn("apns-id", sent.headers)
        self.assertEqual((self.world.state().sent, self.world.state().accepted), (4, 4))

    def test_rejected(self) -> None:
        """Apple's rejection is the outcome; a channel that is gone is no dead token."""
        gone, bad = self.cast("dW5rbm93bg=="), self.cast("=")
        [dead] = self.world.accept(tokens=[DEAD])
        self.world.advance(0.5)
        outcomes = [self.world.outcome(each) for each in (gone, bad, dead)]
        self.assertEqual(
            [(each.state, each.status, each.reason) for each in outcomes],
            [
                (State.REJECTED, 400, "ChannelNotRegistered"),
                (State.REJECTED, 400, "BadChannelId"),
                (State.REJECTED, 410, "Unregistered"),
            ],
        )
        self.assertEqual([each.token for each in self.world.result(self.world.log.after(None, 0, 10))], [DEAD])

    def test_retried(self) -> None:
        """What Apple wants later is sent later, under the same id, and is a dead letter after too many attempts."""
        answers = [Response(429, "TooManyRequests"), Response(503, "ServiceUnavailable")]
        self.answer(lambda request: answers.pop(0) if answers else None)
        one = self.cast()
        self.world.drain()
        self.assertEqual(self.received(), {one: 3})
        outcome = self.world.outcome(one)
        self.assertEqual((outcome.state, outcome.attempts), (State.ACCEPTED, 3))

    def test_given_up(self) -> None:
        """After as many attempts as the app may have, a broadcast is a dead letter."""
        self.answer(lambda request: Response(429, "TooManyRequests"))
        self.world.add_app("chess", limits=Limits(attempts=2))
        one = self.cast()
        self.world.drain()
        outcome = self.world.outcome(one)
        self.assertEqual((outcome.state, outcome.reason, outcome.attempts), (State.DEAD, "TooManyRequests", 2))

    def test_uncertain(self) -> None:
        """If no answer comes, the attempt counts, and the broadcast is sent again under the same id."""
        lost: list[Request] = []

        def lose(server: Any, request: Request, response: Response) -> Response | None:
            if lost:
                return response
            lost.append(request)
            server.take(request)
            server.abort()
            return None

        self.world.simulator.http2_fault = lose
        one = self.cast()
        self.world.drain()
        self.assertEqual(self.received(), {one: 2})
        self.assertEqual(self.world.outcome(one).attempts, 2)
        self.assertEqual(self.world.queue.uncertain, {one: 1})

    def test_gateway_down(self) -> None:
        """While there is no connection no attempt counts, and afterwards the broadcast is sent."""
        servers = self.world.simulator.reactor.servers
        server = servers.pop(2197)
        one = self.cast()
        self.world.advance(20.0)
        self.assertFalse(self.world.state().tripped)
        self.assertNotEqual(self.world.state().reason, "")
        servers[2197] = server
        self.world.drain(120.0)
        self.assertEqual((self.received(), self.world.outcome(one).attempts), ({one: 1}, 1))

    def test_crash(self) -> None:
        """What was under way when the dispatcher was lost is sent again under its id."""
        self.world.simulator.http2_fault = lambda server, request, response: None
        one = self.cast()
        self.world.advance(0.5)
        self.world.simulator.http2_fault = None
        self.world.crash(timeout=5.0)
        self.world.drain()
        self.assertEqual((self.received(), self.states([one])), ({one: 1}, [State.ACCEPTED]))

    def test_other_gateway(self) -> None:
        """If the app's gateway has become one without broadcasts, the broadcast is rejected, and says so."""
        self.world.add_app("chess", gateway=self.world.simulator.gateway("binary"))
        one = self.cast()
        self.world.drain()
        outcome = self.world.outcome(one)
        self.assertEqual((outcome.state, outcome.status, outcome.reason), (State.REJECTED, 0, "InvalidGateway"))


class SendTests(HandingCase):
    """The batch that comes of a chunk."""

    def leased(self, number: int, **headers: str) -> Leased:
        """Make a notification for a device, or with a channel a broadcast."""
        content = Content("chess", {f"apns-{name}-id": value for name, value in headers.items()})
        apns_id = f"00000000-0000-4000-8000-{number:012}"
        return Leased(number, content, UPDATE, b"" if headers else token(number), apns_id, 0, START, START)

    def test_together(self) -> None:
        """What goes to devices and what goes to channels is one batch, with each as its own identifier."""
        good, bad, device = self.leased(1, channel=self.channel), self.leased(2, channel="="), self.leased(3)
        self.world.simulator.environment = "sandbox"
        client = self.world.simulator.client(credential=self.world.simulator.provider_token())
        batch = self.world.result(send(client, prepare([good, bad, device], None, START)))
        self.assertEqual((batch.accepted, batch.total, list(batch.failed)), (2, 3, [bad]))
        self.assertEqual(list(batch.unique_ids), [device])
        self.world.result(client.close())

    def test_cancelled(self) -> None:
        """If the batch is cancelled, nothing of it is sent any more."""
        self.world.simulator.reactor.servers.clear()
        client = self.world.simulator.client()
        broadcast = self.leased(1, channel=self.channel)
        both = send(client, prepare([broadcast, self.leased(2)], None, START))
        alone = send(client, prepare([broadcast], None, START))
        for sending in (both, alone):
            sending.cancel()
        self.failureResultOf(both, SendCancelled)
        self.assertEqual(list(self.successResultOf(alone).unsent), [broadcast])
        self.assertEqual(client.status().queued, 0)
        self.world.result(client.close())
