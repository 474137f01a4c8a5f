"""
TLS in front of a database, as PostgreSQL itself speaks it: the server of the wheel has none.

A client asks for TLS with eight octets, is told ``S``, and begins the handshake.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from unittest import TestCase

__all__ = ["TLSFront"]

_REQUEST = (8).to_bytes(4, "big") + (80_877_103).to_bytes(4, "big")


class TLSFront:
    """
    Takes connections with TLS, and passes them on to a server without.

    :param case: the test, after which it ends.
    :param certificate: a file with the certificate and the key; ``None`` for a server that has no TLS.
    :param port: the server's TCP port on 127.0.0.1.

    :ivar port: its own.
    """

    def __init__(self, case: TestCase, certificate: Path | None, port: int) -> None:
        self._to = port
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if certificate else None
        if self._context is not None:
            self._context.load_cert_chain(str(certificate))
        self._threads: list[threading.Thread] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._start(self._accept)
        case.addCleanup(self._end)

    def _start(self, function: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # it was shut
            while True:
                client, _ = self._socket.accept()
                self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            assert client.recv(8, socket.MSG_WAITALL) == _REQUEST
            client.sendall(b"S" if self._context else b"N")
            if self._context is None:
                return
            with (
                self._context.wrap_socket(client, server_side=True) as secure,
                socket.create_connection(("127.0.0.1", self._to)) as server,
            ):
                _pass_on(secure, server)

    def _end(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for thread in self._threads:
            thread.join()


def _pass_on(secure: ssl.SSLSocket, server: socket.socket) -> None:
    """Pass on what comes from both sides until one ends."""
    while True:
        readable = [secure] if secure.pending() else select.select([secure, server], [], [])[0]
        for one, other in ((secure, server), (server, secure)):
            if one in readable:
                data = one.recv(65_536)
                if not data:
                    return
                other.sendall(data)
