"""
The checks: each looks at what is known of the way to a gateway, and returns what it found.

They are functions of values, without I/O. :data:`CHECKS` lists those of a gateway, in the order in which one would ask.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from txapns.doctor.contact import Contact
from txapns.doctor.findings import Finding, Level

__all__ = ["CHECKS", "FEW", "SKEW", "TIGHT", "clock", "descriptors", "name", "ports", "protocol", "proxy", "tls"]

#: By how many seconds the clocks may differ: more is a note, and ten times as much a fault. Apple rejects provider
#: tokens that are an hour old, and ours are replaced after 35 minutes.
SKEW = 30.0
#: With so many file descriptors in all, a daemon with its default limits accepts fewer connections.
FEW = 1_024
#: With so few left, connections soon fail.
TIGHT = 32

_APPLE = ".push.apple.com"


def name(contact: Contact) -> list[Finding]:
    """Look at the addresses of the gateway's name."""
    gateway = contact.gateway
    if contact.proxied:
        return [_finding(contact, "name", Level.UNKNOWN, "the proxy looks the name up")]
    if gateway.host in contact.addresses:
        return []  # an address needs no look-up
    if contact.lookup_error:
        advice = "check the name, this machine's DNS servers, and whether only a proxy leads out"
        return [_finding(contact, "name", Level.FAULT, contact.lookup_error, advice)]
    count = len(contact.addresses)
    more = f" and {count - 1} more" if count > 1 else ""
    said = f"{gateway.host} is {contact.addresses[0]}{more}"
    return [_finding(contact, "name", Level.GOOD, said, addresses=[*contact.addresses])]


def ports(contact: Contact) -> list[Finding]:
    """Look at the TCP ports. Another than the gateway's own need not be open."""
    found = []
    others = [port for port, why in contact.ports.items() if not why and port != contact.gateway.port]
    for port, why in contact.ports.items():
        own = port == contact.gateway.port
        if not why:
            found.append(_finding(contact, "port", Level.GOOD, f"TCP port {port} can be reached", port=port))
        elif own:
            advice = f"port {others[0]} is the same service and can be reached: use it" if others else _PORT_ADVICE
            found.append(_finding(contact, "port", Level.FAULT, why, advice, port=port))
        else:
            found.append(_finding(contact, "port", Level.NOTE, why, "nothing to do: the other port works", port=port))
    return found if not _all_closed(contact) else [each for each in found if each.level is Level.FAULT]


_PORT_ADVICE = "let the firewall allow TCP to ports 443 and 2197, or go through a proxy (--proxy)"


def _all_closed(contact: Contact) -> bool:
    return all(contact.ports.values())


def proxy(contact: Contact) -> list[Finding]:
    """Say which proxy is used."""
    if not contact.proxied:
        return []
    reached = not contact.ports.get(contact.gateway.port)
    said = f"through {contact.gateway.proxy}" if reached else f"{contact.gateway.proxy} leads nowhere"
    advice = "" if reached else "ask its operator to allow CONNECT to this host, on ports 443 and 2197"
    return [_finding(contact, "proxy", Level.GOOD if reached else Level.FAULT, said, advice)]


def tls(contact: Contact) -> list[Finding]:
    """Look at who signed the gateway's certificate."""
    found = contact.handshake
    if found is None:
        return []
    if not found.version:
        return [_finding(contact, "tls", Level.FAULT, f"no TLS: {found.error}", _INTERCEPTED)]
    signed = " < ".join(found.chain)
    details: dict[str, Any] = {"chain": [*found.chain], "version": found.version, "trust": found.trust}
    if found.fault:
        why, _, advice = found.fault.partition("; ")
        said = f"the certificate is not trusted: {why}. Signed by: {signed}"
        return [_finding(contact, "tls", Level.FAULT, said, advice, **details)]
    if contact.gateway.host.endswith(_APPLE) and not any("Apple" in each for each in found.chain[1:]):
        said = f"the certificate is trusted, but Apple did not sign it: {signed}"
        return [_finding(contact, "tls", Level.NOTE, said, _INTERCEPTED, **details)]
    return [_finding(contact, "tls", Level.GOOD, f"{found.version}, signed by: {signed}", **details)]


_INTERCEPTED = (
    "a firewall or proxy that opens TLS must exempt *.push.apple.com; for another server give its authority "
    "(--trust-root)"
)


def protocol(contact: Contact) -> list[Finding]:
    """Look at what the server speaks."""
    found = contact.handshake
    if found is None or not found.version:
        return []
    if found.http == "HTTP/2":
        return [_finding(contact, "protocol", Level.GOOD, "it speaks HTTP/2", answer=found.answer)]
    if found.http:
        said = f"it speaks {found.http} and answered {found.answer!r}"
        advice = "this is not APNs, but a web server or a proxy: check host and port, and what is on the way"
        return [_finding(contact, "protocol", Level.FAULT, said, advice, answer=found.answer)]
    said = f"TLS works, but then: {found.error}"
    advice = "check that it is APNs that answers there, and that nothing on the way holds back HTTP/2"
    return [_finding(contact, "protocol", Level.FAULT, said, advice)]


def clock(contact: Contact) -> list[Finding]:
    """Compare this machine's clock with the server's."""
    found = contact.handshake
    if found is None or not found.version:
        return []
    if found.server_time is None:
        said = "the server does not tell its time, so this machine's clock was not compared"
        return [_finding(contact, "clock", Level.UNKNOWN, said)]
    skew = found.our_time - found.server_time
    if abs(skew) <= SKEW:
        return [_finding(contact, "clock", Level.GOOD, f"within {SKEW:g} s of the server's", skew=round(skew))]
    level = Level.FAULT if abs(skew) > 10 * SKEW else Level.NOTE
    said = f"this machine's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the server's"
    advice = "set it (NTP): provider tokens are dated by it, and Apple refuses those of another time"
    return [_finding(contact, "clock", level, said, advice, skew=round(skew))]


def descriptors(limit: int | None, used: int | None) -> Finding:
    """
    Look at the file descriptors of this process.

    :param limit: how many it may have; ``None`` for no limit.
    :param used: how many it has; ``None`` if that is unknown.
    """
    details = {"limit": limit, "used": used}
    if limit is None:
        level, said = Level.GOOD, "no limit"
    elif used is not None and limit - used < TIGHT:
        level, said = Level.FAULT, f"{used} of {limit} are in use, so connections will soon fail"
    elif limit < FEW:
        level, said = Level.NOTE, f"a process may have {limit}, which is few for a daemon or many clients"
    else:
        level, said = Level.GOOD, f"a process may have {limit}"
    advice = "" if level is Level.GOOD else "raise the limit: ulimit -n, or LimitNOFILE in the unit"
    return Finding(check="descriptors", gateway="", level=level, message=said, advice=advice, details=details)


#: The checks of a gateway.
CHECKS: tuple[Callable[[Contact], list[Finding]], ...] = (name, ports, proxy, tls, protocol, clock)


def _finding(contact: Contact, check: str, level: Level, message: str, advice: str = "", **details: Any) -> Finding:
    gateway = str(contact.gateway)
    return Finding(check=check, gateway=gateway, level=level, message=message, advice=advice, details=details)
