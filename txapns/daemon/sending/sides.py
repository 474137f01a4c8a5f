"""
The two sides of an app: a client for production and one for the sandbox, and which of them a notification goes to.

Nothing but Apple's answer tells which environment a device token is of. Most are of production, so a token of which
nothing is known is tried there first::

    what is known      first                  refused as a bad token: then
    ---------------    -------------------    ----------------------------------------------
    nothing            production             the sandbox, once; both refuse it: NEITHER
    SANDBOX            the sandbox            production, once; both refuse it: NEITHER
    REFUSED            the sandbox            nothing more: NEITHER
    NEITHER            production             nothing more

A notification may name its side: it goes there only, and nothing is looked up or learned. A broadcast always does,
since nothing is known of channels.

Apple counts bad tokens against those who send them. So a token is tried on the other side only if it looks like one of
Apple's and the reason is that the server does not know it. Before the other side is tried, the store knows of the
refusal: whatever happens then, the side that refused is not asked again. What is known counts for a time, since a
token's device may change.

What production refused and the sandbox refuses, too, has the outcome that production gave. A bad token is not the
fault of a credential, whose faults have reasons of their own; each side has a circuit breaker for these. While a side's
breaker is open, what is for it is put off, without counting an attempt; what is for the other side goes on. If both are
open, the app's own breaker opens.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence

import attrs
from twisted.internet.defer import CancelledError, Deferred, DeferredList, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from txapns._network.clocks import IWallClock
from txapns.client import APNSClient, ClientStatus
from txapns.daemon.errors import Unavailable
from txapns.daemon.interfaces import ITokenEnvironments
from txapns.daemon.sending.breaker import CircuitBreaker, Trouble
from txapns.daemon.sending.handing import send
from txapns.daemon.sending.preparing import Prepared
from txapns.daemon.sending.settling import Outcome, SidedBatch, answered, trouble_of
from txapns.daemon.store.cluster import HALF_OPEN
from txapns.daemon.values import Content, Environment, Leased, TokenEnvironment, TokenKind
from txapns.devices.push import TOKEN_LENGTHS
from txapns.errors import ClientClosed
from txapns.reasons import Reason
from txapns.result import Batch, Rejection

__all__ = ["NEITHER_AGE", "SANDBOX_AGE", "SidedClient"]

_log = Logger()

#: For how many seconds it counts that a token is of the sandbox. It is stored again once half of that is over.
SANDBOX_AGE = 90 * 86_400.0
#: The same that both sides refuse it, or that production does and the sandbox has not answered.
NEITHER_AGE = 7 * 86_400.0
#: For how many seconds at least something is put off that is for a side on which nothing gets through.
PUT_OFF = 5.0
#: The same after what should never happen.
BROKEN_OFF = 60.0

_PRODUCTION, _SANDBOX = Environment.PRODUCTION, Environment.SANDBOX
_OTHER = {_PRODUCTION: _SANDBOX, _SANDBOX: _PRODUCTION}
# Who refuses a token for one of these reasons knows it.
_KNOWS = (Reason.UNREGISTERED.value, Reason.EXPIRED_TOKEN.value, Reason.DEVICE_TOKEN_NOT_FOR_TOPIC.value)
_FIRST_SANDBOX = (TokenKind.SANDBOX, TokenKind.REFUSED)


@attrs.define(eq=False)
class _Side:
    """One side; ``trying`` is how many notifications it has been given that are not answered."""

    environment: Environment
    client: APNSClient
    breaker: CircuitBreaker
    trying: int = 0


@attrs.define(eq=False)
class _Sending:
    """
    A chunk on its way.

    :ivar named: the contents that name their side, with the side.
    :ivar known: what was known of the other tokens at first.
    :ivar learned: what was found out about them and is not stored yet.
    :ivar others: what was not accepted.
    :ivar tried: where each notification got the answer that counts.
    :ivar put_off: what was not sent, and until when.
    """

    prepared: Prepared
    first: bool
    named: Mapping[Content, Environment]
    known: Mapping[bytes, TokenEnvironment] = attrs.Factory(dict)
    learned: dict[bytes, TokenEnvironment | None] = attrs.Factory(dict)
    others: dict[Leased, Outcome] = attrs.Factory(dict)
    tried: dict[Leased, Environment] = attrs.Factory(dict)
    put_off: dict[Leased, float] = attrs.Factory(dict)
    unique_ids: dict[Hashable, str] = attrs.Factory(dict)
    works: bool = False

    def kind(self, token: bytes) -> TokenKind | None:
        """Tell what was known of a token at first."""
        known = self.known.get(token)
        return None if known is None else known.kind

    def batch(self, trouble: Trouble | None) -> SidedBatch:
        """Tell what came of it."""
        accepted = len(self.tried) - len(self.others)
        batch = Batch(accepted, list(self.others.values()), self.unique_ids)
        return SidedBatch(batch, self.tried, self.put_off, self.works, None if self.works else trouble)


class SidedClient:
    """
    Sends an app's notifications to the side that each is for.

    :param app: the app's name.
    :param wall: tells the date.
    :param clients: the client of each side, and the breaker of its circuit.
    """

    def __init__(
        self,
        app: str,
        clock: IReactorTime,
        wall: IWallClock,
        tokens: ITokenEnvironments,
        clients: Mapping[Environment, tuple[APNSClient, CircuitBreaker]],
    ) -> None:
        self._app = app
        self._clock = clock
        self._wall = wall
        self._tokens = tokens
        self._sides = {each: _Side(each, *found) for each, found in clients.items()}

    def send(self, prepared: Prepared, first: bool = False) -> Deferred[SidedBatch]:
        """
        Send notifications and broadcasts, each to its side, and some of them to the other side after that.

        :param first: whether before what was handed over already.
        :returns: a ``Deferred`` of what came of them. It fails as that of :meth:`~txapns.APNSClient.send_many` does.
        """
        sides = [(content, content.environment) for content in prepared.notifications]
        named = {content: side for content, side in sides if side is not None}
        return Deferred.fromCoroutine(self._send(_Sending(prepared, first, named)))

    def breakers(self) -> Mapping[Environment, CircuitBreaker]:
        """Tell what is known of the circuit of each side."""
        return {environment: side.breaker for environment, side in self._sides.items()}

    def status(self) -> ClientStatus:
        """Tell the status of both clients together."""
        found = [side.client.status() for side in self._sides.values()]
        return ClientStatus(
            ", ".join(each.gateway for each in found),
            tuple(state for each in found for state in each.connections),
            sum(each.in_flight for each in found),
            sum(each.queued for each in found),
            next((each.last_error for each in found if each.last_error is not None), None),
        )

    def close(self) -> Deferred[None]:
        """Close both clients when what is under way is answered."""
        return _all([side.client.close() for side in self._sides.values()])

    def abort(self) -> Deferred[None]:
        """Close both clients at once."""
        return _all([side.client.abort() for side in self._sides.values()])

    async def _send(self, sending: _Sending) -> SidedBatch:
        ready, named = sending.prepared.ready, sending.named
        tokens = [each.token for each in ready if each.content not in named]
        try:
            sending.known = await self._tokens.known(self._app, tokens) if tokens else {}
        except Unavailable:
            return _all_put_off(sending, self._clock.seconds() + PUT_OFF)
        await self._send_to(sending, _by_side((each, self._first(sending, each)) for each in ready))
        again = self._refused(sending)
        if again:
            await self._try_other(sending, again)
        self._learn(sending)
        await self._noted(sending)
        return sending.batch(self._trouble())

    def _first(self, sending: _Sending, leased: Leased) -> Environment:
        """Tell which side a notification is for at first."""
        named = sending.named.get(leased.content)
        if named is not None:
            return named
        return _SANDBOX if sending.kind(leased.token) in _FIRST_SANDBOX else _PRODUCTION

    async def _send_to(self, sending: _Sending, wanted: Mapping[Environment, list[Leased]]) -> None:
        """Send to both sides at the same time, as far as their breakers allow."""
        started = []
        for environment, leased in wanted.items():
            side = self._sides[environment]
            room = self._room(side)
            allowed, put_off = (leased, []) if room is None else (leased[:room], leased[room:])
            if put_off:
                until = max(side.breaker.until, self._clock.seconds() + PUT_OFF)
                sending.put_off.update(dict.fromkeys(put_off, until))
            if allowed:
                side.trying += len(allowed)
                part = Prepared(allowed, [], sending.prepared.notifications)
                started.append(send(side.client, part, sending.first).addBoth(self._sent, side, sending, allowed))
        await gatherResults(started, consumeErrors=True)  # they fail only if all of them are cancelled

    def _room(self, side: _Side) -> int | None:
        """Find out how many notifications may be sent to a side now; ``None`` for any number."""
        if not side.breaker.limited:
            return None
        # If nothing gets through on both sides, the app's breaker makes the pauses.
        rests = self._clock.seconds() < side.breaker.until and self._sides[_OTHER[side.environment]].breaker.closed
        return 0 if rests else max(0, HALF_OPEN - side.trying)

    def _sent(
        self, result: Batch | Failure, side: _Side, sending: _Sending, leased: Sequence[Leased]
    ) -> Failure | None:
        """Take note of what came of a part of the chunk."""
        side.trying -= len(leased)
        if isinstance(result, Failure):
            if result.check(CancelledError) is not None:
                return result  # somebody else may send it now
            self._failed(result, sending, leased)
            return None
        works = result.accepted > 0 or any(map(answered, result.outcomes))
        sending.works = sending.works or works
        side.breaker.record(works, None if works else trouble_of(result.outcomes))
        sending.tried.update(dict.fromkeys(leased, side.environment))
        for each in leased:
            sending.others.pop(each, None)
        sending.others.update(
            (each.identifier, each) for each in result.outcomes if isinstance(each.identifier, Leased)
        )
        sending.unique_ids.update(result.unique_ids)
        return None

    def _failed(self, failure: Failure, sending: _Sending, leased: Sequence[Leased]) -> None:
        """Put off what has no outcome: the client was closed, or it is unknown how far it got."""
        if failure.check(ClientClosed) is None:
            _log.failure("{app}: sending broke off", failure, app=self._app)
            sending.put_off.update(dict.fromkeys(leased, self._clock.seconds() + BROKEN_OFF))
        else:
            sending.put_off.update(dict.fromkeys(leased, self._clock.seconds()))

    def _refused(self, sending: _Sending) -> dict[Leased, Outcome]:
        """Find what is to be tried on the other side, and say that this side has refused it."""
        again = {}
        for leased, outcome in sending.others.items():
            if leased.content in sending.named or not _is_unknown(outcome) or not _looks_right(leased):
                continue
            kind = sending.kind(leased.token)
            if kind is None and sending.tried[leased] is _PRODUCTION:
                sending.learned[leased.token] = self._until(TokenKind.REFUSED)
            elif kind is TokenKind.SANDBOX:
                sending.learned[leased.token] = None
            else:
                continue
            again[leased] = outcome
        return again

    async def _try_other(self, sending: _Sending, again: Mapping[Leased, Outcome]) -> None:
        """Try on the other side what one side has refused; if both refuse it, production's answer counts."""
        sides = {leased: sending.tried.pop(leased) for leased in again}
        for leased in again:
            del sending.others[leased]
        if not await self._noted(sending):
            sending.put_off.update(dict.fromkeys(again, self._clock.seconds() + PUT_OFF))
            return
        await self._send_to(sending, _by_side((leased, _OTHER[side]) for leased, side in sides.items()))
        for leased, first in again.items():
            outcome = sending.others.get(leased)
            if outcome is None or not _is_unknown(outcome):
                continue
            sending.learned[leased.token] = self._until(TokenKind.NEITHER)
            if sides[leased] is _PRODUCTION:
                sending.others[leased] = first
                sending.tried[leased] = _PRODUCTION

    def _learn(self, sending: _Sending) -> None:
        """Find out what the answers say about the tokens."""
        for leased, environment in sending.tried.items():
            outcome, token = sending.others.get(leased), leased.token
            if leased.content in sending.named:
                continue
            if environment is _SANDBOX:
                if outcome is None or (isinstance(outcome, Rejection) and outcome.reason in _KNOWS):
                    self._learn_sandbox(sending, token)
                elif sending.kind(token) is TokenKind.REFUSED and _is_unknown(outcome):
                    sending.learned[token] = self._until(TokenKind.NEITHER)
                    sending.tried[leased] = _PRODUCTION  # which has given the same answer before
            elif outcome is None and sending.kind(token) is TokenKind.NEITHER:
                sending.learned[token] = None

    def _learn_sandbox(self, sending: _Sending, token: bytes) -> None:
        known = sending.known.get(token)
        left = 0.0 if known is None or known.kind is not TokenKind.SANDBOX else known.until - self._wall.now()
        if left > SANDBOX_AGE / 2:
            return
        sending.learned[token] = self._until(TokenKind.SANDBOX)

    def _until(self, kind: TokenKind) -> TokenEnvironment:
        age = SANDBOX_AGE if kind is TokenKind.SANDBOX else NEITHER_AGE
        return TokenEnvironment(kind, self._wall.now() + age)

    async def _noted(self, sending: _Sending) -> bool:
        """Store what was learned; returns whether that was possible."""
        learned, sending.learned = sending.learned, {}
        try:
            if learned:
                await self._tokens.note(self._app, learned)
        except Unavailable:
            return False
        return True

    def _trouble(self) -> Trouble | None:
        """Tell what keeps everything from getting through, if that is so on both sides."""
        sides = self._sides.values()
        if any(side.breaker.closed for side in sides):
            return None
        reason = "; ".join(f"{side.environment.name.lower()}: {side.breaker.reason.rstrip('.')}" for side in sides)
        return Trouble(reason, all(side.breaker.tripped for side in sides))


def _by_side(found: Iterable[tuple[Leased, Environment]]) -> dict[Environment, list[Leased]]:
    sides: dict[Environment, list[Leased]] = {}
    for leased, environment in found:
        sides.setdefault(environment, []).append(leased)
    return sides


def _is_unknown(outcome: Outcome) -> bool:
    """Whether the server does not know the token: it may be of the other environment."""
    return isinstance(outcome, Rejection) and outcome.reason == Reason.BAD_DEVICE_TOKEN


def _looks_right(leased: Leased) -> bool:
    """Whether the token may be one of Apple's."""
    return len(leased.token) in TOKEN_LENGTHS


def _all_put_off(sending: _Sending, until: float) -> SidedBatch:
    sending.put_off.update(dict.fromkeys(sending.prepared.ready, until))
    return sending.batch(None)


def _all(closing: Sequence[Deferred[None]]) -> Deferred[None]:
    return DeferredList(closing).addCallback(lambda _: None)
