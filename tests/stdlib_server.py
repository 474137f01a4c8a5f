"""
A server of the binary protocol and of the feedback service, out of the standard library alone.

It shares no line with txapns, which it is there to test: whatever the client and the simulator got wrong alike shows
here. It runs in threads, listens on loopback, and treats each connection as its script says, which is plain data.
"""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

__all__ = ["ENDS", "Entry", "Script", "StdlibServer", "feedback"]

#: The longest that anything waits, in seconds.
DEADLINE = 30.0
TOKEN, PAYLOAD, IDENTIFIER, EXPIRATION, PRIORITY = 1, 2, 3, 4, 5


@dataclass(frozen=True)
class Entry:
    """
    A notification as it was read.

    :ivar connection: on which connection, counted from 0.
    :ivar status: the status it was refused with, told or not; ``None`` where it was accepted.
    """

    connection: int
    command: int
    identifier: int | None
    expiration: int | None
    priority: int | None
    token: bytes
    payload: bytes
    status: int | None = None


@dataclass(frozen=True)
class Script:
    """
    What to do with a connection. Until then, and without one, the server does as Apple's did.

    :ivar at: at which notification, counted from 1; 0 for as soon as TLS is set up, ``None`` for never.
    :ivar status: the status in the error packet; ``None`` for no packet. For command 0 there is none in any case.
    :ivar identifier: what the packet names; ``None`` for the notification.
    :ivar octets: what to send after the packet, or without one.
    :ivar length: how much to send of all this; ``None`` for all.
    :ivar cuts: where to cut what is sent; each piece is a write, and a TLS record, of its own.
    :ivar told: whether each of these writes, or the end where there is none, waits for :meth:`StdlibServer.go`.
    :ivar accept: whether the notification is accepted, as it always is with status 10 and where the server goes on.
    :ivar end: what follows, one of :data:`ENDS`.
    """

    at: int | None = None
    status: int | None = None
    identifier: int | None = None
    octets: bytes = b""
    length: int | None = None
    cuts: tuple[int, ...] = ()
    told: bool = False
    accept: bool = False
    end: str = "close"

    def respond(self) -> int | None:
        """Tell with which status the notification is refused."""
        accepted = self.accept or self.status == 10 or self.end == "go on"
        return None if accepted else self.status or 8

    def pieces(self, entry: Entry | None) -> list[bytes]:
        """Tell what is sent."""
        octets = b""
        if self.status is not None and (entry is None or entry.command != 0):
            found = 0 if entry is None else entry.identifier
            octets = struct.pack(">BBI", 8, self.status, found if self.identifier is None else self.identifier)
        octets = (octets + self.octets)[: self.length]
        return [octets[start:end] for start, end in pairwise([0, *self.cuts, len(octets)]) if start < end]


def feedback(entries: Iterable[tuple[int, bytes]]) -> bytes:
    """Write a list of the feedback service: for each the time and the token."""
    return b"".join(struct.pack(">IH", time, len(token)) + token for time, token in entries)


# Reading notifications.


def read(buffer: bytes, start: int) -> tuple[int, dict[int, bytes], int] | None:
    """Read the notification that begins there: its command, its fields as items, and its end, if it is whole."""
    if start == len(buffer):
        return None
    command = buffer[start]
    if command == 2:
        return _read_framed(buffer, start)
    assert command in (0, 1), f"no command: {command}"
    items = {}
    position = start + 1
    if command == 1:
        items[IDENTIFIER] = buffer[position : position + 4]
        items[EXPIRATION] = buffer[position + 4 : position + 8]
        position += 8
    for item in (TOKEN, PAYLOAD):
        if len(buffer) < position + 2:
            return None
        (length,) = struct.unpack_from(">H", buffer, position)
        position += 2 + length
        items[item] = buffer[position - length : position]
    return (command, items, position) if position <= len(buffer) else None


def _read_framed(buffer: bytes, start: int) -> tuple[int, dict[int, bytes], int] | None:
    if len(buffer) < start + 5:
        return None
    (length,) = struct.unpack_from(">I", buffer, start + 1)
    position, end = start + 5, start + 5 + length
    if len(buffer) < end:
        return None
    items: dict[int, bytes] = {}
    while position < end:
        item, length = struct.unpack_from(">BH", buffer, position)
        assert item in (TOKEN, PAYLOAD, IDENTIFIER, EXPIRATION, PRIORITY), f"no item: {item}"
        assert item not in items, f"item {item} twice"
        position += 3 + length
        items[item] = buffer[position - length : position]
    assert position == end, "the items do not fill their frame"
    return 2, items, end


def _number(octets: bytes | None) -> int | None:
    return None if octets is None else int.from_bytes(octets, "big")


# Ending connections.


def close_notify(peer: ssl.SSLSocket) -> None:
    """Send TLS's closing alert, and nothing else."""
    peer.setblocking(False)
    with suppress(ssl.SSLError):  # it wants the other's alert, and that is not what comes next
        peer.unwrap()
    peer.settimeout(DEADLINE)


def finish(peer: ssl.SSLSocket) -> None:
    """End what we write on the TCP connection, by a FIN; the TLS socket's own method would forget about TLS."""
    socket.socket.shutdown(peer, socket.SHUT_WR)


def reset(peer: ssl.SSLSocket) -> None:
    """Reset the TCP connection, with what came meanwhile unread."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def drain(peer: ssl.SSLSocket) -> None:
    """Read all that comes, to its end, and discard it; TLS, which may be over, does not matter."""
    while socket.socket.recv(peer, 65_536):
        pass


#: How a connection may end. After all but a reset the server reads on and discards it, unless it stalls, or goes on as
#: if nothing had been.
ENDS: dict[str, tuple[Callable[[ssl.SSLSocket], None], ...]] = {
    "close": (close_notify, finish),
    "fin": (finish,),
    "notify": (close_notify,),
    "reset": (reset,),
    "discard": (),
    "stall": (),
    "go on": (),
}


class StdlibServer:
    """
    The server.

    :param directory: where ``ca.pem`` and ``server.pem`` are.
    :param scripts: for each connection, in the order in which they are made, what to do with it.
    :param dead: the tokens that it refuses with status 8.
    :param tls12: whether TLS 1.2 is the newest version it speaks.
    :param tickets: whether it gives out session tickets.
    :param receive_buffer: the size of the system's buffer for what is not read yet; ``None`` for the system's choice.

    :ivar port: where it listens.
    :ivar connections: how many were made.
    :ivar record: what it looked at, in order.
    """

    def __init__(
        self,
        directory: Path,
        scripts: Sequence[Script] = (),
        *,
        dead: Iterable[bytes] = (),
        tls12: bool = False,
        tickets: bool = True,
        receive_buffer: int | None = None,
    ) -> None:
        self.connections = 0
        self.record: list[Entry] = []
        self._scripts = scripts
        self._dead = frozenset(dead)
        self._reached, self._told, self._done = (threading.Semaphore(0) for _ in range(3))
        self._closed = threading.Event()
        self._context = _context(directory, tls12, tickets)
        self._listening = socket.socket()
        if receive_buffer is not None:
            self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._listening.bind(("127.0.0.1", 0))
        self._listening.listen()
        self.port: int = self._listening.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def reached(self) -> None:
        """Wait until a script comes to where it has to be told to go on; for a thread of its own."""
        assert self._reached.acquire(timeout=DEADLINE), "it was not reached in time"

    def go(self) -> None:
        """Tell it, and wait until it has done what it does: all that it sends is in the client's system by then."""
        self._told.release()
        assert self._done.acquire(timeout=DEADLINE), "it was not done in time"

    def close(self) -> None:
        """Stop listening, and wait until all that clients wrote before they closed is read; for a thread of its own."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._listening.shutdown(socket.SHUT_RDWR)  # which wakes the thread, as closing would not
        self._threads[0].join(DEADLINE)
        self._listening.close()
        for thread in self._threads:
            thread.join(DEADLINE)
            assert not thread.is_alive(), "a thread did not end"

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._listening.accept()
            except OSError:
                return
            plain.settimeout(DEADLINE)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
            self._threads.append(threading.Thread(target=self._serve, args=(plain, self.connections), daemon=True))
            self.connections += 1
            self._threads[-1].start()

    def _serve(self, plain: socket.socket, connection: int) -> None:
        script = self._scripts[connection] if connection < len(self._scripts) else Script()
        # An error means that the client left.
        with plain, suppress(OSError), self._context.wrap_socket(plain, server_side=True) as peer:
            self._follow(script, peer, connection)

    def _follow(self, script: Script, peer: ssl.SSLSocket, connection: int) -> None:
        if script.at == 0 and not self._play(script, peer, None):
            return
        for count, entry in enumerate(_entries(peer, connection), 1):
            scripted = count == script.at
            status = script.respond() if scripted else self._judge(entry)
            self.record.append(replace(entry, status=status))
            if scripted and not self._play(script, peer, entry):
                return
            if not scripted and status is not None:
                # Apple's servers named 0 where there was no token.
                self._play(Script(status=status, identifier=None if entry.token else 0), peer, entry)
                return

    def _judge(self, entry: Entry) -> int | None:
        if not entry.token:
            return 2
        if len(entry.token) != 32:
            return 5
        return 8 if entry.token in self._dead else None

    def _play(self, script: Script, peer: ssl.SSLSocket, entry: Entry | None) -> bool:
        """Do what is in a script; tell whether the connection goes on."""
        turns = [[partial(peer.sendall, piece)] for piece in script.pieces(entry)] or [[]]
        turns[-1] += [partial(end, peer) for end in ENDS[script.end]]
        for turn in turns:
            if script.told:
                self._reached.release()
                assert self._told.acquire(timeout=DEADLINE), "it was not told in time"
            try:
                for deed in turn:
                    deed()
            finally:
                if script.told:
                    self._done.release()
        if script.end == "stall":
            self._closed.wait(DEADLINE)
        elif script.end not in ("reset", "go on"):
            drain(peer)
        return script.end == "go on"


def _context(directory: Path, tls12: bool, tickets: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "server.pem")
    context.load_verify_locations(directory / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    if tls12:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    if not tickets:
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    return context


def _entries(peer: ssl.SSLSocket, connection: int) -> Iterator[Entry]:
    """Read notifications until the client closes."""
    buffer = b""
    while octets := peer.recv(4_096):
        buffer += octets
        start = 0
        while (found := read(buffer, start)) is not None:
            command, items, start = found
            numbers = (_number(items.get(item)) for item in (IDENTIFIER, EXPIRATION, PRIORITY))
            yield Entry(connection, command, *numbers, items.get(TOKEN, b""), items.get(PAYLOAD, b""))
        buffer = buffer[start:]
