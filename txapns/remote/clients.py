"""
The two clients of the daemon, which drive the same generators.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

from txapns._session.tokens import Token, Tokens, Triple, checked, triples_of
from txapns.notification import Notification
from txapns.remote.asking import Attempt, Daemon, DaemonOutcome, DeadDevice, RecordedOutcome, Steps, shown
from txapns.remote.channels import AsyncChannels, Channels, broadcast
from txapns.remote.sending import Environment, Lane, Schedule, Sending, Submission
from txapns.result import Accepted, Outcomes, Rejection

__all__ = ["AsyncDaemonClient", "DaemonClient"]

if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")

#: How many notifications a request has at most.
CHUNK = 1_000
#: How long a connection may take, in seconds.
_CONNECT = 5.0


class _Client:
    def __init__(
        self,
        addresses: str | Sequence[str],
        *,
        app: str,
        key: str | None = None,
        key_file: str | os.PathLike[str] | None = None,
        trust_root: str | None = None,
        patience: float = 60.0,
    ) -> None:
        listed = [addresses] if isinstance(addresses, str) else list(addresses)
        if not listed or not all(each.startswith(("http://", "https://")) for each in listed):
            raise ValueError("the address of a daemon is a URL, such as http://127.0.0.1:8080")
        if key is not None and key_file is not None:
            raise ValueError("give either key or key_file")
        self._key = key if key_file is None else Path(key_file).read_text(encoding="utf-8").strip()
        self._verify = True if trust_root is None else ssl.create_default_context(cadata=trust_root)
        self._daemon = Daemon([address.rstrip("/") for address in listed], app, patience)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._daemon.app} at {', '.join(map(shown, self._daemon.addresses))}>"

    @property
    def _options(self) -> dict[str, Any]:
        headers = {} if self._key is None else {"Authorization": f"Bearer {self._key}"}
        return {"headers": headers, "verify": self._verify}


def _arguments(attempt: Attempt) -> dict[str, Any]:
    request = attempt.request
    headers = {} if request.content is None else {"Content-Type": "application/json"}
    if request.key is not None:
        headers |= {"Idempotency-Key": request.key, "Prefer": f"wait={attempt.held}"}
    return {
        "method": request.method,
        "url": attempt.address + request.path,
        "params": request.parameters,
        "content": request.content,
        "headers": headers,
        "timeout": httpx.Timeout(attempt.timeout, connect=_CONNECT),
    }


class DaemonClient(_Client):
    """
    Hands notifications to the daemon, and waits. Threads may share it; a forked process makes its own connections.

    :param addresses: the URL of the daemon's HTTP API, or those of several nodes, which are tried in turn.
    :param app: the name of the app.
    :param key: the API key; left out for a daemon that asks for none.
    :param key_file: a file with the API key, instead of ``key``.
    :param trust_root: PEM of the certificate authorities to trust, for ``https``; left out, the platform's.
    :param patience: for how long a request is tried, in seconds. An attempt is waited for as long as that, though for 5
        seconds at least, and for 60 at most.
    :raises ValueError: an address is not a URL, or there is none, or both a key and a file are given.
    :raises OSError: the file cannot be read.
    """

    _http: httpx.Client | None = None
    _pid = 0

    @property
    def channels(self) -> Channels:
        """The app's broadcast channels."""
        return Channels(self._daemon, self._run)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; what the daemon has, it goes on sending."""
        http, self._http = self._http, None
        if http is not None and self._pid == os.getpid():
            http.close()

    def send(
        self,
        notification: Notification,
        tokens: Tokens,
        *,
        deadline: float | None = None,
        key: str | None = None,
        lane: Lane | None = None,
        environment: Environment | None = None,
    ) -> Outcomes:
        """
        Send one notification to many devices, and wait for the outcomes.

        :param notification: what to send.
        :param tokens: as for :meth:`txapns.APNSClient.send`, but no async iterable.
        :param deadline: after this many seconds what still waits at the daemon is reported as uncertain; it is sent
            nevertheless.
        :param key: identifies the batch. If the program sends it again with the same key, what the daemon had taken is
            not sent again; left out, a new one.
        :param lane: what goes first at the daemon: ``"urgent"``, ``"normal"`` or ``"bulk"``; left out, the daemon
            chooses by the size of each request and its priority.
        :param environment: of an app with two sides, the one that the devices are of: ``"production"`` or
            ``"sandbox"``; left out, the daemon finds out.
        :returns: the outcomes. What the daemon could not be given is unsent; what it may have taken is uncertain.
        :raises TokensFailed: the iterable raised an exception.
        :raises TypeError: an argument has the wrong type.
        """
        return self.send_many(
            _triples(notification, tokens), deadline=deadline, key=key, lane=lane, environment=environment
        )

    def send_many(
        self,
        triples: Iterable[Triple],
        *,
        deadline: float | None = None,
        key: str | None = None,
        lane: Lane | None = None,
        environment: Environment | None = None,
    ) -> Outcomes:
        """
        Send each device its own notification, and wait for the outcomes.

        :param triples: an iterable of ``(identifier, Notification, token)``.
        :param deadline: as for :meth:`send`.
        :param key: as for :meth:`send`.
        :param lane: as for :meth:`send`.
        :param environment: as for :meth:`send`.
        :returns: the outcomes.
        :raises: the same as :meth:`send`.
        """
        return self._send(Sending(self._daemon, True, key, lane, environment, deadline), triples).outcomes()

    def send_one(
        self,
        notification: Notification,
        token: Token,
        *,
        key: str | None = None,
        lane: Lane | None = None,
        environment: Environment | None = None,
    ) -> Accepted | Rejection:
        """
        Send one notification to one device, and wait for the outcome.

        :param notification: what to send.
        :param token: the device token, hexadecimal text or raw bytes.
        :param key: as for :meth:`send`.
        :param lane: as for :meth:`send`.
        :param environment: as for :meth:`send`.
        :returns: the outcome.
        :raises InvalidToken: the token cannot be sent.
        :raises OutcomeUnknown: no answer came.
        :raises APNSError: any other: it was not sent.
        """
        sending = Sending(self._daemon, True, key, lane, environment)
        return self._send(sending, [(0, checked(notification), token)]).single(token)

    def broadcast(
        self,
        notification: Notification,
        channel_id: str,
        *,
        key: str | None = None,
        environment: Environment | None = None,
    ) -> Accepted | Rejection:
        """
        Send one notification to a channel, and wait for the outcome; see :meth:`txapns.APNSClient.broadcast`.

        :param notification: what to send. Its topic, if it has one, is the app's bundle id.
        :param channel_id: the channel's identifier.
        :param key: as for :meth:`send`.
        :param environment: of an app with two sides, the one that has the channel; left out, production.
        :returns: the outcome, with ``channel_id`` as the identifier.
        :raises InvalidChannel: the channel cannot be sent.
        :raises OutcomeUnknown: no answer came.
        :raises APNSError: any other: it was not sent.
        """
        return self._run(broadcast(self._daemon, notification, channel_id, key, environment))

    def submit(
        self,
        notification: Notification,
        tokens: Tokens,
        *,
        key: str | None = None,
        not_before: float | timedelta | datetime | None = None,
        rate: int | None = None,
        lane: Lane | None = None,
        environment: Environment | None = None,
    ) -> Submission:
        """
        Hand one notification for many devices over, and do not wait for the outcomes.

        :param notification: what to send.
        :param tokens: as for :meth:`send`.
        :param key: as for :meth:`send`. For a batch of more than 1,000 devices with a ``rate``, give ``not_before``,
            too, and the same if the program sends it again.
        :param not_before: the daemon sends none of it before: a time from now, a datetime with a time zone, or UNIX
            seconds, up to 30 days ahead; left out, it begins at once.
        :param rate: to how many devices a second it sends it, at most, so that the program's servers are not called by
            all of them at once; left out, as fast as possible.
        :param lane: as for :meth:`send`.
        :param environment: as for :meth:`send`.
        :returns: what is on the daemon's disk, and what is not.
        :raises: the same as :meth:`send`.
        """
        sending = Sending(self._daemon, False, key, lane, environment, schedule=Schedule.of(not_before, rate))
        return self._send(sending, _triples(notification, tokens)).submission()

    def outcome(self, apns_id: str) -> DaemonOutcome | None:
        """
        Ask for the outcome of a notification.

        :param apns_id: its id.
        :returns: the outcome; ``None`` if there is none with this id, or it is no longer kept.
        :raises APNSError: the daemon cannot be asked, or refuses.
        """
        return self._run(self._daemon.outcome(apns_id))

    def feedback(self, after: int = 0) -> Iterator[DeadDevice]:
        """
        Read the dead tokens that the daemon knows, oldest first, up to the present.

        :param after: where to begin: the ``cursor`` of the last one that was handled, or 0.
        :returns: an iterator.
        :raises APNSError: (by the iterator) the daemon cannot be asked, or refuses.
        """
        while dead := self._run(self._daemon.dead(after)):
            yield from dead
            after = dead[-1].cursor

    def outcomes(self, after: int = 0) -> Iterator[RecordedOutcome]:
        """
        Read what became of the app's notifications, whoever sent them, up to the present.

        The daemon records that if the app has ``outcomes = true``.

        :param after: where to begin: the ``cursor`` of the last one that was handled, or 0.
        :returns: an iterator.
        :raises APNSError: (by the iterator) the daemon cannot be asked, or refuses: :exc:`DaemonRefused` with the code
            ``not_recorded`` if it records none.
        """
        while found := self._run(self._daemon.outcomes(after)):
            yield from found
            after = found[-1].cursor

    def _send(self, sending: Sending, triples: Iterable[Triple]) -> Sending:
        iterator = iter(triples)
        failure: Exception | None = None
        while failure is None:
            chunk: list[Triple] = []
            try:
                for identifier, notification, token in islice(iterator, CHUNK):
                    chunk.append((identifier, checked(notification), token))
            except Exception as error:  # the caller's iterable raised it, or returned something wrong
                failure = error
            if chunk:
                self._run(sending.hand_over(chunk))
            elif failure is None:
                return sending
        raise sending.failed(failure) from failure

    def _run(self, steps: Steps[T]) -> T:
        """Take the steps."""
        advance: Callable[[], Any] = steps.__next__
        try:
            while True:
                step = advance()
                if isinstance(step, float):
                    time.sleep(step)
                    advance = steps.__next__
                    continue
                try:
                    advance = partial(steps.send, self._connected().request(**_arguments(step)))
                except httpx.TransportError as error:
                    advance = partial(steps.throw, error)
        except StopIteration as end:
            result: T = end.value
            return result

    def _connected(self) -> httpx.Client:
        if self._http is None or self._pid != os.getpid():
            self._pid = os.getpid()
            self._http = httpx.Client(**self._options)
        return self._http


def _triples(notification: Notification, tokens: Tokens) -> Iterable[Triple]:
    triples = triples_of(notification, tokens)
    if isinstance(triples, AsyncIterable):
        raise TypeError("a blocking client cannot read an async iterable; AsyncDaemonClient can")
    return triples


class AsyncDaemonClient(_Client):
    """
    Hands notifications to the daemon, in coroutines of asyncio. It belongs to one event loop.

    The arguments are those of :class:`DaemonClient`, and so are the methods' arguments and results. Tokens may also
    come from async iterables.
    """

    _http: httpx.AsyncClient | None = None

    @property
    def channels(self) -> AsyncChannels:
        """The app's broadcast channels."""
        return AsyncChannels(self._daemon, self._run)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; what the daemon has, it goes on sending."""
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()

    async def send(
        self,
        notification: Notification,
        tokens: Tokens,
        *,
        deadline: float | None = None,
        key: str | None = None,
        lane: Lane | None = None,
        environment: Environment | None = None,
    ) -> Outcomes:
        """Send one notification to many devices, and wait for the outcomes; see :meth:`DaemonClient.send`."""
        return await self.send_many(
            triples_of(notification, tokens), deadline=deadline, key=key, lane=lane, environment=environment
        )

    async def send_many(
        self,
        triples: Iterable[Triple] | AsyncIterable[Triple],
        *,
        deadline: float | None = None,
        key: str | None = None,
        lane: Lane | None = None,
        environment: Environment | None = None,
    ) -> Outcomes:
        """Send each device its own notification; see :meth:`DaemonClient.send_many`."""
        sending = Sending(self._daemon, True, key, lane, environment, deadline)
        return (await self._send(sending, triples)).outcomes()

    async def send_one(
        self,
        notification: Notification,
        token: Token,
        *,
        key: str | None = None,
        lane: Lane | None = None,
        environment: Environment | None = None,
    ) -> Accepted | Rejection:
        """Send one notification to one device; see :meth:`DaemonClient.send_one`."""
        sending = Sending(self._daemon, True, key, lane, environment)
        return (await self._send(sending, [(0, checked(notification), token)])).single(token)

    async def broadcast(
        self,
        notification: Notification,
        channel_id: str,
        *,
        key: str | None = None,
        environment: Environment | None = None,
    ) -> Accepted | Rejection:
        """Send one notification to a channel; see :meth:`DaemonClient.broadcast`."""
        return await self._run(broadcast(self._daemon, notification, channel_id, key, environment))

    async def submit(
        self,
        notification: Notification,
        tokens: Tokens,
        *,
        key: str | None = None,
        not_before: float | timedelta | datetime | None = None,
        rate: int | None = None,
        lane: Lane | None = None,
        environment: Environment | None = None,
    ) -> Submission:
        """Hand one notification for many devices over; see :meth:`DaemonClient.submit`."""
        sending = Sending(self._daemon, False, key, lane, environment, schedule=Schedule.of(not_before, rate))
        return (await self._send(sending, triples_of(notification, tokens))).submission()

    async def outcome(self, apns_id: str) -> DaemonOutcome | None:
        """Ask for the outcome of a notification; see :meth:`DaemonClient.outcome`."""
        return await self._run(self._daemon.outcome(apns_id))

    async def feedback(self, after: int = 0) -> AsyncIterator[DeadDevice]:
        """Read the dead tokens that the daemon knows; see :meth:`DaemonClient.feedback`."""
        while dead := await self._run(self._daemon.dead(after)):
            for each in dead:
                yield each
            after = dead[-1].cursor

    async def outcomes(self, after: int = 0) -> AsyncIterator[RecordedOutcome]:
        """Read what became of the app's notifications; see :meth:`DaemonClient.outcomes`."""
        while found := await self._run(self._daemon.outcomes(after)):
            for each in found:
                yield each
            after = found[-1].cursor

    async def _send(self, sending: Sending, triples: Iterable[Triple] | AsyncIterable[Triple]) -> Sending:
        iterator = aiter(triples) if isinstance(triples, AsyncIterable) else _iterated(triples)
        failure: Exception | None = None
        while failure is None:
            chunk: list[Triple] = []
            try:
                async for identifier, notification, token in iterator:
                    chunk.append((identifier, checked(notification), token))
                    if len(chunk) == CHUNK:
                        break
            except Exception as error:  # the caller's iterable raised it, or returned something wrong
                failure = error
            if chunk:
                await self._run(sending.hand_over(chunk))
            elif failure is None:
                return sending
        raise sending.failed(failure) from failure

    async def _run(self, steps: Steps[T]) -> T:
        """Take the steps."""
        advance: Callable[[], Any] = steps.__next__
        try:
            while True:
                step = advance()
                if isinstance(step, float):
                    await asyncio.sleep(step)
                    advance = steps.__next__
                    continue
                try:
                    advance = partial(steps.send, await self._connected().request(**_arguments(step)))
                except httpx.TransportError as error:
                    advance = partial(steps.throw, error)
        except StopIteration as end:
            result: T = end.value
            return result

    def _connected(self) -> httpx.AsyncClient:
        if self._http is None:
            self._http = httpx.AsyncClient(**self._options)
        return self._http


async def _iterated(items: Iterable[T]) -> AsyncIterator[T]:
    for item in items:
        yield item
