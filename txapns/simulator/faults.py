"""
What the binary server does wrong on demand, by name.

Real servers, or the network, have done all of these at some time; here a client can be tested against each. In Python a
fault is assigned, in the shell it is named (``txapns simulate --fault split``)::

    simulator.binary_fault = faults.split

A fault waits for the first notification on a connection that the server would reject: usually one for a dead token, or
a barrier. Until then the server behaves correctly. Each docstring says what the server does, and how a correct client
interprets it. *Unconfirmed* notifications are those that the client wrote and has no proof of. For most clients these
are all that they wrote on the connection.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

from txapns.reasons import Status
from txapns.simulator.binary import EnhancedNotificationServer, Fault
from txapns.wire.frames import ReceivedNotification

__all__ = [
    "FAULTS",
    "byte_by_byte",
    "half_close",
    "late",
    "mute",
    "reset",
    "shutdown",
    "silent_close",
    "split",
    "stall",
    "truncated",
    "unknown_status",
    "vanish",
    "wrong_identifier",
    "zero_identifier",
]

#: A status that Apple never assigned.
UNASSIGNED = 77
#: How much later than any settle time an error packet is sent, in seconds.
LATE = 10.0
#: Changes an identifier to one that no client has used yet.
UNUSED = 2**31

#: All faults, by their names on the command line.
FAULTS: dict[str, Fault] = {}

#: What the server does instead of rejecting a notification. It may return another status, or ``False`` for none.
_Instead = Callable[[EnhancedNotificationServer, ReceivedNotification, int], "int | bool | None"]


def _instead(act: _Instead) -> Fault:
    """Make a fault of what the server does instead of rejecting."""

    @wraps(act)
    def fault(
        server: EnhancedNotificationServer, notification: ReceivedNotification, status: int | None
    ) -> int | bool | None:
        if status is None:
            return None
        record = act(server, notification, status)
        return status if record is None else record

    FAULTS[act.__name__.replace("_", "-")] = fault
    return fault


@_instead
def silent_close(server: EnhancedNotificationServer, notification: ReceivedNotification, status: int) -> None:
    """
    Close without an error packet.

    Unconfirmed notifications may have been accepted or not: a client must not count them as either.
    """
    server.finish()


@_instead
def vanish(server: EnhancedNotificationServer, notification: ReceivedNotification, status: int) -> None:
    """
    Reset the connection without an error packet, like a server that crashes.

    Interpret it like :func:`silent_close`.
    """
    server.abort()


@_instead
def half_close(server: EnhancedNotificationServer, notification: ReceivedNotification, status: int) -> None:
    """
    Close one direction without an error packet, and read for as long as the client writes.

    A client that only writes never gets an error. A correct client takes the end of its input for the end of the
    connection, and interprets it like :func:`silent_close`.
    """
    server.half_close()


@_instead
def split(server: EnhancedNotificationServer, notification: ReceivedNotification, status: int) -> None:
    """Send the error packet in two writes of three bytes each. It is one packet, as if it had arrived at once."""
    packet = server.answer(notification, status)
    server.finish(packet[:3], packet[3:])


@_instead
def byte_by_byte(server: EnhancedNotificationServer, notification: ReceivedNotification, status: int) -> None:
    """Send the error packet in six writes. It is one packet, as if it had arrived at once."""
    packet = server.answer(notification, status)
    server.finish(*(packet[position : position + 1] for position in range(len(packet))))


@_instead
def reset(server: EnhancedNotificationServer, notification: ReceivedNotification, status: int) -> None:
    """
    Send the error packet and reset the connection at once, without reading what the client wrote meanwhile.

    The packet can be read, and it counts. A client that writes before it reads gets an error and may never see the
    packet: then it looks like :func:`vanish`.
    """
    server.reset(server.answer(notification, status))


@_instead
def truncated(server: EnhancedNotificationServer, notification: ReceivedNotification, status: int) -> None:
    """
    Send half of the error packet, and close.

    Half a packet names no notification: interpret it like :func:`silent_close`.
    """
    server.finish(server.answer(notification, status)[:3])


@_instead
def late(server: EnhancedNotificationServer, notification: ReceivedNotification, status: int) -> None:
    """
    Send the error packet ten seconds later, and discard everything received until then.

    A client that takes two seconds of silence for acceptance is wrong by then. It must not blame another notification,
    and must resend what it wrote after the one named. A client that asks for proof waits.
    """
    server.finish(server.answer(notification, status), after=LATE)


@_instead
def wrong_identifier(server: EnhancedNotificationServer, notification: ReceivedNotification, status: int) -> None:
    """
    Name a notification that was never sent.

    Something was rejected, and it is unknown what: interpret it like :func:`silent_close`.
    """
    server.refuse(status, (notification.identifier or 0) ^ UNUSED)


@_instead
def zero_identifier(server: EnhancedNotificationServer, notification: ReceivedNotification, status: int) -> None:
    """
    Name 0, by which Apple's servers said that they did not know which notification it was.

    Interpret it like :func:`wrong_identifier`. But a barrier has no token, and Apple's servers named 0 if there was
    none (status 2).
    """
    server.refuse(status, 0)


@_instead
def unknown_status(server: EnhancedNotificationServer, notification: ReceivedNotification, status: int) -> int:
    """
    Send a status that Apple never assigned, 77.

    The notification was rejected for an unknown reason: a client must not call its token invalid, fail, or resend it
    for ever. What follows it was discarded, as after any other status.
    """
    return UNASSIGNED


@_instead
def shutdown(server: EnhancedNotificationServer, notification: ReceivedNotification, status: int) -> int | bool:
    """
    Go down for maintenance (status 10), naming the last notification accepted.

    The one named has *not* failed; everything after it must be resent. A server that has accepted nothing yet does not
    shut down: it rejects the notification as usual.
    """
    if server.accepted is None:
        return status
    server.refuse(Status.SHUTDOWN, server.accepted)
    return False


@_instead
def mute(server: EnhancedNotificationServer, notification: ReceivedNotification, status: int) -> None:
    """
    Discard the notification and everything that follows, and neither report it nor close.

    It looks like acceptance, and a client that trusts silence counts it as such. Only a barrier that is never answered
    shows that something is wrong: then all unconfirmed notifications are uncertain.
    """
    server.discard()


@_instead
def stall(server: EnhancedNotificationServer, notification: ReceivedNotification, status: int) -> None:
    """
    Stop reading, send nothing, and leave the connection open.

    What the client writes fills the buffers of both systems; then it cannot write any more. A correct client has a
    deadline for that, and counts what TCP did not acknowledge as uncertain. What the server's system received looks
    like acceptance, as with :func:`mute`.
    """
    server.stall()
