"""XML-RPC calls, as made by programs written for pyapns."""

from __future__ import annotations

import xmlrpc.client
from contextlib import suppress

from txapns.daemon.faces.pyapns import _call_of

__all__ = ["SEEDS", "check"]

SEEDS = [
    xmlrpc.client.dumps(("chess", ["aa" * 32], [{"aps": {"alert": "Hi", "badge": 1}}]), "notify").encode(),
    xmlrpc.client.dumps(("chess", xmlrpc.client.Binary(b"\0"), 1.5, True), "provision").encode(),
    b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><methodCall><methodName>&b;</methodName></methodCall>',
]


def check(data: bytes) -> None:
    """Check that the result is a call or a fault, and nothing else."""
    with suppress(xmlrpc.client.Fault):
        name, arguments = _call_of(data)
        assert isinstance(name, str)
        assert isinstance(arguments, tuple)
