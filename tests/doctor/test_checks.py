"""Tests for :mod:`txapns.doctor.checks`: what needs Apple's host names, or other limits than those of this process."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from txapns import Gateway
from txapns.doctor.checks import CHECKS, descriptors, ports, tls
from txapns.doctor.contact import Contact, Handshake
from txapns.doctor.findings import Level

__all__ = ["AppleTests", "DescriptorTests"]

APPLE = Gateway.parse("production")
CHAIN = ("api.push.apple.com, Apple Inc.", "Apple Public Server RSA CA 12 - G1, Apple Inc.", "AAA Certificate Services")


class AppleTests(SynchronousTestCase):
    """Apple's hosts."""

    def test_ports(self) -> None:
        """One of both ports is enough, if it is the one that is used."""
        one = ports(Contact(gateway=APPLE, ports={443: "", 2197: "blocked"}))
        self.assertEqual([each.level for each in one], [Level.GOOD, Level.NOTE])
        other = ports(Contact(gateway=APPLE, ports={443: "blocked", 2197: ""}))
        self.assertEqual([each.level for each in other], [Level.FAULT, Level.GOOD])
        self.assertIn("2197", other[0].advice)
        none = ports(Contact(gateway=APPLE, ports={443: "blocked", 2197: "blocked"}))
        self.assertEqual([each.level for each in none], [Level.FAULT])
        self.assertIn("proxy", none[0].advice)

    def test_middlebox(self) -> None:
        """A chain without Apple in it is a note even if it is trusted; the server's own name proves nothing."""
        for chain, level in ((CHAIN, Level.GOOD), ((CHAIN[0], "Example Corp. Firewall"), Level.NOTE)):
            (found,) = tls(Contact(gateway=APPLE, handshake=Handshake(chain=chain, version="TLSv1.3")))
            self.assertEqual(found.level, level)
            self.assertIn(chain[1], found.message)

    def test_json(self) -> None:
        """What every check finds can be written as JSON."""
        seen = Handshake(chain=CHAIN, version="TLSv1.3", http="HTTP/2", answer="405", server_time=1.0, our_time=2.0)
        contact = Contact(gateway=APPLE, addresses=("17.188.1.1", "17.188.1.2"), ports={443: ""}, handshake=seen)
        found = [finding for check in CHECKS for finding in check(contact)]
        written = [json.loads(json.dumps(each.to_dict())) for each in found]
        self.assertEqual({each["level"] for each in written}, {"good"})
        self.assertEqual([each["check"] for each in written], ["name", "port", "tls", "protocol", "clock"])


class DescriptorTests(SynchronousTestCase):
    """File descriptors."""

    def test_limits(self) -> None:
        """Few are a note, hardly any left is a fault."""
        for limit, used, level in (
            (None, 7, Level.GOOD),
            (20_000, None, Level.GOOD),
            (1_024, 7, Level.GOOD),
            (256, 7, Level.NOTE),
            (256, None, Level.NOTE),
            (64, 40, Level.FAULT),
            (20_000, 19_990, Level.FAULT),
        ):
            found = descriptors(limit, used)
            self.assertEqual((found.level, bool(found.advice)), (level, level is not Level.GOOD), (limit, used))
