"""
The seams of the package: who may be put in whose place.

Calls go down and values come up::

    client ──► pool ──► connection ──► session (a protocol) ──► wire
       ▲                    ▲               │
       │                    └─ IProtocolListener: ready, proved, room, returned, rejected, draining, lost
       └───────────────────── DeliveryListener: accepted, rejected, unsent, uncertain

The last is in :mod:`txapns.delivery`, since whoever is told the outcome is half of what a delivery is.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from txapns.delivery import Delivery
from txapns.errors import APNSError
from txapns.result import Rejection

__all__ = ["IConnectionEvents", "IGatewayProtocol", "IMetrics", "IProtocolListener", "IWork"]


class IGatewayProtocol(Interface):
    """
    One connection to a gateway while it lasts: the protocol object of either protocol.

    It takes deliveries while it has room, settles each on its ``outcomes`` or hands it back to its
    :class:`IProtocolListener`, and is not used again once it is draining.
    """

    in_flight = Attribute("How many deliveries it has taken and neither settled nor handed back: an ``int``.")
    answered = Attribute("How often it has done what it is for: an ``int``.")
    proved = Attribute("Whether it has done so at least once: a ``bool``.")

    def room() -> tuple[int, int]:
        """
        Tell what it would take now.

        :returns: how many deliveries, and how many octets of payload; nothing unless both are positive.
        """

    def deliver(deliveries: list[Delivery]) -> None:
        """
        Send these, in order.

        :param deliveries: at most as many as there is room for.
        """

    def flush() -> None:
        """Nothing more is waiting: do what it takes to learn the outcome of what is under way."""

    def close() -> None:
        """Take nothing more, let what is under way be answered, then close. It ends within the timeout."""

    def abort(error: APNSError) -> None:
        """
        End the connection at once.

        :param error: why, for what was under way.
        """


class IProtocolListener(Interface):
    """What a session tells whoever opened it. The session names itself, since a draining one may outlive its turn."""

    def protocol_ready(session: IGatewayProtocol) -> None:
        """It can be used: the handshake is over, and the peer has spoken where the protocol has it speak first."""

    def protocol_proved(session: IGatewayProtocol) -> None:
        """It did what it is for, so the delays between attempts begin anew."""

    def protocol_room(session: IGatewayProtocol) -> None:
        """It may have room again."""

    def protocol_returned(session: IGatewayProtocol, deliveries: list[Delivery]) -> None:
        """
        These were provably not processed and are to be sent elsewhere, in this order.

        :param deliveries: the deliveries, none of them settled.
        """

    def protocol_rejected(session: IGatewayProtocol, delivery: Delivery, rejection: Rejection) -> None:
        """
        APNs rejected this one. The listener sends it again later, or reports it on the delivery's ``outcomes``.

        :param delivery: the delivery, not yet settled.
        :param rejection: what APNs said.
        """

    def protocol_draining(session: IGatewayProtocol, error: APNSError | None) -> None:
        """
        It takes nothing more; what is under way may still be answered.

        :param error: what the peer said; ``None`` where it is our own wish.
        """

    def protocol_lost(session: IGatewayProtocol, error: APNSError | None) -> None:
        """
        It is over, and all it had taken is settled or handed back.

        :param error: why; ``None`` for an orderly end.
        """


class IConnectionEvents(Interface):
    """What a connection tells the pool."""

    def connection_changed() -> None:
        """A connection may have room, or may be opened, where it could not before."""

    def connection_trouble(error: APNSError, hopeless: bool) -> None:
        """
        A connection could not be made, or ended with an error.

        :param error: what happened.
        :param hopeless: whether another connection would fare no better, so that what waits had better be told.
        """

    def deliveries_returned(deliveries: list[Delivery]) -> None:
        """
        These were provably not processed and go to another connection, before anything else.

        :param deliveries: the deliveries, in order.
        """

    def delivery_rejected(delivery: Delivery, rejection: Rejection) -> None:
        """
        APNs rejected this one: send it again later, or report it.

        :param delivery: the delivery, not yet settled.
        :param rejection: what APNs said.
        """


class IWork(Interface):
    """A source of deliveries, from which the pool takes what its connections have room for."""

    available = Attribute("Whether there may be something to take now: a ``bool``.")
    exhausted = Attribute("Whether there will never be anything to take again: a ``bool``.")

    def take(count: int, octets: int) -> list[Delivery]:
        """
        Hand over the next deliveries, in order.

        :param count: how many at the most.
        :param octets: until how many octets of payload; the last may go beyond.
        :returns: the deliveries; fewer, or none, where there are no more for now.
        """

    def give_up(error: APNSError) -> Deferred[None]:
        """
        Report everything not yet taken as unsent.

        :param error: why.
        :returns: a ``Deferred`` that fires when all of it has an outcome.
        """


class IMetrics(Interface):
    """
    Who counts what one client sends. What is a state and no event, ``client.status()`` tells.

    The methods are called for each notification, so they are to be quick. What they raise is logged, and does no other
    harm. A client that was given none does not spend anything on it.
    """

    def sent(count: int) -> None:
        """
        Notifications were handed to a connection for the first time.

        :param count: how many.
        """

    def accepted(seconds: float) -> None:
        """
        APNs accepted one.

        :param seconds: how long that took, from when it was handed to a connection. Over the binary protocol this is
            the settle time at least.
        """

    def rejected(status: int, reason: str, seconds: float) -> None:
        """
        APNs refused one, for good.

        :param status: the HTTP status or the status byte.
        :param reason: Apple's word for it, which may be one that nobody has heard of.
        :param seconds: how long that took, the time between repetitions included.
        """

    def retried(reason: str) -> None:
        """
        One is sent again later.

        :param reason: Apple's word for why.
        """

    def unanswered(uncertain: bool) -> None:
        """
        One that was handed to a connection ended without an answer.

        :param uncertain: whether it may have been processed; if not, it was provably not.
        """
