"""Tests for :mod:`txapns._serving.target`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txapns._serving.target import BadHead, CrossSite, ForeignHost, Hosts, asked_host, split_target

__all__ = ["AskedHostTests", "HostsTests", "TargetTests"]


class TargetTests(SynchronousTestCase):
    """Targets of requests."""

    def test_forms(self) -> None:
        """A path stands for itself; a URL, as sent to a proxy, gives its host and its path."""
        for target, authority, path in (
            ("/", None, "/"),
            ("/v1/apps?a=http://x/", None, "/v1/apps?a=http://x/"),
            ("//x/y", None, "//x/y"),
            ("*", None, "*"),
            ("http://h/v1", "h", "/v1"),
            ("HTTPS://[::1]:8080/v1?a=b#c", "[::1]:8080", "/v1?a=b"),
            ("http://h", "h", "/"),
            ("http://h?a=b", "h", "/?a=b"),
        ):
            self.assertEqual(split_target(target), (authority, path), target)

    def test_wrong(self) -> None:
        """Other forms are refused."""
        for target in ("h:80", "v1/apps", "http:///v1", "http:/v1", "ftp://h/", "", "?a", "://h/"):
            self.assertRaises(BadHead, split_target, target)

    @given(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40))
    def test_anything(self, noise: str) -> None:
        """Any target gives a path, or is refused."""
        for target in (noise, f"/{noise}", f"http://{noise}", f"http://h{noise}"):
            try:
                _, path = split_target(target)
            except BadHead:
                continue
            self.assertTrue(path.startswith("/") or path == "*")


class AskedHostTests(SynchronousTestCase):
    """The host of a request."""

    def test_right(self) -> None:
        """It is that of the field, or that of the target if this is a URL."""
        for values, authority, version, host in (
            (["h"], None, "HTTP/1.1", "h"),
            (["h:80"], "other:1", "HTTP/1.1", "other:1"),
            ([""], None, "HTTP/1.1", ""),
            (["[::1]:8080"], None, "HTTP/1.0", "[::1]:8080"),
            ([], None, "HTTP/1.0", None),
            ([], "h", "HTTP/1.0", "h"),
            (["h:"], None, "HTTP/1.1", "h:"),
        ):
            self.assertEqual(asked_host(values, authority, version), host)

    def test_wrong(self) -> None:
        """A missing, repeated or invalid host is refused, in the field and in the target."""
        wrong = ("a b", "a/b", "a:b", "[::1", "::1", "a,b:1,c", "user@h", "h:80:80", "é", "a\x00", "h?x", "[x]")
        for values, authority, version in (
            ([], None, "HTTP/1.1"),
            ([], "h", "HTTP/1.1"),
            (["h", "h"], None, "HTTP/1.1"),
            (["h", "h"], None, "HTTP/1.0"),
            *(([each], None, "HTTP/1.1") for each in wrong),
            *((["h"], each, "HTTP/1.1") for each in wrong),
        ):
            self.assertRaises(BadHead, asked_host, values, authority, version)


class HostsTests(SynchronousTestCase):
    """Our hosts."""

    def setUp(self) -> None:
        """Make the hosts."""
        self.hosts = Hosts(["Gateway.example.com", "*.push.example.com"])

    def test_ours(self) -> None:
        """Addresses, localhost and the given names are ours, with any port and in any notation."""
        for host in (
            *("127.0.0.1", "127.0.0.1:8090", "[::1]:8090", "192.0.2.1:80", "localhost", "LOCALHOST.:1", "a.localhost"),
            *("gateway.example.com", "GATEWAY.example.com.:443", "a.push.example.com"),
        ):
            self.hosts.check(host, [], [])
        self.hosts.check(None, [], [])

    def test_foreign(self) -> None:
        """All other names are not, even if they look like ours, or like an address."""
        for host in (
            *("", ":80", "example.com", "evil.example.com", "localhost.evil.com", "127.0.0.1.evil.com", "127.1"),
            *("2130706433", "push.example.com", "a.b.push.example.com", "xgateway.example.com", "localhostx"),
        ):
            self.assertRaises(ForeignHost, self.hosts.check, host, [], [])

    def test_own_pages(self) -> None:
        """Our own pages are served, and so is the user."""
        for host, origin in (
            ("127.0.0.1:8090", "http://127.0.0.1:8090"),
            ("localhost", "http://localhost"),
            ("localhost:443", "https://LOCALHOST"),
            ("[::1]:80", "http://[::1]"),
            ("127.0.0.1:8090", "https://gateway.example.com"),
        ):
            self.hosts.check(host, [origin], ["same-origin"])
        self.hosts.check("localhost", [], ["none"])

    def test_other_pages(self) -> None:
        """Pages of other sites are not, not even of neighbouring hosts."""
        for origin in (
            *("http://evil.example", "null", "", "http://localhost", "http://127.0.0.1:8090"),
            *("http://localhost:80900", "http://gateway.example.com:1", "file://", "http://a.localhost:8090"),
            *("http://localhost:8090/", "http://localhost:8090@evil.example", "chrome-extension://abc"),
        ):
            self.assertRaises(CrossSite, self.hosts.check, "localhost:8090", [origin], [])
        self.assertRaises(CrossSite, self.hosts.check, "localhost:8090", ["http://localhost:8090", "null"], [])
        for site in "cross-site", "same-site", "Cross-Site", "unheard-of":
            self.assertRaises(CrossSite, self.hosts.check, "localhost:8090", [], [site])
        self.assertRaises(CrossSite, self.hosts.check, None, ["http://evil.example"], [])

    @given(st.text(max_size=30), st.text(max_size=30))
    def test_anything(self, host: str, origin: str) -> None:
        """Any value can be checked."""
        for each in (origin, f"http://{origin}"):
            try:
                self.hosts.check(host, [each], [origin])
            except (ForeignHost, CrossSite):
                continue
