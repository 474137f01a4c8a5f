"""
Where a request is for and where it comes from, by its head: the target, the host, and the web page that sent it.

A browser does what the pages in it want, and it may be on the daemon's own machine, or within its network. A page of
anybody's can have it post a form to ``127.0.0.1``, and a page whose name suddenly means ``127.0.0.1`` can read the
answer as well (DNS rebinding). Keys are safe from that, since no page knows one. Where no key is asked for, and where
the browser itself keeps it, a request has to name a host that is certainly ours, and it must not come from the page of
another. A name is ours if the configuration says so or our certificate; and so is an address, since what a page's name
means can be changed, and what ``192.0.2.1`` means cannot.
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
_OURS = ("same-origin", "none")  # Sec-Fetch-Site of our own pages, and of what the user typed or chose


class BadHead(Exception):
    """The head of a request cannot be understood."""


class ForeignHost(Exception):
    """A request is for a host that is not ours."""


class CrossSite(Exception):
    """A request comes from the web page of another."""


def split_target(target: str) -> tuple[str | None, str]:
    """
    Take the target of a request apart (RFC 9112, section 3.2).

    :param target: the target, as in the request's first line.
    :returns: the authority, where the target names one, as those for proxies do; and the path with its query.
    :raises BadHead: it is in no form that there is.
    """
    if target.startswith("/") or target == "*":
        return None, target
    match = _ABSOLUTE.fullmatch(target)
    if match is None or not match[1]:
        raise BadHead("the target of the request has to be a path, or a whole address of http or https")
    path = match[2].partition("#")[0]
    return match[1], path if path.startswith("/") else f"/{path}"


def asked_host(values: Sequence[str], authority: str | None, version: str) -> str | None:
    """
    Find the host that a request is for (RFC 9112, section 3.2).

    :param values: its header fields ``Host``.
    :param authority: what its target names.
    :param version: its version.
    :returns: the host, with the port if there is one; ``None`` where it names none, as it need not in HTTP/1.0.
    :raises BadHead: it names none, several, or one that cannot be.
    """
    if len(values) > 1 or (not values and version != "HTTP/1.0"):
        raise BadHead("there has to be exactly one Host header field")
    for each in (*values, *([] if authority is None else [authority])):
        if not _AUTHORITY.fullmatch(each):
            raise BadHead("the host that the request names is not valid")
    return authority or (values[0] if values else None)


class Hosts:
    """
    Which hosts are ours where browsers must not get in.

    :param names: the names that are; one that begins with ``*.`` is for any name in its place.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = frozenset({"localhost", "*.localhost", *(_plain(name) for name in names)})
        self._last: str | None = None  # that was found to be ours: most requests are for the same

    def check(self, host: str | None, origins: Sequence[str], sites: Sequence[str]) -> None:
        """
        Look at a request.

        :param host: the host that it is for; ``None`` for none, as no browser leaves it.
        :param origins: its header fields ``Origin``.
        :param sites: its header fields ``Sec-Fetch-Site``.
        :raises ForeignHost: it is for another host.
        :raises CrossSite: it comes from another's page.
        """
        if host != self._last and host is not None:
            if not self._has(host):
                raise ForeignHost(
                    "the request is for a host that this listener does not know; if it is the daemon's, add it to the "
                    "listener's hosts in the configuration"
                )
            self._last = host
        if any(site.lower() not in _OURS for site in sites) or not all(self._is_own(each, host) for each in origins):
            raise CrossSite("the request comes from a web page of another site; type the address to open it")

    def _has(self, host: str) -> bool:
        name = _plain(_apart(host, "http")[0])
        return name in self._names or f"*.{name.partition('.')[2]}" in self._names or _is_address(name)

    def _is_own(self, origin: str, host: str | None) -> bool:
        """Whether a page is of the host that it asks; or of one of our names, in whose place a proxy asks another."""
        match = _ORIGIN.fullmatch(origin)
        if match is None or not _AUTHORITY.fullmatch(match[2]):
            return False
        scheme = match[1].lower()
        page = _apart(match[2], scheme)
        if host is not None and page == _apart(host, scheme):
            return True
        return page[1] == _PORTS[scheme] and _plain(page[0]) in self._names - {"localhost"}


def _apart(host: str, scheme: str) -> tuple[str, str]:
    match = _AUTHORITY.fullmatch(host)
    return (match[1].lower(), match[2] or _PORTS[scheme]) if match else ("", "")


def _plain(name: str) -> str:
    """Give a name as it is compared."""
    return name.lower().removesuffix(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
