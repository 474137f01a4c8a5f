"""HTTP/2 as a server reads it."""

from __future__ import annotations

from collections.abc import Iterable

from fuzz import pieces
from txapns.errors import WireError
from txapns.wire.requests import RequestReceiver, RequestSender

__all__ = ["SEEDS", "check"]

_LONGEST = 256


def _requests() -> bytes:
    client: RequestSender[int] = RequestSender(b"localhost")
    server = RequestReceiver(100, max_body=_LONGEST)
    client.receive(server.data_to_send())
    head = client.head(b"POST")
    for number in range(3):
        client.send(number, head, b"/3/device/aa", [(b"apns-topic", b"com.example.app")], b"{}" * 100 * number)
    client.ping()
    return client.data_to_send()


SEEDS = [
    _requests(),
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000"),
    b"GET / HTTP/1.1\r\n\r\n",
]


def _read(stream: Iterable[bytes]) -> dict[int, object]:
    server = RequestReceiver(100, max_body=_LONGEST)
    found: dict[int, object] = {}
    for piece in stream:
        try:
            requests = server.receive(piece)
        except WireError:
            break
        for request in requests:
            assert len(request.body) <= _LONGEST + 1
            found[request.stream] = list(request.headers), request.body
            server.respond(request.stream, [(b":status", b"200")])
        server.data_to_send()
    return found


def check(data: bytes) -> None:
    """Check that only ``WireError`` is raised, and that a request is the same however it is split."""
    # The sets of requests may differ: a read that contains invalid HTTP/2 yields nothing, and no read yields a request
    # that it also resets; after a GOAWAY the connection ends as soon as no request is under way.
    whole, split = _read([data]), _read(pieces(data))
    both = whole.keys() & split.keys()
    assert {each: whole[each] for each in both} == {each: split[each] for each in both}, (whole, split)
