"""
Dead tokens and outcomes, sent to another program as they become known.

::

    POST /the/path HTTP/1.1
    Content-Type: application/json
    Txapns-Timestamp: 1700000000
    Txapns-Signature: v1=0d7c…

    {"dead_tokens": [{"cursor": 17, "app": "chess", "token": "0a1b…", "reason": "Unregistered",
                      "timestamp": 1699990000.0, "noted_at": 1700000000.0}]}

:mod:`txapns.daemon.sending.webhook_events` says what bodies there are. The signature is the HMAC-SHA256, in
hexadecimal, of the timestamp, a full stop and the body, with a secret that both sides know. The receiver computes the
same, compares the two in constant time, and rejects what is older than a few minutes. So nobody else can send it
anything, and a recorded request soon becomes worthless.

Any status from 200 to 299 confirms that the receiver has stored what it got. Only then does the webhook's position in
the log move on. The position is in the database: after any failure, and after a restart, the same entries are sent
again, after growing pauses. So the receiver may get an entry twice, with the same app and cursor, and misses none that
is not forgotten. Dead tokens and outcomes take turns, so that many of the one do not hold up the other.

Where several nodes share the store, one of them at a time has the duty of a webhook. When that node stops or dies,
another goes on at the webhook's positions.
"""

from __future__ import annotations

import hashlib
import hmac
import random
from collections.abc import Callable, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import Cooperator
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import FileBodyProducer, ResponseFailed
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IResponse

from txapns._network.alarm import Alarm
from txapns._network.backoff import Backoff
from txapns._network.clocks import wall_clock
from txapns._network.http_client import http_agent
from txapns._network.trust import platform_trust
from txapns._texts import first_line
from txapns.daemon.errors import ConfigurationError, DaemonError
from txapns.daemon.interfaces import IFeedbackLog, IOutcomeFeed
from txapns.daemon.secrets.master_key import read_private
from txapns.daemon.sending.webhook_events import DeadTokens, IEvents, Outcomes
from txapns.daemon.store.cluster import ICluster, SingleNode

__all__ = ["Webhook", "WebhookConfig", "WebhookState", "events_of", "read_secret", "sign"]

_log = Logger()

#: The first and the longest pause after a failure, in seconds.
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 900.0


@attrs.frozen
class WebhookConfig:
    """
    Where events are sent; ``[webhook.NAME]`` in ``contrib/apns.toml`` has the meaning of the other fields.

    :ivar url: where to POST. It may contain a secret, so it is not logged.
    :ivar secret: reads the secret of the signature; called each time that there may be something to send.
    """

    name: str
    url: str = attrs.field(repr=False)
    secret: Callable[[], bytes] = attrs.field(repr=False)
    apps: tuple[str, ...] = ()
    batch: int = 500
    timeout: float = 10.0
    give_up: float = 259_200.0
    events: tuple[str, ...] = ("feedback",)

    @property
    def reader(self) -> str:
        """The name of its positions, and of the duty to send."""
        return f"webhook:{self.name}"


@attrs.frozen
class WebhookState:
    """
    The state of a webhook.

    :ivar sent: how many dead tokens and outcomes were sent and confirmed since it began.
    :ivar failing_since: since when nothing is confirmed, by the reactor's clock; ``None`` if it works.
    :ivar gave_up: whether it has given up until the next start, or until the configuration is read again.
    """

    name: str
    sent: int = 0
    failing_since: float | None = None
    reason: str = ""
    gave_up: bool = False


def events_of(hook: WebhookConfig, feedback: IFeedbackLog, feed: IOutcomeFeed) -> list[IEvents]:
    """Tell what a webhook sends."""
    whose = hook.reader, hook.apps, hook.batch
    known: dict[str, IEvents] = {"feedback": DeadTokens(feedback, *whose), "outcomes": Outcomes(feed, *whose)}
    return [events for name, events in known.items() if name in hook.events]


def read_secret(path: Path) -> bytes:
    """
    Read the secret of a signature, which is the first line of a file.

    :raises ConfigurationError: the file cannot be read, can be read by others, or is empty.
    """
    secret = first_line(read_private(path))
    if not secret.strip():
        raise ConfigurationError(f"{path} is empty")
    return secret


def sign(secret: bytes, timestamp: int, body: bytes) -> str:
    """Compute the value of ``Txapns-Signature``, given the time in UNIX seconds."""
    return "v1=" + hmac.new(secret, b"%d." % timestamp + body, hashlib.sha256).hexdigest()


class _NotConfirmed(Exception):
    """The receiver did not confirm that it has stored what it got."""


class _Discarded(Protocol):
    """A body that is not read: the status is the answer, whatever the body says, and however long it is."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()


class Webhook:
    """
    Sends events to one receiver.

    :param events: what is sent; see :func:`events_of`.
    :param agent: sends the requests. The default verifies the receiver's certificate and follows no redirect.
    :param cluster: the nodes that share the logs; ``None`` if they cannot be shared.
    """

    def __init__(
        self,
        reactor: Any,
        events: Sequence[IEvents],
        hook: WebhookConfig,
        agent: IAgent | None = None,
        random: Callable[[], float] = random.random,
        cluster: ICluster | None = None,
    ) -> None:
        self._reactor = reactor
        self._wall = wall_clock(reactor)
        self._events = events
        self._hook = hook
        self._cluster = cluster or SingleNode(reactor)
        self._agent = agent or http_agent(reactor, platform_trust(), hook.timeout)
        self._cooperator = Cooperator(scheduler=partial(reactor.callLater, 0))  # the default is the global reactor's
        self._pauses = Backoff(FIRST_PAUSE, LONGEST_PAUSE, random=random)
        self._retry = Alarm(reactor, self.wake)
        self._running: Deferred[None] | None = None
        self._again = False
        self._stopped = True
        self._subscriptions: list[Callable[[], None]] = []
        self.state = WebhookState(hook.name)

    def backlog(self) -> Deferred[int]:
        """
        Count what is not sent yet.

        :returns: a ``Deferred`` of the number.
        :raises Unavailable: the database cannot be read now.
        """
        return Deferred.fromCoroutine(self._count())

    async def _count(self) -> int:
        return sum([await events.behind() for events in self._events])

    def start(self) -> None:
        """Begin to send, at first what was not confirmed before, then what is new."""
        self._stopped = False
        self._subscriptions = [events.subscribe(self.wake) for events in self._events]
        self._subscriptions.append(self._cluster.subscribe(self._cluster_changed))
        self.wake()

    def wake(self, app: str | None = None) -> None:
        """Look for something to send, unless there is a pause after a failure, or another node has the duty."""
        if app is not None and self._hook.apps and app not in self._hook.apps:
            return
        self._again = True
        if self._running is not None or self._retry.is_set or self._stopped or self.state.gave_up:
            return
        if self._owned:
            self._running = Deferred.fromCoroutine(self._send_all())
            self._running.addErrback(self._failed).addBoth(self._ended)

    def stop(self) -> None:
        """Stop sending. A request that is under way is cancelled, and sent again after the next start."""
        self._send_no_more()
        if self._running is not None:
            self._running.cancel()

    def retire(self) -> Deferred[None]:
        """
        Stop sending, but let a request that is under way have its answer, and store what that confirms.

        :returns: a ``Deferred`` that fires when nothing is under way any more.
        """
        self._send_no_more()
        ended: Deferred[None] = Deferred()
        if self._running is None:
            ended.callback(None)
        else:
            self._running.addCallback(ended.callback)
        return ended

    def _send_no_more(self) -> None:
        self._stopped = True
        self._retry.cancel()
        for unsubscribe in self._subscriptions:
            unsubscribe()
        self._subscriptions.clear()

    @property
    def duty(self) -> str:
        """The duty to send, which one node at a time has."""
        return self._hook.reader

    @property
    def _owned(self) -> bool:
        """Whether it is this node that sends."""
        return self._cluster.owns(self.duty)

    def _cluster_changed(self) -> None:
        """Go on where another node stopped, or leave it to another."""
        if self._owned:
            self.wake()
            return
        self._retry.cancel()
        self._pauses.reset()
        self.state = attrs.evolve(self.state, failing_since=None, reason="")
        if self._running is not None:
            self._running.cancel()

    async def _send_all(self) -> None:
        while self._again:
            self._again = False
            secret = self._hook.secret()
            while any([await self._send(events, secret) for events in self._events]):
                pass

    async def _send(self, events: IEvents, secret: bytes) -> bool:
        """Send the next report; returns whether there was one."""
        report = None if self._stopped else await events.take()
        if report is None or self._stopped:
            return False
        await self._post(report.body, secret)
        await report.confirm()
        self._succeeded(report.count)
        return True

    async def _post(self, body: bytes, secret: bytes) -> None:
        timestamp = int(self._wall.now())
        headers = Headers(
            {
                "Content-Type": ["application/json"],
                "User-Agent": ["txapns"],
                "Txapns-Timestamp": [str(timestamp)],
                "Txapns-Signature": [sign(secret, timestamp, body)],
            }
        )
        producer = FileBodyProducer(BytesIO(body), self._cooperator)
        posting: Deferred[IResponse] = self._agent.request(b"POST", self._hook.url.encode(), headers, producer)
        response = await posting.addTimeout(self._hook.timeout, self._reactor, _too_late)
        response.deliverBody(_Discarded())
        if 300 <= response.code < 400:
            raise _NotConfirmed(f"the receiver answered {response.code}; redirects are not followed")
        if not 200 <= response.code < 300:
            raise _NotConfirmed(f"the receiver answered {response.code}")

    def _succeeded(self, count: int) -> None:
        if self.state.failing_since is not None:
            _log.info("Webhook {name} works again", name=self._hook.name)
        self.state = WebhookState(self._hook.name, self.state.sent + count)
        self._pauses.reset()

    def _failed(self, failure: Failure) -> None:
        if self._stopped or not self._owned:
            return
        reason, now = _reason(failure), self._reactor.seconds()
        since = self.state.failing_since
        if since is None:
            since = now
            _log.warn("Webhook {name} fails: {reason}", name=self._hook.name, reason=reason)
        gave_up = now - since >= self._hook.give_up
        self.state = attrs.evolve(self.state, failing_since=since, reason=reason, gave_up=gave_up)
        if gave_up:
            _log.error(
                "Webhook {name} gives up until the next start or SIGHUP: {reason}", name=self._hook.name, reason=reason
            )
        else:
            self._retry.set(self._pauses.next_delay())

    def _ended(self, result: None) -> None:
        self._running = None
        if self._again:
            self.wake()


def _too_late(result: object, timeout: float) -> Failure:
    """Fail with the timeout, whatever the agent raises when it is cancelled."""
    return Failure(_NotConfirmed(f"the receiver did not answer within {timeout:g} s"))


def _reason(failure: Failure) -> str:
    """Describe a failure without the URL, which may contain a secret."""
    error = failure.value
    if isinstance(error, _NotConfirmed | DaemonError):
        return str(error)
    if isinstance(error, ResponseFailed) and error.reasons:
        return f"the connection broke off ({error.reasons[0].type.__name__})"
    return f"the receiver cannot be reached ({type(error).__name__})"
