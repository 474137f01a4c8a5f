"""
Identifiers in, one ``Deferred`` out.

A :class:`Sending` stands between the caller's iterable and the pool. It is asked for deliveries only when a connection
has room for them, pulls only that many tokens, and keeps nothing of what was accepted but the count. So a cursor over
ten million rows takes only the memory for what is in flight and for what failed.

Hot path: per notification there is one :class:`~txapns.delivery.Delivery`, and one call when it is settled. With
metrics, :class:`MeasuredSending` and :class:`MeasuredSingleSending` replace the plain classes, so that these spend no
time on counting.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Hashable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from txapns._fields import checked_text
from txapns._session.pool import Pool
from txapns._session.tokens import Pending, ReadAhead, Source, Triple, checked, device_of, settled
from txapns._waiters import Result, Waiters
from txapns.delivery import Delivery, DeliveryListener, Own, RequestTemplate
from txapns.errors import APNSError, DeadlinePassed, InvalidToken, LocalError, OutcomeUnknown, TokensFailed
from txapns.interfaces import IWork
from txapns.notification import Notification, with_body
from txapns.result import Accepted, Batch, Rejection, Resendable, Uncertain, Unsent

__all__ = ["MeasuredSending", "MeasuredSingleSending", "SendCancelled", "Sending", "Single", "SingleSending"]

T = TypeVar("T")
R = TypeVar("R", Unsent, Uncertain)

#: How many tokens are reported unsent at a time when a batch is given up.
DRAIN = 1_000

# The number of header fields of an answer that accepts, ``:status`` and ``apns-id``; the sandbox adds another.
_USUAL = 2


class SendCancelled(CancelledError):
    """
    The ``Deferred`` of a batch was cancelled.

    :ivar batch: what was known by then, a :class:`~txapns.Batch`. What waited is unsent; what was in flight is
        uncertain. Tokens that were not pulled from the iterable are not in it.
    """

    def __init__(self, message: str, batch: Batch) -> None:
        super().__init__(message, batch)
        self.batch = batch

    def __str__(self) -> str:
        """The message alone."""
        return str(self.args[0])


@implementer(DeliveryListener)
class _Listener:
    """Sends through a pool, and receives the outcomes."""

    _pool: Pool
    ended: APNSError | None = None

    def accepted(self, delivery: Delivery, headers: Sequence[tuple[bytes, bytes]], body: bytes = b"") -> None:
        """APNs accepted it."""

    def rejected(self, delivery: Delivery, rejection: Rejection) -> None:
        """APNs rejected it."""

    def unsent(self, delivery: Delivery, error: Exception) -> None:
        """APNs did not process it."""

    def uncertain(self, delivery: Delivery, error: Exception) -> None:
        """The outcome is unknown."""


@implementer(IWork)
class Sending(_Listener):
    """
    One batch that is being sent.

    :param clock: the reactor, or a ``Clock``.
    :param triples: identifier, notification and token of each.
    :param resend: what ``Batch.retry`` calls.
    :param deadline: after this many seconds the rest is not sent any more; ``None`` for never.
    :param own: returns what each has of its own; ``None`` if it is all in the notification.
    """

    def __init__(
        self,
        clock: IReactorTime,
        pool: Pool,
        triples: Iterable[Triple] | AsyncIterable[Triple],
        resend: Callable[[list[Resendable]], Deferred[Batch]],
        deadline: float | None = None,
        own: Own | None = None,
    ) -> None:
        self._pool = pool
        self._clock = clock
        self._own = own
        self._resend = resend
        self._source: Source[Triple] | None = None
        if isinstance(triples, AsyncIterable):
            triples = ReadAhead(triples)
        if isinstance(triples, Source):
            self._source = triples
        self._triples: Iterator[Triple] = iter(triples)
        self.exhausted = self._done = False
        self._outstanding = 0
        self._accepted = 0
        self._others: list[Rejection | Unsent | Uncertain] = []
        self._unique_ids: dict[Hashable, str] = {}
        self._token_error: Exception | None = None
        self._waiters: Waiters[None] = Waiters()
        self._result: Deferred[Batch] = Result(lambda _: self._cancel())
        self._timers: list[IDelayedCall] = []
        if deadline is not None:
            self._timers.append(clock.callLater(deadline, self._expire, deadline))

    def start(self, first: bool = False) -> Deferred[Batch]:
        """
        Start sending.

        :param first: whether before the other batches.
        :returns: a ``Deferred`` of the batch.
        """
        if self._source is not None:
            self._source.start(self._arrived)
        else:
            self._peek()
        if not self.exhausted:
            self._pool.add(self, first)
        return self._result

    def _peek(self) -> None:
        """Check for a first token: an empty batch must not open a connection."""
        try:
            self._triples = chain([next(self._triples)], self._triples)
        except StopIteration:
            self.exhausted = True
        except Exception as error:  # raised by the caller's iterable, so reported to the caller
            self._token_error = error
            self.exhausted = True
        self._check_done()

    # IWork

    @property
    def available(self) -> bool:
        """Whether there may be something to take now."""
        return not self.exhausted and (self._source is None or self._source.available)

    def take(self, count: int, size: int) -> list[Delivery]:
        """
        Pull the next tokens.

        :param size: stop at this many bytes of payload; the last may exceed it.
        :returns: a delivery for each token that can be sent; the others are unsent.
        """
        taken: list[Delivery] = []
        try:
            self._pull(taken, count, size)
        except Pending:
            pass
        except Exception as error:  # raised by the caller's iterable, so reported to the caller
            self._token_error = error
            self.exhausted = True
        self._outstanding += len(taken)
        self._check_done()
        return taken

    def _pull(self, taken: list[Delivery], count: int, size: int) -> None:
        last: Notification | None = None
        for identifier, notification, token in self._triples:
            if self._done:
                return  # the iterable itself cancelled the batch
            if notification is not last:
                last = checked(notification)
            hash(identifier)  # outcomes are reported under it
            if not isinstance(token, (str, bytes)):
                token = settled(token)
            try:
                device = device_of(token)
            except InvalidToken as error:
                self._others.append(self._made(Unsent, identifier, token, error, notification))
            else:
                delivery = Delivery(self, identifier, token, device, notification, notification.body)
                if self._own is not None:
                    apns_id, delivery.body = self._own(identifier)
                    delivery.apns_id = checked_text("apns_id", apns_id)
                size -= len(delivery.body)
                taken.append(delivery)
            count -= 1
            if count <= 0 or size <= 0:
                return
        self.exhausted = True

    def give_up(self, error: APNSError) -> Deferred[None]:
        """
        Report what is not yet taken as unsent, in parts, since it may be long.

        :returns: a ``Deferred`` that fires when the batch has ended.
        """
        if self.ended is None and not self._done:
            self.ended = error
            # Not now: the iterable itself may be the caller, in the middle of yielding.
            self._timers.append(self._clock.callLater(0, self._drain))
            if self._source is not None:
                self._timers.append(self._clock.callLater(self._pool.options.timeout, self._leave))
        ended = self._waiters.wait()
        if self._done:
            self._waiters.fire(None)
        return ended

    # DeliveryListener

    def accepted(self, delivery: Delivery, headers: Sequence[tuple[bytes, bytes]], body: bytes = b"") -> None:
        """APNs accepted it."""
        if len(headers) > _USUAL:
            self._note(delivery, headers)
        self._accepted += 1
        self._outstanding -= 1
        if not self._outstanding:
            self._check_done()

    def _note(self, delivery: Delivery, headers: Sequence[tuple[bytes, bytes]]) -> None:
        unique_id = _text(dict(headers).get(b"apns-unique-id"))
        if unique_id is not None:
            self._unique_ids[delivery.identifier] = unique_id

    def rejected(self, delivery: Delivery, rejection: Rejection) -> None:
        """APNs rejected it."""
        self._settled(rejection)

    def unsent(self, delivery: Delivery, error: Exception) -> None:
        """APNs did not process it."""
        self._settled(self._made(Unsent, delivery.identifier, delivery.token, error, delivery.notification))

    def uncertain(self, delivery: Delivery, error: Exception) -> None:
        """The outcome is unknown."""
        self._settled(self._made(Uncertain, delivery.identifier, delivery.token, error, delivery.notification))

    def _settled(self, outcome: Rejection | Unsent | Uncertain) -> None:
        self._others.append(outcome)
        self._outstanding -= 1
        self._check_done()

    # Ends.

    def _check_done(self) -> None:
        if self._done or self._outstanding or not self.exhausted:
            return
        self._done = True
        self._cancel_timers()
        batch = self._batch()
        if self._token_error is None:
            self._result.callback(batch)
        else:
            what = f"{type(self._token_error).__name__}: {self._token_error}".removesuffix(": ")
            failed = TokensFailed(f"the iterable of tokens raised {what}", batch)
            failed.__cause__ = self._token_error
            self._result.errback(failed)
        self._waiters.fire(None)

    def _arrived(self) -> None:
        """The source has an item."""
        if self.exhausted:
            return
        if self.ended is None:
            self._pool.resume(self)
        else:
            self._drain()

    def _drain(self) -> None:
        """Pull what is left, and report it as unsent."""
        if self.exhausted or self.ended is None:
            return
        for delivery in self.take(DRAIN, 2**63):
            self.unsent(delivery, self.ended)
        if self.available:
            active = [timer for timer in self._timers if timer.active()]
            self._timers = [*active, self._clock.callLater(0, self._drain)]

    def _leave(self) -> None:
        """An async iterable did not end in time: its remaining tokens will never be known."""
        assert self._source is not None
        self._token_error = TimeoutError(
            f"it did not end within {self._pool.options.timeout:g} s after the batch was given up"
        )
        self._token_error.__cause__ = self.ended
        self.exhausted = True
        self._source.close()
        self._check_done()

    def _cancel_timers(self) -> None:
        for timer in self._timers:
            if timer.active():
                timer.cancel()
        self._timers.clear()

    def _expire(self, deadline: float) -> None:
        error = DeadlinePassed(f"the batch's deadline of {deadline:g} s passed before it was sent{self._pool.trouble}")
        self.give_up(error)
        self._pool.withdraw(self, error)

    def _cancel(self) -> None:
        """
        Take nothing more, drop what waits, and report what is known: what is in flight is uncertain.

        Answers that still come are not reported.
        """
        self.ended = LocalError("the batch was cancelled")
        self._done = self.exhausted = True
        self._cancel_timers()
        if self._source is not None:
            self._source.close()
            left = self._source.left()
            self._others += [self._made(Unsent, each[0], settled(each[2]), self.ended, each[1]) for each in left]
        self._pool.withdraw(self, self.ended)
        self._others += [
            self._made(Uncertain, delivery.identifier, delivery.token, self.ended, delivery.notification)
            for delivery in self._pool.in_flight_of(self)
        ]
        self._result.errback(SendCancelled(str(self.ended), self._batch()))
        self._waiters.fire(None)

    def _made(
        self, kind: type[R], identifier: Hashable, token: str | bytes, error: Exception, notification: RequestTemplate
    ) -> R:
        assert isinstance(notification, Notification)  # it came with the token
        if self._own is not None:
            apns_id, body = self._own(identifier)
            notification = with_body(notification.with_apns_id(apns_id), body)
        return kind(identifier, token, error, notification)

    def _batch(self) -> Batch:
        # What becomes known after a cancellation does not change it.
        others, unique_ids = self._others, self._unique_ids
        self._others, self._unique_ids = [], {}
        return Batch(self._accepted, others, unique_ids, resend=self._resend)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace")


class Single(_Listener, Result[T], Delivery):
    """
    One request on its own: a delivery that receives its own outcome, and the ``Deferred`` of that outcome. As three
    separate objects they would give Python's garbage collector three times as much to look through.

    :param pool: what sends it.
    :param identifier: the caller's identifier, and the others as for :class:`~txapns.delivery.Delivery`.
    """

    def __init__(
        self, pool: Pool, identifier: Hashable, token: str | bytes, device: bytes, notification: RequestTemplate
    ) -> None:
        Result.__init__(self, _withdraw)
        Delivery.__init__(self, self, identifier, token, device, notification, notification.body)
        self._pool = pool

    def unsent(self, delivery: Delivery, error: Exception) -> None:
        """APNs did not process it."""
        self.settle(Failure(error))

    def uncertain(self, delivery: Delivery, error: Exception) -> None:
        """The outcome is unknown."""
        unknown = OutcomeUnknown(str(error))
        unknown.__cause__ = error
        self.settle(Failure(unknown))

    def settle(self, outcome: T | Failure) -> None:
        """Fire with an outcome."""
        self.outcomes = _NOBODY  # a cycle would be left to the garbage collector
        if not self.called:
            self.callback(outcome)


def _withdraw(single: Deferred[Any]) -> None:
    """It was cancelled: do not send it, if it has not been sent yet."""
    assert isinstance(single, Single)
    single.ended = LocalError("the notification was cancelled")
    if single._pool.take_back(single):
        single.outcomes = _NOBODY


class SingleSending(Single["Accepted | Rejection"]):
    """One notification to a device or to a channel."""

    def accepted(self, delivery: Delivery, headers: Sequence[tuple[bytes, bytes]], body: bytes = b"") -> None:
        """APNs accepted it."""
        fields = dict(headers)
        apns_id = fields.get(b"apns-id") or fields.get(b"apns-request-id")
        self.settle(Accepted(self.identifier, self.token, _text(apns_id), _text(fields.get(b"apns-unique-id"))))

    def rejected(self, delivery: Delivery, rejection: Rejection) -> None:
        """APNs rejected it."""
        self.settle(rejection)


#: Receives what nobody waits for.
_NOBODY = _Listener()


class _Measured(_Listener):
    """Counts the outcomes, except for rejections, which the pool counts: it decides which of them are final."""

    def accepted(self, delivery: Delivery, headers: Sequence[tuple[bytes, bytes]], body: bytes = b"") -> None:
        """APNs accepted it."""
        assert self._pool.metrics is not None
        self._pool.metrics.accepted(self._pool.clock.seconds() - delivery.taken_at)
        super().accepted(delivery, headers, body)

    def unsent(self, delivery: Delivery, error: Exception) -> None:
        """APNs did not process it."""
        self._unanswered(delivery, uncertain=False)
        super().unsent(delivery, error)

    def uncertain(self, delivery: Delivery, error: Exception) -> None:
        """The outcome is unknown."""
        self._unanswered(delivery, uncertain=True)
        super().uncertain(delivery, error)

    def _unanswered(self, delivery: Delivery, uncertain: bool) -> None:
        assert self._pool.metrics is not None
        if delivery.taken_at >= 0:
            self._pool.metrics.unanswered(uncertain)


class MeasuredSending(_Measured, Sending):
    """A batch, counted."""


class MeasuredSingleSending(_Measured, SingleSending):
    """One notification, counted."""
