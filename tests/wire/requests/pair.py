"""A sender and a receiver with the wire between them, and a scripted server."""

from __future__ import annotations

import json
from collections.abc import Iterable

import attrs
from hpack import Encoder
from hyperframe import frame as frames

from txapns.wire import requests
from txapns.wire.requests import Answer, GoAway, Request, RequestReceiver, RequestSender, Round

WINDOW = 65_535
OK = [(b":status", b"200")]
FIELDS = ((b"authorization", b"bearer x"), (b"apns-topic", b"com.example.app"))
BODY = b'{"aps":{"alert":"Hi"}}'
NO_ERROR, INTERNAL_ERROR, REFUSED, CANCEL = 0, 2, 7, 8


def rejection(status: int, reason: str, **more: object) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Make the header fields and the body of a rejection."""
    return [(b":status", b"%d" % status)], json.dumps({"reason": reason, **more}).encode()


def post(
    sender: RequestSender[str],
    item: str,
    device: bytes = b"abcd",
    fields: requests.Headers = FIELDS,
    body: bytes = BODY,
) -> None:
    """Send a notification to a device."""
    sender.send(item, sender.head(b"POST"), b"/3/device/" + device, fields, body)


def ask(sender: RequestSender[str], item: str, method: bytes = b"GET") -> None:
    """Send a request without a body."""
    sender.send(item, sender.head(method), b"/1/x", FIELDS, b"")


@attrs.define
class Ledger:
    """The outcomes of a connection's requests, collected over its reads."""

    ready: int = 0
    accepted: list[str] = attrs.Factory(list)  # in whichever of the two ways
    answered: list[tuple[str, Answer]] = attrs.Factory(list)
    rejected: list[tuple[str, Answer]] = attrs.Factory(list)
    refused: list[str] = attrs.Factory(list)
    reset: list[tuple[str, int]] = attrs.Factory(list)
    unsendable: list[str] = attrs.Factory(list)
    goaway: GoAway | None = None

    def add(self, received: Round[str]) -> None:
        """Add what one read brought."""
        self.ready += received.ready
        self.accepted += [item for item, _ in [*received.accepted, *received.answered]]
        self.answered += received.answered
        self.rejected += received.rejected
        self.refused += received.refused
        self.reset += received.reset
        self.unsendable += received.unsendable
        self.goaway = received.goaway or self.goaway

    @property
    def settled(self) -> list[str]:
        """Every item with an outcome, once per outcome."""
        pairs = [*self.rejected, *self.reset]
        return sorted([*self.accepted, *self.refused, *self.unsendable, *(item for item, _ in pairs)])

    @property
    def sorted(self) -> Ledger:
        """The same, in an order that does not depend on how the stream was split."""
        return Ledger(
            self.ready,
            sorted(self.accepted),
            sorted(self.answered, key=lambda pair: pair[0]),
            sorted(self.rejected, key=lambda pair: pair[0]),
            sorted(self.refused),
            sorted(self.reset),
            sorted(self.unsendable),
            self.goaway,
        )


class Pair:
    """A sender and a receiver, and the wire between them."""

    def __init__(
        self, concurrency: int = 1_000, *, most: int = 0, single: bool = False, window_updates: bool = True
    ) -> None:
        self.sender: RequestSender[str] = RequestSender(b"api.example.com", most=most, single=single)
        self.receiver = RequestReceiver(concurrency, max_body=5_120, window_updates=window_updates)
        self.ledger = Ledger()
        self.requests: list[Request] = []
        self.carry()

    def send(self, *items: str, body: bytes = BODY, fields: requests.Headers = FIELDS) -> None:
        """Send a request for each item, and carry it over."""
        for item in items:
            post(self.sender, item, fields=fields, body=body)
        self.carry()

    def carry(self) -> None:
        """Carry bytes both ways until there are none."""
        while True:
            up, down = self.sender.data_to_send(), self.receiver.data_to_send()
            if not (up or down):
                break
            self.requests += self.receiver.receive(up)
            self.ledger.add(self.sender.receive(down))
        self.ledger.add(self.sender.take())

    def answer(self, stream: int, headers: Iterable[tuple[bytes, bytes]] = OK, body: bytes = b"") -> None:
        """Answer from the receiver."""
        self.receiver.respond(stream, headers, body)
        self.carry()


class Script:
    """A server's bytes, frame by frame, made by python-hyper's frames and header compression."""

    def __init__(self) -> None:
        self._encoder = Encoder()

    def settings(self, **settings: int) -> bytes:
        """SETTINGS, with the settings named as in the specification."""
        made = frames.SettingsFrame(0)
        made.settings = {getattr(frames.SettingsFrame, name): value for name, value in settings.items()}
        return made.serialize()

    def headers(self, stream: int, fields: Iterable[tuple[bytes, bytes]] = OK, *, end: bool = False) -> bytes:
        """HEADERS, complete."""
        made = frames.HeadersFrame(stream, self._encoder.encode(list(fields)))
        made.flags |= {"END_HEADERS", *(["END_STREAM"] if end else [])}
        return made.serialize()

    def data(self, stream: int, data: bytes, *, end: bool = False) -> bytes:
        """DATA."""
        made = frames.DataFrame(stream, data)
        if end:
            made.flags.add("END_STREAM")
        return made.serialize()

    def reset(self, stream: int, code: int) -> bytes:
        """RST_STREAM."""
        return frames.RstStreamFrame(stream, code).serialize()

    def goaway(self, last_stream: int, code: int = NO_ERROR, debug: bytes = b"") -> bytes:
        """GOAWAY."""
        return frames.GoAwayFrame(0, last_stream, code, debug).serialize()

    def window(self, size: int) -> bytes:
        """WINDOW_UPDATE of the connection."""
        return frames.WindowUpdateFrame(0, size).serialize()

    def answer(self, stream: int, status: int, reason: str, **more: object) -> bytes:
        """HEADERS and DATA of a rejection."""
        fields, body = rejection(status, reason, **more)
        return self.headers(stream, fields) + self.data(stream, body, end=True)


def left(gone: Round[str]) -> tuple[list[str], list[str]]:
    """The items that were not processed, and those that may have been."""
    return gone.refused, [item for item, _ in gone.reset]


def scripted(*items: str, body: bytes = BODY, **settings: int) -> tuple[RequestSender[str], Script]:
    """Start a connection whose server is a script, and send a request for each item."""
    script = Script()
    sender: RequestSender[str] = RequestSender(b"api.example.com")
    sender.receive(script.settings(**settings))
    for item in items:
        post(sender, item, body=body)
    sender.data_to_send()
    return sender, script


def frame(kind: int, payload: bytes = b"", flags: int = 0, stream: int = 0) -> bytes:
    """Write a frame (RFC 9113, section 4.1)."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
