"""Tests for :mod:`txapns.doctor.examination`: against the simulator in memory, and servers that are none of Apple's."""

from __future__ import annotations

from email.utils import formatdate
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.connect_proxy import ConnectProxy
from txapns import Certificate, Gateway, ProviderToken, Proxy
from txapns.doctor.examination import examine
from txapns.doctor.findings import Finding, Level
from txapns.errors import InvalidGateway
from txapns.simulator import Authority, RequestServer, Response, Simulator
from txapns.simulator.authority import SigningKey
from txapns.testing import MemoryReactor, MemorySimulator
from txapns.wire.requests import Request

__all__ = ["AnswerTests", "ClockTests", "WayTests"]

AUTHORITY = Authority()
STRANGER = Authority()
APP = "com.example.app"
PROXY = 3128


def as_apple(server: RequestServer, request: Request, response: Response) -> Response:
    """Know no token, as Apple does not know one that is made up."""
    return Response(400, "BadDeviceToken") if response.is_success else response


class Says(Protocol):
    """Says something as soon as it is asked for anything, and nothing if that is empty."""

    factory: Any

    def dataReceived(self, data: bytes) -> None:
        """Say it."""
        assert self.transport is not None
        self.transport.write(self.factory.said)


def saying(said: bytes) -> Factory:
    """Make a server."""
    factory = Factory.forProtocol(Says)
    factory.noisy = False
    factory.said = said  # type: ignore[attr-defined]
    return factory


class Drips(Protocol):
    """Says something as soon as it is asked for anything, and then something else each second, until it is left."""

    factory: Any
    call: IDelayedCall | None = None

    def dataReceived(self, data: bytes) -> None:
        """Begin."""
        if self.call is None:
            self.write(self.factory.first)

    def write(self, said: bytes) -> None:
        """Say it, and more in a second."""
        assert self.transport is not None
        self.transport.write(said)
        self.call = self.factory.reactor.callLater(1.0, self.write, self.factory.then)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Say no more."""
        if self.call is not None:
            self.call.cancel()


def dripping(reactor: MemoryReactor, first: bytes, then: bytes) -> Factory:
    """Make a server that goes on for ever."""
    factory: Any = Factory.forProtocol(Drips)
    factory.noisy = False
    factory.reactor, factory.first, factory.then = reactor, first, then
    made: Factory = factory
    return made


class Resolver:
    """A resolver that finds nothing, and may not even say so."""

    def __init__(self, answers: bool) -> None:
        self._answers = answers

    def resolveHostName(self, receiver: Any, name: str, *arguments: Any, **options: Any) -> None:
        """Find nothing."""
        receiver.resolutionBegan(None)
        if self._answers:
            receiver.resolutionComplete()


class Case(SynchronousTestCase):
    """A simulator that knows no token, and a doctor."""

    def setUp(self) -> None:
        """Make them."""
        self.simulator = MemorySimulator(authority=AUTHORITY)
        self.simulator.http2_fault = as_apple
        self.reactor = self.simulator.reactor

    def token(self, key: SigningKey | None = None) -> ProviderToken:
        """Make a provider token."""
        if key is None:
            return self.simulator.provider_token()
        return ProviderToken.from_p8(key.p8, key.key_id, key.team_id)

    def examine(self, credential: Any = None, gateways: Any = None, **options: Any) -> dict[str, list[Finding]]:
        """Examine; returns what was found, by check."""
        if credential is None:
            credential = self.token()
        options.setdefault("topics", () if isinstance(credential, Certificate) else [APP])
        named = [self.simulator.gateway()] if gateways is None else gateways
        found = self.simulator.result(
            Deferred.fromCoroutine(examine(self.reactor, credential, named, **options)), within=300
        )
        by_check: dict[str, list[Finding]] = {}
        for each in found:
            by_check.setdefault(each.check, []).append(each)
        return by_check

    def faults(self, found: dict[str, list[Finding]]) -> list[str]:
        """List which checks found a fault."""
        return [check for check, each in found.items() for one in each if one.level is Level.FAULT]

    def put(self, server: Any, alpn: tuple[bytes, ...] = (), authority: Authority = AUTHORITY) -> None:
        """Have another server behind TLS in place of the simulator."""
        self.reactor.servers[2197] = TLSMemoryBIOFactory(authority.server_options(alpn), False, server, self.reactor)


class AnswerTests(Case):
    """What the gateway says of the credential."""

    def one(self, credential: Any, **options: Any) -> Finding:
        """Examine; returns the one finding about pushes."""
        (found,) = self.examine(credential, **options)["push"]
        return found

    def test_good(self) -> None:
        """BadDeviceToken is the best answer: key and topics are good, for every push type."""
        found = self.examine()
        self.assertEqual(self.faults(found), [])
        (push,) = found["push"]
        self.assertEqual((push.level, push.details["reason"]), (Level.GOOD, "BadDeviceToken"))
        self.assertEqual(len(push.details["push_types"]), 10)
        self.assertIn("credential and topic are good", push.message)

    def test_what_is_sent(self) -> None:
        """Each request is a background push without content for a token of its own, made up at random."""
        self.examine()
        self.examine()
        pushes = [each for each in self.simulator.inbox.received if "apns-topic" in each.headers]
        self.assertEqual(len(pushes), 20)
        self.assertEqual(len({each.token for each in pushes}), 20)
        for each in pushes:
            self.assertEqual(len(each.token), 32)
            self.assertEqual(each.payload, b'{"aps":{"content-available":1}}')
            self.assertEqual((each.headers["apns-priority"], each.headers["apns-expiration"]), ("5", "0"))

    def test_simulator(self) -> None:
        """A gateway that takes a made-up token is not Apple."""
        self.simulator.http2_fault = None
        found = self.one(None)
        self.assertEqual(found.level, Level.GOOD)
        self.assertIn("not Apple", found.message)

    def test_certificate(self) -> None:
        """A certificate is asked about for the topics it names, and for no push type that needs a token."""
        self.assertEqual(self.one(self.simulator.certificate()).details["push_types"], ["alert", "background"])
        several = Certificate.from_pem(AUTHORITY.client_pem(topics=[APP, f"{APP}.voip"]))
        self.assertEqual(self.one(several).details["push_types"], ["alert", "background", "voip"])

    def test_wrong_environment(self) -> None:
        """A credential of the other environment is a fault, and says so."""
        self.simulator.environment = "sandbox"
        key = AUTHORITY.signing_key(environment="production")
        certificate = Certificate.from_pem(AUTHORITY.client_pem(environments=["production"]))
        for credential, reason in (
            (self.token(key), "BadEnvironmentKeyInToken"),
            (certificate, "BadCertificateEnvironment"),
        ):
            found = self.one(credential)
            self.assertEqual((found.level, found.details["reason"]), (Level.FAULT, reason))
            self.assertIn("other environment", found.message)

    def test_one_environment_is_enough(self) -> None:
        """If no gateway was named, a credential may be for one environment."""
        other = Simulator(self.reactor, authority=AUTHORITY)
        other.http2_fault = as_apple
        other.environment = "sandbox"
        self.reactor.servers[2199] = other.tls_factory("http2")
        gateways = [self.simulator.gateway(), Gateway.http2("127.0.0.1", 2199, trust_root=AUTHORITY.ca_pem)]
        token = self.token(AUTHORITY.signing_key(environment="production"))
        found = self.examine(token, gateways, any_gateway=True)
        self.assertEqual([each.level for each in found["push"]], [Level.GOOD, Level.NOTE])
        self.assertEqual(self.faults(self.examine(token, gateways)), ["push"])
        self.assertEqual(self.faults(self.examine(token, gateways[1:], any_gateway=True)), ["push"])

    def test_wrong_topic(self) -> None:
        """A topic that the key is not for."""
        found = self.one(None, topics=["com.example.other"])
        self.assertEqual((found.level, found.details["reason"]), (Level.FAULT, "TopicDisallowed"))
        self.assertIn("bundle ID", found.advice)

    def test_one_push_type_is_enough(self) -> None:
        """Of the push types that nobody named one has to work, of those that were named all."""

        def without_voip(server: RequestServer, request: Request, response: Response) -> Response:
            voip = (b"apns-push-type", b"voip") in request.headers
            return Response(400, "TopicDisallowed") if voip else as_apple(server, request, response)

        self.simulator.http2_fault = without_voip
        tried = self.examine()["push"]
        self.assertEqual([each.level for each in tried], [Level.GOOD, Level.NOTE])
        named = self.examine(push_types=["alert", "voip"])["push"]
        self.assertEqual([each.level for each in named], [Level.GOOD, Level.FAULT])

    def test_revoked(self) -> None:
        """A key that was revoked, and a certificate of another authority."""
        key = AUTHORITY.signing_key()
        del AUTHORITY.keys[key.key_id]
        found = self.one(self.token(key))
        self.assertEqual((found.level, found.details["reason"]), (Level.FAULT, "InvalidProviderToken"))
        self.assertIn("revoked", found.message)
        found = self.one(Certificate.from_pem(STRANGER.client_pem()))
        self.assertEqual(found.level, Level.FAULT)
        self.assertIn("the server rejected our certificate", found.message)

    def test_slow_clock(self) -> None:
        """A token that is called expired says that the clock is slow."""
        self.simulator.http2_fault = lambda *_: Response(403, "ExpiredProviderToken")
        found = self.one(None)
        self.assertEqual(found.level, Level.FAULT)
        self.assertIn("clock", found.message)

    def test_busy(self) -> None:
        """A gateway that is busy says nothing of the credential, and an unlisted reason is passed on."""
        self.simulator.http2_fault = lambda *_: Response(503, "ServiceUnavailable")
        self.assertEqual(self.one(None, push_types=["alert"]).level, Level.UNKNOWN)
        self.simulator.http2_fault = lambda *_: Response(400, "BadMoon")
        found = self.one(None, push_types=["alert"])
        self.assertEqual(found.level, Level.FAULT)
        self.assertIn("BadMoon", found.message)

    def test_odd(self) -> None:
        """What no gateway of Apple's says is told in a short line: a redirect, a long text, codes for the terminal."""
        for response, words in (
            (Response(301, "Moved", fields=((b"location", b"https://elsewhere.example/"),)), "301"),
            (Response(307), "307 with no reason"),
            (Response(999, "x"), "999"),
            (Response(400, "B" * 200_000), "BBB"),
            (Response(400, "\x1b[2JBad\nMoon"), "Bad Moon"),
            (Response(400, "BadTopic", fields=((b"date", b"yesterday \xff"),)), "BadTopic"),
        ):
            self.simulator.http2_fault = lambda *_, given=response: given
            found = self.one(None, push_types=["alert"])
            self.assertEqual(found.level, Level.FAULT)
            self.assertIn(words, found.message)
            self.assertNotRegex(found.message, r"[\x00-\x1f]|elsewhere")
            self.assertLess(len(found.message), 1_000)

    def test_silent(self) -> None:
        """A gateway that answers nothing is waited for, but not forever."""

        def stall(server: RequestServer, request: Request, response: Response) -> Response | None:
            if (b":method", b"POST") not in request.headers:
                return response
            server.stall()
            return None

        self.simulator.http2_fault = stall
        began = self.reactor.seconds()
        self.assertEqual(self.one(None, push_types=["alert"], timeout=5.0).level, Level.FAULT)
        self.assertLess(self.reactor.seconds() - began, 30)

    def test_no_secret(self) -> None:
        """No finding has a provider token or a key in it."""
        token = self.token()
        shown = repr(self.examine(token))
        self.assertNotIn(token.current(self.reactor.seconds()).value.decode().split()[1][:30], shown)
        self.assertNotIn("PRIVATE", shown)


class ClockTests(Case):
    """The time in the server's answer."""

    def skew(self, seconds: float) -> Finding:
        """Examine with a clock that is ahead."""

        def date(server: RequestServer, request: Request, response: Response) -> Response:
            now = formatdate(self.reactor.wall.now() - seconds, usegmt=True)
            return Response(405, "MethodNotAllowed", fields=((b"date", now.encode()),))

        self.reactor.advance(1_000_000)
        self.simulator.http2_fault = date
        (found,) = self.examine()["clock"]
        return found

    def test_skew(self) -> None:
        """A little does not count, more is a note, much is a fault, in either direction."""
        for seconds, level, words in (
            (0, Level.GOOD, ""),
            (-29, Level.GOOD, ""),
            (60, Level.NOTE, "ahead of"),
            (-60, Level.NOTE, "behind"),
            (7_200, Level.FAULT, "ahead of"),
            (-7_200, Level.FAULT, "behind"),
        ):
            found = self.skew(seconds)
            self.assertEqual(found.level, level, found)
            self.assertIn(words, found.message)
            self.assertLessEqual(abs(found.details["skew"] - seconds), 2)

    def test_unknown(self) -> None:
        """Without a date it is unknown, and so with one that cannot be read."""
        (found,) = self.examine()["clock"]
        self.assertEqual(found.level, Level.UNKNOWN)
        self.simulator.http2_fault = lambda *_: Response(405, "MethodNotAllowed", fields=((b"date", b"soon"),))
        (found,) = self.examine()["clock"]
        self.assertEqual(found.level, Level.UNKNOWN)


class WayTests(Case):
    """What is wrong on the way."""

    def assert_unasked(self, found: dict[str, list[Finding]]) -> None:
        """The credential was not shown."""
        self.assertEqual([each.level for each in found["push"]], [Level.UNKNOWN])
        self.assertEqual([each for each in self.simulator.inbox.received if "apns-topic" in each.headers], [])

    def test_no_name(self) -> None:
        """A name that cannot be resolved, or not in time."""
        gateway = Gateway.http2("gateway.example")

        for answers in (True, False):
            self.reactor.nameResolver = Resolver(answers)
            found = self.examine(gateways=[gateway])
            self.assertEqual(self.faults(found), ["name"])
            self.assertIn("gateway.example cannot be resolved", found["name"][0].message)
            self.assert_unasked(found)

    def test_nothing_listens(self) -> None:
        """A port at which nothing listens."""
        del self.reactor.servers[2197]
        found = self.examine()
        self.assertEqual(self.faults(found), ["port"])
        self.assertIn("nothing listens at 127.0.0.1:2197", found["port"][0].message)
        self.assert_unasked(found)

    def test_another_authority(self) -> None:
        """A server whose authority is not trusted: who signed its certificate is said."""
        self.put(self.simulator.tls_factory("http2").wrappedFactory, (b"h2",), STRANGER)
        found = self.examine()
        self.assertEqual(self.faults(found), ["tls"])
        self.assertIn("not trusted", found["tls"][0].message)
        self.assertIn("txapns simulator", found["tls"][0].details["chain"])
        self.assert_unasked(found)

    def test_another_host(self) -> None:
        """A certificate for another host, and one that has expired."""
        for certificate, words in (
            (AUTHORITY.server_certificate(["elsewhere.example"], []), "not for 127.0.0.1"),
            (AUTHORITY.server_certificate(expired=True), "expired"),
        ):
            options = AUTHORITY.server_options((b"h2",), certificate=certificate)
            self.reactor.servers[2197] = TLSMemoryBIOFactory(options, False, saying(b""), self.reactor)
            found = self.examine()
            self.assertIn(words, found["tls"][0].message)
            self.assert_unasked(found)

    def test_web_server(self) -> None:
        """A server that speaks HTTP/1.1, whether it says so in ALPN or not; its date is read all the same."""
        answer = b"HTTP/1.1 400 Bad Request\r\nDate: Thu, 01 Jan 1970 02:00:00 GMT\r\n\r\nno"
        for alpn in ((b"http/1.1",), ()):
            self.put(saying(answer), alpn) if alpn else self.put_without_alpn(answer)
            found = self.examine()
            self.assertEqual(self.faults(found), ["protocol", "clock"])
            self.assertIn("HTTP/1.1 400 Bad Request", found["protocol"][0].message)
            self.assert_unasked(found)

    def put_without_alpn(self, answer: bytes) -> None:
        """Have a server that does not know ALPN."""
        options = AUTHORITY.server_options(())
        options.context.set_alpn_select_callback(lambda _, offered: b"http/1.1" if not offered else offered[0])
        self.reactor.servers[2197] = TLSMemoryBIOFactory(options, False, saying(answer), self.reactor)

    def test_silence(self) -> None:
        """A server that says nothing at all, or nothing after TLS, costs no more than the deadlines."""
        began = self.reactor.seconds()
        self.reactor.servers[2197] = saying(b"")
        found = self.examine(timeout=5.0)
        self.assertEqual(self.faults(found), ["tls"])
        self.put(saying(b""), (b"h2",))
        found = self.examine(timeout=5.0)
        self.assertEqual(self.faults(found), ["protocol"])
        self.assertIn("no answer within 5 s", found["protocol"][0].message)
        self.assert_unasked(found)
        self.assertLess(self.reactor.seconds() - began, 20)

    def test_endless(self) -> None:
        """A server that goes on for ever, with a byte a second or with pings, costs no more than the deadlines."""
        pings = b"\0\0\0\4\0\0\0\0\0", b"\0\0\x08\6\0\0\0\0\0" + bytes(8)
        for alpn, first, then, fault in (
            (b"h2", b"", b"x", "protocol"),
            (b"http/1.1", b"H", b"x", "protocol"),
            (b"h2", *pings, "push"),
        ):
            self.put(dripping(self.reactor, first, then), (alpn,))
            began = self.reactor.seconds()
            found = self.examine(push_types=["alert"], timeout=5.0)
            self.assertEqual(self.faults(found), [fault])
            self.assertLess(self.reactor.seconds() - began, 20)

    def test_noise(self) -> None:
        """Bytes that are neither TLS nor HTTP."""
        self.reactor.servers[2197] = saying(b"SSH-2.0-OpenSSH\r\n")
        self.assertEqual(self.faults(self.examine()), ["tls"])
        self.put(saying(b"\x00\x01 noise, not frames" * 9), (b"h2",))
        self.assertEqual(self.faults(self.examine()), ["protocol"])
        self.put(saying(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 99_999), (b"http/1.1",))
        self.assertEqual(self.faults(self.examine()), ["protocol"])

    def test_proxy(self) -> None:
        """A proxy is named, without its password; one that refuses is a fault."""
        self.reactor.servers[PROXY] = proxy = ConnectProxy(self.reactor)
        gateway = self.simulator.gateway(proxy=f"http://ali:sesame@127.0.0.1:{PROXY}")
        found = self.examine(gateways=[gateway])
        self.assertEqual((self.faults(found), found["name"][0].level), ([], Level.UNKNOWN))
        self.assertIn(f"through http://127.0.0.1:{PROXY}", found["proxy"][0].message)
        proxy.answer = lambda client: client.say(b"HTTP/1.1 403 Forbidden\r\n\r\n")
        found = self.examine(gateways=[gateway])
        self.assertEqual(self.faults(found), ["port", "proxy"])
        self.assertIn("403 Forbidden", found["port"][0].message)
        self.assertNotIn("sesame", repr(found))

    def test_unused_proxy(self) -> None:
        """A proxy that the environment names and nobody uses is a note, with advice if there is no other way."""
        proxy = Proxy("proxy.example", PROXY)
        (note,) = self.examine(unused_proxy=proxy)["proxy"]
        self.assertEqual((note.level, note.advice), (Level.NOTE, ""))
        del self.reactor.servers[2197]
        (note,) = self.examine(unused_proxy=proxy)["proxy"]
        self.assertIn("--proxy environment", note.advice)
        spared = Proxy("proxy.example", PROXY, no_proxy="*")
        self.assertNotIn("proxy", self.examine(unused_proxy=spared))

    def test_binary(self) -> None:
        """The binary protocol has no answers to ask for."""
        asked = Deferred.fromCoroutine(examine(self.reactor, self.token(), [self.simulator.gateway("binary")]))
        self.failureResultOf(asked, InvalidGateway)
