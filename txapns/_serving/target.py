"""
The target and the host of a request, and the web page that sent it, all read from its head.

A browser sends requests for the pages in it, and it may run on the daemon's own machine, or in its network. Any page
can make it post a form to ``127.0.0.1``; and a page whose host name is made to resolve to ``127.0.0.1`` can read the
answer as well (DNS rebinding). Keys prevent that, since no page knows one. Where no key is required, and where the
browser itself stores the key, a request must name a host that is certainly ours, and must not come from a page of
another site. A name is ours if the configuration or our certificate says so. An IP address is always accepted, because
a page can change what its own name resolves to, but not what ``192.0.2.1`` means.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence

__all__ = ["BadHead", "CrossSite", "ForeignHost", "Hosts", "asked_host", "split_target"]

# RFC 9110, section 4.2, and RFC 3986, section 3.2.2: a name or an IPv4 address, or an IPv6 address in brackets.
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(?::([0-9]*))?")
_ABSOLUTE = re.compile(r"(?i:https?)://([^/?#]*)(.*)")
_ORIGIN = re.compile(r"(?i:(https?))://(.+)")
_PORTS = {"http": "80", "https": "443"}
_OURS = ("same-origin", "none")  # Sec-Fetch-Site of our own pages, and of addresses that the user typed or chose


class BadHead(Exception):
    """The head of a request is malformed."""


class ForeignHost(Exception):
    """A request is for a host that is not ours."""


class CrossSite(Exception):
    """A request comes from a web page of another site."""


def split_target(target: str) -> tuple[str | None, str]:
    """Split the target of a request (RFC 9112, section 3.2) into its authority, if any, and the path with its query."""
    if target.startswith("/") or target == "*":
        return None, target
    match = _ABSOLUTE.fullmatch(target)
    if match is None or not match[1]:
        raise BadHead("the target of the request must be a path, or an http or https URL")
    path = match[2].partition("#")[0]
    return match[1], path if path.startswith("/") else f"/{path}"


def asked_host(values: Sequence[str], authority: str | None, version: str) -> str | None:
    """Find the host that a request is for (RFC 9112, section 3.2); ``None`` if an HTTP/1.0 request names none."""
    if len(values) > 1 or (not values and version != "HTTP/1.0"):
        raise BadHead("a request must have exactly one Host header field")
    for each in (*values, *([] if authority is None else [authority])):
        if not _AUTHORITY.fullmatch(each):
            raise BadHead("the host that the request names is not valid")
    return authority or (values[0] if values else None)


class Hosts:
    """
    Our hosts, where web pages of other sites are kept out.

    :param names: our host names; ``*.`` at the beginning stands for any one label.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = frozenset({"localhost", "*.localhost", *(_plain(name) for name in names)})
        self._last: str | None = None  # the last host that was found to be ours: most requests name the same

    def check(self, host: str | None, origins: Sequence[str], sites: Sequence[str]) -> None:
        """
        Check a request.

        :param host: the host that it is for; ``None`` if it names none, which no browser does.
        :param origins: its ``Origin`` header fields.
        :param sites: its ``Sec-Fetch-Site`` header fields.
        :raises ForeignHost: it is for another host.
        :raises CrossSite: it comes from a page of another site.
        """
        if host != self._last and host is not None:
            if not self._is_ours(host):
                raise ForeignHost(
                    "the request is for a host that this listener does not know; if it is the daemon's, add it to the "
                    "listener's hosts in the configuration"
                )
            self._last = host
        if any(site.lower() not in _OURS for site in sites) or not all(self._is_own(each, host) for each in origins):
            raise CrossSite("the request comes from a web page of another site; type the address to open it")

    def _is_ours(self, host: str) -> bool:
        name = _plain(_split_host(host, "http")[0])
        return name in self._names or f"*.{name.partition('.')[2]}" in self._names or _is_address(name)

    def _is_own(self, origin: str, host: str | None) -> bool:
        """Whether a page is from the requested host, or from one of our names, for which a proxy requests another."""
        match = _ORIGIN.fullmatch(origin)
        if match is None or not _AUTHORITY.fullmatch(match[2]):
            return False
        scheme = match[1].lower()
        page = _split_host(match[2], scheme)
        if host is not None and page == _split_host(host, scheme):
            return True
        return page[1] == _PORTS[scheme] and _plain(page[0]) in self._names - {"localhost"}


def _split_host(host: str, scheme: str) -> tuple[str, str]:
    match = _AUTHORITY.fullmatch(host)
    return (match[1].lower(), match[2] or _PORTS[scheme]) if match else ("", "")


def _plain(name: str) -> str:
    """Normalize a name for comparison."""
    return name.lower().removesuffix(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
