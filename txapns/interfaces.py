"""
The seams of the package.

Calls go down and values come up::

    client ──► batch ──► pool ──► connection ──► protocol ──► wire
                 ▲         ▲        │    ▲          │ │
                 │         │        │    └──────────┘ │  IProtocolListener: ready, proved, round, room, returned …
                 │         └────────┘                 │  IConnectionEvents: changed, round, trouble, returned …
                 └────────────────────────────────────┘  DeliveryListener: accepted, rejected, unsent, uncertain

``DeliveryListener`` is in :mod:`txapns.delivery`, since each delivery holds the listener that receives its outcome.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from txapns.delivery import Delivery, DeliveryListener
from txapns.errors import APNSError
from txapns.result import Rejection

__all__ = ["IConnectionEvents", "IGatewayProtocol", "IMetrics", "IProtocolListener", "IWork"]


class IGatewayProtocol(Interface):
    """
    The protocol object of one connection to a gateway, for either protocol.

    It takes deliveries while it has room. It settles each on its ``outcomes``, or hands it to its
    :class:`IProtocolListener` unsettled. Once it is draining, it is not used again.
    """

    in_flight = Attribute("How many deliveries it has taken and neither settled nor handed back: an ``int``.")
    answered = Attribute("How many notifications it knows to be accepted or rejected: an ``int``.")
    proved = Attribute("Whether there was at least one of these, so that the connection is known to work: a ``bool``.")

    def room() -> tuple[int, int]:
        """
        Tell how much it would take now: nothing before it is ready.

        :returns: how many deliveries, and how many bytes of payload; nothing unless both are positive.
        """

    def deliver(deliveries: list[Delivery]) -> None:
        """
        Send these, in order.

        :param deliveries: no more than there is room for.
        """

    def in_flight_of(outcomes: DeliveryListener) -> list[Delivery]:
        """
        List the deliveries in flight of one batch.

        :param outcomes: what receives their outcomes.
        """

    def flush() -> None:
        """Nothing more is waiting: do what is needed to learn the outcome of what is in flight."""

    def close() -> None:
        """Take nothing more, wait for the answers to what is in flight, then close. This ends within the timeout."""

    def abort(error: APNSError) -> None:
        """
        End the connection at once.

        :param error: why; the reason reported for what is in flight.
        """


class IProtocolListener(Interface):
    """
    Receives what happens to a protocol.

    Each call names the protocol, since one that drains exists beside its successor.
    """

    def protocol_ready(protocol: IGatewayProtocol) -> None:
        """It can be used: the handshake is over, and the server has spoken if it has to speak first."""

    def protocol_proved(protocol: IGatewayProtocol) -> None:
        """A notification was accepted or rejected, so the connection works, and the reconnection delays start over."""

    def protocol_round(protocol: IGatewayProtocol, settle: Callable[[], None]) -> None:
        """
        Several deliveries are settled at once. What is sent in answer may wait until all are.

        :param settle: settles them; call it now.
        """

    def protocol_room(protocol: IGatewayProtocol) -> None:
        """It may have room again."""

    def protocol_returned(protocol: IGatewayProtocol, deliveries: list[Delivery]) -> None:
        """
        These were provably not processed. Send them over another connection, in this order.

        :param deliveries: the deliveries, none of them settled.
        """

    def protocol_rejected(protocol: IGatewayProtocol, delivery: Delivery, rejection: Rejection) -> None:
        """
        APNs rejected this one. The listener sends it again later, or reports it on the delivery's ``outcomes``.

        :param delivery: the delivery, not yet settled.
        :param rejection: what APNs said.
        """

    def protocol_draining(protocol: IGatewayProtocol, error: APNSError | None) -> None:
        """
        It takes nothing more; what is in flight may still be answered.

        :param error: what the server said; ``None`` if we wished it.
        """

    def protocol_lost(protocol: IGatewayProtocol, error: APNSError | None) -> None:
        """
        It has ended, and all it had taken is settled or handed back.

        :param error: why; ``None`` for an orderly end.
        """


class IConnectionEvents(Interface):
    """Receives what happens to a connection: the pool."""

    def connection_round(settle: Callable[[], None]) -> None:
        """
        Several deliveries are settled at once. What is sent in answer may wait until all are.

        :param settle: settles them; call it now.
        """

    def connection_changed() -> None:
        """A connection may have room, or may be opened, where it could not before."""

    def connection_trouble(error: APNSError, hopeless: bool) -> None:
        """
        A connection could not be made, or ended with an error.

        :param error: what happened.
        :param hopeless: whether another connection would fail in the same way, so that what waits should be given up.
        """

    def deliveries_returned(deliveries: list[Delivery]) -> None:
        """
        These were provably not processed. Send them over another connection, before anything else.

        :param deliveries: the deliveries, in order.
        """

    def delivery_rejected(delivery: Delivery, rejection: Rejection) -> None:
        """
        APNs rejected this one: send it again later, or report it.

        :param delivery: the delivery, not yet settled.
        :param rejection: what APNs said.
        """


class IWork(Interface):
    """
    A source of deliveries, from which the pool takes what its connections have room for.

    When there was nothing to take, and there is again, it says so by ``Pool.resume``.
    """

    available = Attribute("Whether there may be something to take now: a ``bool``.")
    exhausted = Attribute("Whether there will never be anything to take again: a ``bool``.")

    def take(count: int, size: int) -> list[Delivery]:
        """
        Return the next deliveries, in order.

        :param count: how many, or fewer.
        :param size: stop at this many bytes of payload; the last delivery may exceed it.
        :returns: the deliveries; fewer, or none, if there are no more for now.
        """

    def give_up(error: APNSError) -> Deferred[None]:
        """
        Report everything not yet taken as unsent.

        :param error: why.
        :returns: a ``Deferred`` that fires when all of it has an outcome.
        """


class IMetrics(Interface):
    """
    Counts what one client sends. For states rather than events, ask ``client.status()``.

    The methods are called for each notification, so they should be fast. An exception that they raise is logged and
    does no other harm. A client without metrics spends no time on them.
    """

    def sent(count: int) -> None:
        """
        Notifications were handed to a connection for the first time.

        :param count: how many.
        """

    def accepted(seconds: float) -> None:
        """
        APNs accepted a notification.

        :param seconds: the time since it was handed to a connection. Over the binary protocol this is the settle time
            or more.
        """

    def rejected(status: int, reason: str, seconds: float) -> None:
        """
        APNs rejected a notification, and it is not sent again.

        :param status: the HTTP status or the status byte.
        :param reason: Apple's reason, which may be one that is not documented.
        :param seconds: the time since it was first handed to a connection, retries included.
        """

    def retried(reason: str) -> None:
        """
        APNs rejected a notification, and it is sent again later.

        :param reason: Apple's reason.
        """

    def unanswered(uncertain: bool) -> None:
        """
        A notification that was handed to a connection ended without an answer.

        :param uncertain: whether it may have been processed; if not, it provably was not.
        """
