"""Gateways and proxies, as text."""

from __future__ import annotations

from contextlib import suppress

from txapns._network.proxy import Proxy
from txapns.errors import InvalidGateway
from txapns.gateway import Gateway

__all__ = ["SEEDS", "check"]

SEEDS = [
    b"production",
    b"http2:host=localhost:port=2197",
    b"binary:host=[2001:db8::1]:port=2195",
    b"http://user:secret@proxy.example.com:3128",
    b"https://[::1]:8443",
]


def check(data: bytes) -> None:
    """Check that a gateway's text reads back as the same gateway, and that invalid text raises ``InvalidGateway``."""
    text = data.decode("utf-8", "surrogateescape")
    with suppress(InvalidGateway):
        gateway = Gateway.parse(text)
        assert Gateway.parse(str(gateway)) == gateway, str(gateway)
    with suppress(InvalidGateway):
        proxy = Proxy.parse(text)
        assert Proxy.parse(str(proxy)).host == proxy.host, str(proxy)
