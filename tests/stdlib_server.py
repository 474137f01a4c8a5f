"""
A server of the binary protocol and of the feedback service, made of the standard library alone.

It shares no code with txapns, which it tests: a mistake that both the client and the simulator make shows here. It runs
in threads, listens on loopback, and treats each connection as its script says, which is plain data.
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

#: How long anything waits at most, in seconds.
DEADLINE = 120.0
TOKEN, PAYLOAD, IDENTIFIER, EXPIRATION, PRIORITY = 1, 2, 3, 4, 5


@dataclass(frozen=True)
class Entry:
    """
    A notification as it was read.

    :ivar connection: the number of the connection, counted from 0.
    :ivar status: the status it was refused with, whether that was sent or not; ``None`` if it was accepted.
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
    What to do with a connection. Before that, and without a script, the server behaves like Apple's.

    :ivar at: the notification at which to do it, counted from 1; 0 for after the TLS handshake, ``None`` for never.
    :ivar status: the status in the error packet; ``None`` for no packet. For command 0 there is never one.
    :ivar identifier: the identifier in the packet; ``None`` for the notification's.
    :ivar data: what to send after the packet, or without one.
    :ivar length: how much to send of all this; ``None`` for all.
    :ivar cuts: where to split what is sent; each piece is a write, and a TLS record, of its own.
    :ivar waits: whether each of these writes, or the end if there is none, waits for :meth:`StdlibServer.go`.
    :ivar accept: whether the notification is accepted, as it always is with status 10, and if the server continues.
    :ivar end: what follows, one of :data:`ENDS`.
    """

    at: int | None = None
    status: int | None = None
    identifier: int | None = None
    data: bytes = b""
    length: int | None = None
    cuts: tuple[int, ...] = ()
    waits: bool = False
    accept: bool = False
    end: str = "close"

    def outcome(self) -> int | None:
        """Return the status with which the notification is refused."""
        accepted = self.accept or self.status == 10 or self.end == "go on"
        return None if accepted else self.status or 8

    def pieces(self, entry: Entry | None) -> list[bytes]:
        """Return what is sent."""
        data = b""
        if self.status is not None and (entry is None or entry.command != 0):
            found = 0 if entry is None else entry.identifier
            data = struct.pack(">BBI", 8, self.status, found if self.identifier is None else self.identifier)
        data = (data + self.data)[: self.length]
        return [data[start:end] for start, end in pairwise([0, *self.cuts, len(data)]) if start < end]


def feedback(entries: Iterable[tuple[int, bytes]]) -> bytes:
    """Encode a list of the feedback service: pairs of time and token."""
    return b"".join(struct.pack(">IH", time, len(token)) + token for time, token in entries)


# Reading notifications.


def read(buffer: bytes, start: int) -> tuple[int, dict[int, bytes], int] | None:
    """Read the notification that begins there: its command, its fields as items, and its end, if it is complete."""
    if start == len(buffer):
        return None
    command = buffer[start]
    if command == 2:
        return _read_framed(buffer, start)
    assert command in (0, 1), f"unknown command: {command}"
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
        assert item in (TOKEN, PAYLOAD, IDENTIFIER, EXPIRATION, PRIORITY), f"unknown item: {item}"
        assert item not in items, f"item {item} twice"
        position += 3 + length
        items[item] = buffer[position - length : position]
    assert position == end, "the items do not fill their frame"
    return 2, items, end


def _number(data: bytes | None) -> int | None:
    return None if data is None else int.from_bytes(data, "big")


# Ending connections.


def close_notify(peer: ssl.SSLSocket) -> None:
    """Send TLS's closing alert, and nothing else."""
    peer.setblocking(False)
    with suppress(ssl.SSLError):  # it expects the peer's alert, but other data comes next
        peer.unwrap()
    peer.settimeout(DEADLINE)


def finish(peer: ssl.SSLSocket) -> None:
    """Send a FIN on the TCP connection. The TLS socket's own method would end TLS as well."""
    socket.socket.shutdown(peer, socket.SHUT_WR)


def reset(peer: ssl.SSLSocket) -> None:
    """Reset the TCP connection, without reading what has arrived meanwhile."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def drain(peer: ssl.SSLSocket) -> None:
    """Read to the end, below TLS, which may be over, and discard everything."""
    while socket.socket.recv(peer, 65_536):
        pass


#: How a connection may end. After all but a reset the server reads and discards the rest, unless it stalls or goes on
#: normally.
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
    :param scripts: what to do with each connection, in order.
    :param dead: the tokens to refuse with status 8.
    :param tls12: whether to speak nothing newer than TLS 1.2.
    :param tickets: whether to issue session tickets.
    :param receive_buffer: the size of the system's receive buffer; ``None`` for the system's choice.

    :ivar port: the port it listens at.
    :ivar connections: the number of connections made.
    :ivar record: the notifications it read, in order.
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
        self._reached, self._going, self._done = (threading.Semaphore(0) for _ in range(3))
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
        """Wait until a script waits for :meth:`go`. Call it in a thread of its own."""
        assert self._reached.acquire(timeout=DEADLINE), "it was not reached in time"

    def go(self) -> None:
        """Let it continue, and wait until it is done: the client's system has received all that was sent by then."""
        self._going.release()
        assert self._done.acquire(timeout=DEADLINE), "it was not done in time"

    def close(self) -> None:
        """Stop listening, and wait until all that clients wrote is read. Call it in a thread of its own."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._listening.shutdown(socket.SHUT_RDWR)  # wakes the thread, unlike close()
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
            status = script.outcome() if scripted else self._status_of(entry)
            self.record.append(replace(entry, status=status))
            if scripted and not self._play(script, peer, entry):
                return
            if not scripted and status is not None:
                # Apple's servers sent the identifier 0 if there was no token.
                self._play(Script(status=status, identifier=None if entry.token else 0), peer, entry)
                return

    def _status_of(self, entry: Entry) -> int | None:
        if not entry.token:
            return 2
        if len(entry.token) != 32:
            return 5
        return 8 if entry.token in self._dead else None

    def _play(self, script: Script, peer: ssl.SSLSocket, entry: Entry | None) -> bool:
        """Play a script; returns whether the connection continues."""
        turns = [[partial(peer.sendall, piece)] for piece in script.pieces(entry)] or [[]]
        turns[-1] += [partial(end, peer) for end in ENDS[script.end]]
        for turn in turns:
            if script.waits:
                self._reached.release()
                assert self._going.acquire(timeout=DEADLINE), "go() was not called in time"
            try:
                for act in turn:
                    act()
            finally:
                if script.waits:
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
    while data := peer.recv(4_096):
        buffer += data
        start = 0
        while (found := read(buffer, start)) is not None:
            command, items, start = found
            numbers = (_number(items.get(item)) for item in (IDENTIFIER, EXPIRATION, PRIORITY))
            yield Entry(connection, command, *numbers, items.get(TOKEN, b""), items.get(PAYLOAD, b""))
        buffer = buffer[start:]
