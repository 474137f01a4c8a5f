"""What an endpoint's text says of who can reach it."""

from __future__ import annotations

import ipaddress
import re
import stat

from OpenSSL import SSL
from twisted.internet.endpoints import serverFromString

__all__ = ["SOCKET_MODE", "has_valid_port", "is_endpoint", "is_local", "is_open_socket", "with_address", "with_mode"]

#: The mode of a UNIX socket if the endpoint names none: for the daemon's user and group. Twisted's own is for everyone.
SOCKET_MODE = 0o660


def is_endpoint(text: str) -> bool:
    """Tell whether a text is an endpoint."""
    if text.startswith("systemd:"):
        return True  # its sockets exist only when systemd starts us
    try:
        serverFromString(None, text)
    except (LookupError, OSError, SSL.Error, TypeError, ValueError):
        return False
    return True


def has_valid_port(endpoint: str) -> bool:
    """Tell whether the port of an endpoint, if it has one, is in range. Twisted checks only that it is a number."""
    kind, *arguments = _parts(endpoint)
    if kind not in ("tcp", "tcp6", "ssl"):
        return True
    named = [each.removeprefix("port=") for each in arguments if each.startswith("port=")]
    ports = named or [each for each in arguments if not re.match("[A-Za-z]+=", each)][:1]
    return all(0 <= int(port.replace("\\", "")) <= 65_535 for port in ports)


def is_local(endpoint: str) -> bool:
    """
    Tell whether an endpoint is certainly for this machine alone.

    It errs on the side of ``False``. An invalid endpoint is unreachable.
    """
    if _is_socket(endpoint) or not is_endpoint(endpoint):
        return True
    arguments = [part.replace("\\", "") for part in _parts(endpoint)]
    interfaces = [part.removeprefix("interface=") for part in arguments if part.startswith("interface=")]
    try:
        return bool(interfaces) and all(ipaddress.ip_address(each).is_loopback for each in interfaces)
    except ValueError:
        return False


def is_open_socket(endpoint: str) -> bool:
    """Tell whether an endpoint is a UNIX socket that every user of this machine may write to."""
    return _is_socket(endpoint) and any(int(mode, 8) & stat.S_IWOTH for mode in _modes(endpoint))


def with_address(endpoint: str) -> str:
    """Escape an interface that is an IPv6 address, in brackets or not, with backslashes as Twisted expects."""

    def escaped(interface: re.Match[str]) -> str:
        bare = re.sub(r"\A\[(.*)\]\Z", r"\1", interface[0])
        try:
            ipaddress.IPv6Address(bare)
        except ValueError:
            return interface[0]
        return bare.replace(":", "\\:")

    return re.sub(r"(?<=:interface=).+?(?=:[A-Za-z]+=|\Z)", escaped, endpoint)


def with_mode(endpoint: str) -> str:
    """Add :data:`SOCKET_MODE` to a UNIX socket that names no mode."""
    named = _parts(endpoint)[0] != "unix" or _modes(endpoint)
    return endpoint if named else f"{endpoint}:mode={SOCKET_MODE:o}"


def _is_socket(endpoint: str) -> bool:
    return is_endpoint(endpoint) and _parts(endpoint)[0] == "unix"


def _parts(endpoint: str) -> list[str]:
    """Split an endpoint into its kind and its arguments, without the prefix for a proxy's header."""
    return re.split(r"(?<!\\):", re.sub(r"\A(haproxy:)+", "", endpoint))


def _modes(endpoint: str) -> list[str]:
    """Find the mode that an endpoint names for its socket: by name or, after the path, by position."""
    arguments = _parts(endpoint)[1:]
    named = [each.removeprefix("mode=") for each in arguments if each.startswith("mode=")]
    return named or [each for each in arguments if not re.match("[a-zA-Z]+=", each)][1:2]
