"""HTTP/2 as a client reads it: whatever the server sends, each request has one outcome."""

from __future__ import annotations

from fuzz import pieces
from txapns.errors import WireError
from txapns.wire.requests import RequestReceiver, RequestSender, Round

__all__ = ["SEEDS", "check"]

_REQUESTS = 5


def _connected() -> tuple[RequestSender[int], RequestReceiver]:
    """Make a client with requests under way, and their server."""
    client: RequestSender[int] = RequestSender(b"localhost")
    server = RequestReceiver(100, max_body=4_096)
    client.receive(server.data_to_send())
    head = client.head(b"POST")
    for number in range(_REQUESTS):
        client.send(number, head, b"/3/device/aa", [(b"apns-topic", b"com.example.app")], b"{}")
    server.receive(client.data_to_send())
    return client, server


def _answers() -> bytes:
    """Make a server's answers."""
    _, server = _connected()
    server.respond(1, [(b":status", b"200"), (b"apns-id", b"a")])
    server.respond(3, [(b":status", b"410")], b'{"reason":"Unregistered","timestamp":1700000000000}')
    server.reset(5, 7)
    server.goaway(0, last_stream=7, debug=b'{"reason":"Shutdown"}')
    return server.data_to_send()


SEEDS = [_answers(), _answers()[9:], b"HTTP/1.1 400 Bad Request\r\n\r\n"]


def _named(received: Round[int]) -> list[int]:
    answered = [item for item, _ in [*received.accepted, *received.answered, *received.rejected, *received.reset]]
    return [*answered, *received.refused, *received.unsendable]


def check(data: bytes) -> None:
    """Check that each request has one outcome, and that only ``WireError`` is raised."""
    client, _ = _connected()
    ended: list[int] = []
    try:
        for piece in pieces(data):
            ended += _named(client.receive(piece))
            client.data_to_send()
    except WireError:
        assert client.closed
    ended += _named(client.abandon())
    assert sorted(ended) == list(range(_REQUESTS)), ended
