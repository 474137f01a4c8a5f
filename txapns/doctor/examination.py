"""All checks together: of this machine, of the way to each gateway, and of a credential there."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, FirstError, gatherResults

from txapns._network.proxy import Proxy
from txapns.credentials import Credential
from txapns.doctor.checks import CHECKS, descriptors
from txapns.doctor.contact import Contact, make_contact
from txapns.doctor.findings import Finding, Level
from txapns.doctor.probes import Answer, ask, judged, probes_for
from txapns.errors import InvalidGateway
from txapns.gateway import Gateway

if sys.platform != "win32":  # which has no such limit
    import resource

__all__ = ["examine"]

#: The ports of the provider API, which are the same service.
_PORTS = (443, 2197)


async def examine(
    reactor: Any,
    credential: Credential,
    gateways: Sequence[Gateway],
    *,
    any_gateway: bool = False,
    topics: Sequence[str] = (),
    push_types: Sequence[str] = (),
    unused_proxy: Proxy | None = None,
    timeout: float = 10.0,
) -> list[Finding]:
    """
    Find out what works with a credential.

    :param reactor: the reactor.
    :param credential: a :class:`~txapns.Certificate` or a :class:`~txapns.ProviderToken`.
    :param gateways: the gateways to ask.
    :param any_gateway: whether it is enough that the credential is for the environment of one of them.
    :param topics: the topics to ask about; empty for those of the certificate.
    :param push_types: the push types to ask about; empty for all that may work, of which one may be enough.
    :param unused_proxy: the proxy that the environment names, if the gateways do not go through it.
    :param timeout: how long each step may take, in seconds.
    :returns: what was found, in the order of the gateways.
    :raises InvalidGateway: a gateway is not of the HTTP/2 protocol.
    """
    if any(each.protocol != "http2" for each in gateways):
        raise InvalidGateway("only gateways of the HTTP/2 provider API can be asked")
    probes = probes_for(credential, topics, push_types)
    found: list[Finding] = [descriptors(*_descriptors())]
    answers: list[Answer] = []

    async def visit(gateway: Gateway) -> tuple[Contact, list[Answer]]:
        ports = _PORTS if gateway.host.endswith(".push.apple.com") else ()
        contact = await make_contact(reactor, gateway, timeout, ports)
        return contact, await ask(reactor, credential, gateway, probes, timeout) if _is_open(contact) else []

    try:
        visits = await gatherResults([Deferred.fromCoroutine(visit(each)) for each in gateways], consumeErrors=True)
    except FirstError as error:
        error.subFailure.raiseException()
    for contact, answered in visits:
        found += [finding for check in CHECKS for finding in check(contact)]
        if unused_proxy is not None and unused_proxy.is_for(contact.gateway.host, contact.gateway.port):
            found.append(_unused(unused_proxy, contact))
        if not _is_open(contact):
            found.append(_unasked(contact))
        answers += answered
    return found + judged(answers, any_gateway=any_gateway, any_push_type=not push_types)


def _is_open(contact: Contact) -> bool:
    """Whether it makes sense to show the credential: HTTP/2 with a server that is trusted."""
    found = contact.handshake
    return found is not None and not found.fault and found.http == "HTTP/2"


def _unasked(contact: Contact) -> Finding:
    said = "no push type was tried: the credential is shown only to a server that is trusted and speaks HTTP/2"
    return Finding(check="push", gateway=str(contact.gateway), level=Level.UNKNOWN, message=said)


def _unused(proxy: Proxy, contact: Contact) -> Finding:
    reached = not contact.lookup_error and not contact.ports.get(contact.gateway.port)
    return Finding(
        check="proxy",
        gateway=str(contact.gateway),
        level=Level.NOTE,
        message=f"HTTPS_PROXY names {proxy}, and it was not used",
        advice="" if reached else "go through it: --proxy environment",
    )


def _descriptors() -> tuple[int | None, int | None]:
    """Count the file descriptors: the limit, and those in use."""
    if sys.platform == "win32":
        return None, None
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    try:
        used = len([*Path("/dev/fd").iterdir()])
    except OSError:
        return (None if soft == resource.RLIM_INFINITY else soft), None
    return (None if soft == resource.RLIM_INFINITY else soft), used
