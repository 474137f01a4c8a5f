"""
What the binary server does wrong on demand, by name.

Real servers did all of these at some time, or the network did it for them; here a client can be tried against each.
From Python a fault is set, from the shell it is named (``txapns simulate --fault split``)::

    simulator.binary_fault = faults.split

A fault waits for the first notification on a connection that the server would refuse: one for a dead token, as a rule,
or a barrier. Until then the server does right. Each of the docstrings says what the server does, and what a correct
client makes of it, where *unconfirmed* is all that the client wrote and has no proof of. For most clients that is all
they wrote on the connection.
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
#: How much later than any settle time an answer comes, in seconds.
LATE = 10.0
#: What is changed in an identifier to make it one that no client has given out yet.
UNUSED = 2**31

#: What the server does in place of refusing a notification. It may return another status, or ``False`` for none.
_Refusal = Callable[[EnhancedNotificationServer, ReceivedNotification, int], "int | bool | None"]


def _in_place_of(refusal: _Refusal) -> Fault:
    """Make a fault of what the server does in place of refusing."""

    @wraps(refusal)
    def fault(
        server: EnhancedNotificationServer, notification: ReceivedNotification, status: int | None
    ) -> int | bool | None:
        if status is None:
            return None
        record = refusal(server, notification, status)
        return status if record is None else record

    return fault


@_in_place_of
def silent_close(server: EnhancedNotificationServer, notification: ReceivedNotification, status: int) -> None:
    """
    Close without an error packet.

    What is unconfirmed may have been accepted or not: a client must not count it as either.
    """
    server.finish()


@_in_place_of
def vanish(server: EnhancedNotificationServer, notification: ReceivedNotification, status: int) -> None:
    """
    Reset the connection without an error packet, as a server does that crashes.

    It is to be understood like :func:`silent_close`.
    """
    server.abort()


@_in_place_of
def half_close(server: EnhancedNotificationServer, notification: ReceivedNotification, status: int) -> None:
    """
    Close one direction without an error packet, and read on for as long as the client writes.

    Whoever only writes never gets an error. A correct client takes the end of what it can read for the end of all, and
    understands it like :func:`silent_close`.
    """
    server.half_close()


@_in_place_of
def split(server: EnhancedNotificationServer, notification: ReceivedNotification, status: int) -> None:
    """
    Send the error packet in two writes of three octets each.

    It is one packet, as if it had come in one.
    """
    packet = server.answer(notification, status)
    server.finish(packet[:3], packet[3:])


@_in_place_of
def byte_by_byte(server: EnhancedNotificationServer, notification: ReceivedNotification, status: int) -> None:
    """
    Send the error packet in six writes.

    It is one packet, as if it had come in one.
    """
    packet = server.answer(notification, status)
    server.finish(*(packet[position : position + 1] for position in range(len(packet))))


@_in_place_of
def reset(server: EnhancedNotificationServer, notification: ReceivedNotification, status: int) -> None:
    """
    Send the error packet and reset the connection at once, with what the client wrote meanwhile unread.

    The packet is there to be read, and counts. Who writes before reading gets an error and may never see it: then it is
    :func:`vanish`.
    """
    server.reset(server.answer(notification, status))


@_in_place_of
def truncated(server: EnhancedNotificationServer, notification: ReceivedNotification, status: int) -> None:
    """
    Send half of the error packet, and close.

    Half a packet names nobody: it is to be understood like :func:`silent_close`.
    """
    server.finish(server.answer(notification, status)[:3])


@_in_place_of
def late(server: EnhancedNotificationServer, notification: ReceivedNotification, status: int) -> None:
    """
    Send the error packet ten seconds later, and discard what comes until then.

    A client that takes two seconds of silence for acceptance was wrong by then. It must not blame another notification,
    and has to send again what it wrote since then. One that asks for proof waits.
    """
    server.finish(server.answer(notification, status), after=LATE)


@_in_place_of
def wrong_identifier(server: EnhancedNotificationServer, notification: ReceivedNotification, status: int) -> None:
    """
    Name a notification that was never sent.

    Something was refused, and nobody knows what: what is unconfirmed is to be understood as with :func:`silent_close`.
    """
    server.refuse(status, (notification.identifier or 0) ^ UNUSED)


@_in_place_of
def zero_identifier(server: EnhancedNotificationServer, notification: ReceivedNotification, status: int) -> None:
    """
    Name 0, which is Apple's way to say that the server does not know which it was.

    It is to be understood like :func:`wrong_identifier`; but a barrier has no token, and Apple's servers named 0 where
    there was none (status 2).
    """
    server.refuse(status, 0)


@_in_place_of
def unknown_status(server: EnhancedNotificationServer, notification: ReceivedNotification, status: int) -> int:
    """
    Give a status that Apple never assigned, 77.

    The notification was refused for a reason that nobody knows: that is no cause to call its token bad, to fail, or to
    send it again for ever. What follows it was discarded, as after any other.
    """
    return UNASSIGNED


@_in_place_of
def shutdown(server: EnhancedNotificationServer, notification: ReceivedNotification, status: int) -> int | bool:
    """
    Go down for maintenance (status 10), naming the last notification accepted.

    The one named has *not* failed; all that follows it has to be sent again. There the refusal comes as it should: a
    server that has accepted nothing yet does not shut down.
    """
    if server.accepted is None:
        return status  # as it should be
    server.refuse(Status.SHUTDOWN, server.accepted)
    return False


@_in_place_of
def mute(server: EnhancedNotificationServer, notification: ReceivedNotification, status: int) -> None:
    """
    Discard it and all that follows, and neither say so nor close.

    It looks like acceptance, and who trusts in silence will count it as such. Only a barrier that is never answered
    shows that something is wrong: then all that is unconfirmed is in doubt.
    """
    server.discard()


@_in_place_of
def stall(server: EnhancedNotificationServer, notification: ReceivedNotification, status: int) -> None:
    """
    Stop reading, say nothing, and leave the connection open.

    What is written fills the buffers of both systems, then it cannot be written any more. A correct client has a
    deadline for that, and is in doubt about what was not acknowledged; what the server's system took looks like
    acceptance, as with :func:`mute`.
    """
    server.stall()


#: All of them, by their names at the command line.
FAULTS: dict[str, Fault] = {
    fault.__name__.replace("_", "-"): fault
    for fault in (
        silent_close,
        vanish,
        half_close,
        split,
        byte_by_byte,
        reset,
        truncated,
        late,
        wrong_identifier,
        zero_identifier,
        unknown_status,
        shutdown,
        mute,
        stall,
    )
}
