"""Tests for :mod:`txapns.daemon.sending.sides`."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import fail
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.dispatch_world import DEAD, HEADERS, DispatchWorld, token
from txapns.daemon.errors import Unavailable
from txapns.daemon.sending.sides import NEITHER_AGE, PUT_OFF, SANDBOX_AGE
from txapns.daemon.values import ENVIRONMENT, Environment, Limits, Message, Side, State, TokenKind
from txapns.simulator.http2 import ProviderAPIServer, Response
from txapns.simulator.servers import Simulator
from txapns.wire.requests import Request

__all__ = ["CrashTests", "KnownTests", "OutcomeTests", "TroubleTests"]

_UNKNOWN = Response(400, "BadDeviceToken")
_REFUSED = Response(403, "BadEnvironmentKeyInToken")
_DOWN = Response(503, "Shutdown")
PRODUCTION, SANDBOX = token(1), token(2)
NEITHER = token(3)


def refuses(*tokens: bytes) -> Callable[[ProviderAPIServer, Request, Response], Response]:
    """Answer that these tokens are unknown."""
    paths = {b"/3/device/" + each.hex().encode() for each in tokens}
    return lambda server, request, response: _UNKNOWN if dict(request.headers)[b":path"] in paths else response


def always(answer: Response) -> Callable[[ProviderAPIServer, Request, Response], Response]:
    """Answer everything in the same way."""
    return lambda server, request, response: answer


class SidesWorld(DispatchWorld):
    """
    A dispatcher whose app has two sides, with a simulator for each. Each knows one token, and neither knows a third.

    :ivar sandbox: the simulator of the sandbox. ``simulator`` is that of production.
    """

    def __init__(self, **limits: int) -> None:
        super().__init__()
        self.sandbox, self.side = self.add_sandbox()
        self.simulator.http2_fault = refuses(SANDBOX, NEITHER, DEAD)
        self.sandbox.http2_fault = refuses(PRODUCTION, NEITHER)
        self.add_app("chess", sandbox=self.side, limits=Limits(**limits))

    def change(self, simulator: Simulator, fault: Callable[..., Response | None] | None) -> None:
        """Let a simulator answer differently, on new connections."""
        simulator.http2_fault = fault
        for session in simulator.sessions:
            if session.transport is not None and not session.transport.disconnected:  # type: ignore[attr-defined]
                session.abort()  # type: ignore[attr-defined]
        simulator.sessions.clear()
        self.advance(0.01)

    def asked(self) -> tuple[list[bytes], list[bytes]]:
        """List the tokens that production and the sandbox were asked about since the last call."""
        found = []
        for simulator in (self.simulator, self.sandbox):
            found.append([each.token for each in simulator.inbox.received])
            simulator.inbox.received.clear()
        return found[0], found[1]

    def send(self, *tokens: bytes, **headers: str) -> list[str]:
        """Send to devices, and wait for the outcomes."""
        ids = self.accept(tokens=tokens, **headers)
        self.drain()
        return ids

    def kinds(self, *tokens: bytes) -> list[TokenKind | None]:
        """Tell what is known of tokens."""
        known = self.result(self.tokens.known("chess", tokens))
        return [known[each].kind if each in known else None for each in tokens]


class SidesCase(SynchronousTestCase):
    """An app with two sides, and nothing to send."""

    def setUp(self) -> None:
        """Start."""
        self.world = SidesWorld()
        self.world.start()
        self.addCleanup(self.world.close)

    def outcomes(self, ids: list[str]) -> list[tuple[State, int, str, int]]:
        """Tell what became of notifications, after how many attempts."""
        found = map(self.world.outcome, ids)
        return [(each.state, each.status, each.reason, each.attempts) for each in found]


_ACCEPTED = (State.ACCEPTED, 200, "", 1)
_BAD = (State.REJECTED, 400, "BadDeviceToken", 1)


class OutcomeTests(SidesCase):
    """Which side is asked, and what becomes of a notification."""

    def test_each_side(self) -> None:
        """A token goes to production, and if that does not know it, once to the sandbox, under the same id."""
        ids = self.world.send(PRODUCTION, SANDBOX)
        self.assertEqual(self.outcomes(ids), [_ACCEPTED] * 2)
        self.assertEqual([self.world.outcome(each).environment for each in ids], list(Environment))
        [received] = self.world.sandbox.inbox.received
        self.assertEqual(received.headers["apns-id"], ids[1])
        self.assertEqual(self.world.asked(), ([PRODUCTION, SANDBOX], [SANDBOX]))

    def test_neither(self) -> None:
        """A token that both refuse has the outcome of production, and each was asked once."""
        [apns_id] = self.world.send(NEITHER)
        self.assertEqual(self.outcomes([apns_id]), [_BAD])
        self.assertEqual(self.world.outcome(apns_id).environment, Environment.PRODUCTION)
        self.assertEqual(self.world.asked(), ([NEITHER], [NEITHER]))

    def test_dead(self) -> None:
        """A token that is dead in the sandbox is noted as dead."""
        [apns_id] = self.world.send(DEAD)
        self.assertEqual(self.outcomes([apns_id]), [(State.REJECTED, 410, "Unregistered", 1)])
        self.assertEqual((self.world.noted, self.world.kinds(DEAD)), (["chess"], [TokenKind.SANDBOX]))

    def test_other_reasons(self) -> None:
        """What is refused for another reason is not tried on the other side."""
        reasons = [Response(400, "DeviceTokenNotForTopic"), Response(410, "Unregistered"), Response(400, "BadTopic")]
        for answer in reasons:
            self.world.change(self.world.simulator, always(answer))
            [apns_id] = self.world.send(PRODUCTION)
            self.assertEqual(self.outcomes([apns_id])[0][1:3], (answer.status, answer.reason))
            self.assertEqual(self.world.asked(), ([PRODUCTION], []))

    def test_form(self) -> None:
        """What does not look like one of Apple's tokens is not tried on the other side."""
        self.world.change(self.world.simulator, always(_UNKNOWN))
        ids = self.world.send(b"\x01" * 31, b"\x01" * 101)
        self.assertEqual(self.outcomes(ids), [_BAD] * 2)
        self.assertEqual((self.world.sandbox.inbox.received, self.world.kinds(b"\x01" * 31)), ([], [None]))

    def test_named(self) -> None:
        """What the caller sends to one side is tried there only; nothing is looked up, and nothing learned from it."""
        self.world.send(SANDBOX)
        self.world.asked()
        self.world.tokens.known = lambda *arguments: fail(Unavailable("not now", 1.0))  # type: ignore[method-assign]
        for side, expected, asked in (
            ("sandbox", [_BAD, _ACCEPTED], ([], [PRODUCTION, SANDBOX])),
            ("production", [_ACCEPTED, _BAD], ([PRODUCTION, SANDBOX], [])),
        ):
            message = Message(
                "chess", b"{}", {**HEADERS, ENVIRONMENT: side}, [PRODUCTION, SANDBOX], self.world.ids.take(2)
            )
            [receipt] = self.world.result(self.world.queue.accept([message]))
            self.world.dispatcher.wake("chess")
            self.world.drain()
            self.assertEqual(self.outcomes(list(receipt.apns_ids)), expected)
            self.assertEqual(self.world.asked(), asked)
        del self.world.tokens.known
        self.assertEqual(self.world.kinds(PRODUCTION, SANDBOX), [None, TokenKind.SANDBOX])

    def test_many(self) -> None:
        """Each of thousands arrives once, whichever side it is for."""
        tokens = [token(n) for n in range(100, 3_100)]
        self.world.change(self.world.simulator, refuses(*tokens[::3]))
        ids = self.world.send(*tokens)
        self.assertEqual(set(self.outcomes(ids)), {_ACCEPTED})
        production, sandbox = self.world.asked()
        self.assertEqual((sorted(production), sorted(sandbox)), (tokens, tokens[::3]))

    def test_feedback_of_outcome(self) -> None:
        """The app has its own state while it works on both sides."""
        self.world.send(PRODUCTION, SANDBOX)
        state = self.world.state()
        self.assertEqual((state.accepted, state.reason, state.sides), (2, "", ()))
        self.assertEqual(state.connections, ("ready", "ready"))


class KnownTests(SidesCase):
    """What is known of tokens."""

    def test_remembered(self) -> None:
        """The side that knows a token is asked first the next time, also after a restart."""
        self.world.send(PRODUCTION, SANDBOX, NEITHER)
        self.assertEqual(self.world.kinds(PRODUCTION, SANDBOX, NEITHER), [None, TokenKind.SANDBOX, TokenKind.NEITHER])
        self.world.asked()
        self.world.crash()
        ids = self.world.send(PRODUCTION, SANDBOX, NEITHER)
        self.assertEqual(self.outcomes(ids), [_ACCEPTED, _ACCEPTED, _BAD])
        self.assertEqual(self.world.asked(), ([PRODUCTION, NEITHER], [SANDBOX]))

    def test_moved(self) -> None:
        """A token that the sandbox does not know any more is tried in production once, and is as any other then."""
        self.world.send(SANDBOX)
        self.world.change(self.world.simulator, None)
        self.world.change(self.world.sandbox, refuses(SANDBOX))
        self.world.asked()
        self.assertEqual(self.outcomes(self.world.send(SANDBOX)), [_ACCEPTED])
        self.assertEqual(self.world.asked(), ([SANDBOX], [SANDBOX]))
        self.assertEqual(self.world.kinds(SANDBOX), [None])

    def test_moved_nowhere(self) -> None:
        """A token of the sandbox that both refuse now is remembered as such, with the answer of production."""
        self.world.send(SANDBOX)
        self.world.change(self.world.sandbox, refuses(SANDBOX))
        self.assertEqual(self.outcomes(self.world.send(SANDBOX)), [_BAD])
        self.assertEqual(self.world.kinds(SANDBOX), [TokenKind.NEITHER])

    def test_neither_appears(self) -> None:
        """A token that both have refused is as any other as soon as production accepts it."""
        self.world.send(NEITHER)
        self.world.change(self.world.simulator, None)
        self.assertEqual(self.outcomes(self.world.send(NEITHER)), [_ACCEPTED])
        self.assertEqual(self.world.kinds(NEITHER), [None])

    def test_age(self) -> None:
        """What is known counts for a time; what is confirmed when half of that is over counts anew."""
        self.world.send(SANDBOX, NEITHER)
        self.world.asked()
        self.world.advance(NEITHER_AGE + 1)
        self.world.send(NEITHER)
        self.assertEqual(self.world.asked(), ([NEITHER], [NEITHER]))
        self.world.advance(SANDBOX_AGE / 2)
        self.world.send(SANDBOX)
        self.world.advance(SANDBOX_AGE - 60)
        self.world.send(SANDBOX)
        self.assertEqual(self.world.asked(), ([], [SANDBOX] * 2))
        self.world.advance(SANDBOX_AGE + 60)
        self.world.send(SANDBOX)
        self.assertEqual(self.world.asked(), ([SANDBOX], [SANDBOX]))

    def test_not_readable(self) -> None:
        """While it cannot be found out what is known, nothing is sent, and no attempt counts."""
        known = self.world.tokens.known
        self.world.tokens.known = lambda *arguments: fail(Unavailable("not now", 1.0))  # type: ignore[method-assign]
        ids = self.world.accept(tokens=[PRODUCTION])
        self.world.advance(PUT_OFF / 2)
        self.assertEqual(self.outcomes(ids)[0], (State.WAITING, 0, "", 0))
        self.world.tokens.known = known  # type: ignore[method-assign]
        self.world.drain()
        self.assertEqual(self.outcomes(ids), [_ACCEPTED])

    def test_not_storable(self) -> None:
        """While a refusal cannot be stored, the other side is not tried, and the notification waits."""
        note = self.world.tokens.note
        self.world.tokens.note = lambda *arguments: fail(Unavailable("not now", 1.0))  # type: ignore[method-assign]
        ids = self.world.accept(tokens=[SANDBOX])
        self.world.advance(PUT_OFF / 2)
        self.assertEqual((self.outcomes(ids)[0][0], self.world.asked()[1]), (State.WAITING, []))
        self.world.tokens.note = note  # type: ignore[method-assign]
        self.world.drain()
        self.assertEqual(self.outcomes(ids), [_ACCEPTED])


class TroubleTests(SidesCase):
    """A side of which nothing gets through."""

    def test_credential_of_one(self) -> None:
        """What is for a side whose credential is refused waits; what is for the other goes on."""
        self.world.send(SANDBOX)
        for broken, bad, good in (
            (self.world.sandbox, SANDBOX, PRODUCTION),
            (self.world.simulator, PRODUCTION, SANDBOX),
        ):
            usual = broken.http2_fault
            self.world.change(broken, always(_REFUSED))
            stuck = self.world.accept(tokens=[bad])
            self.world.advance(1.0)
            self.world.asked()
            going = [self.world.accept(tokens=[good])[0] for _ in range(3)]
            self.world.advance(1.0)
            self.assertEqual(self.outcomes(going), [_ACCEPTED] * 3)
            state = self.world.state()
            self.assertEqual((state.tripped, state.reason), (False, ""))
            [side] = state.sides
            self.assertEqual((side.environment, side.tripped), (broken.environment, True))
            self.assertIn("key is for the other environment", side.reason)
            self.world.change(broken, usual)
            self.world.drain(120.0)
            self.assertEqual(self.outcomes(stuck)[0][:2], (State.ACCEPTED, 200))
            self.assertEqual(self.world.state().sides, ())

    def test_waits_without_attempts(self) -> None:
        """While a side rests, no attempts count, so nothing for it becomes a dead letter."""
        self.world.change(self.world.simulator, always(_REFUSED))
        ids = self.world.accept(tokens=[token(n) for n in range(10, 30)])
        for _ in range(100):
            self.world.advance(10.0)
            self.world.accept(tokens=[SANDBOX])
        self.assertEqual({each[0] for each in self.outcomes(ids)}, {State.WAITING})
        self.world.change(self.world.simulator, None)
        self.world.drain(1_800.0)
        self.assertEqual({each[0] for each in self.outcomes(ids)}, {State.ACCEPTED})

    def test_refused_meanwhile(self) -> None:
        """A token that production refused is not asked about there again while the sandbox rests."""
        self.world.send(SANDBOX)
        self.world.change(self.world.sandbox, always(_DOWN))
        self.world.accept(tokens=[SANDBOX])
        self.world.advance(0.1)
        self.world.asked()
        other = token(77)
        self.world.change(self.world.simulator, refuses(other))
        ids = self.world.accept(tokens=[other])
        self.world.advance(20.0)
        self.assertEqual((self.world.asked()[0], self.world.kinds(other)), ([other], [TokenKind.REFUSED]))
        self.world.change(self.world.sandbox, None)
        self.world.drain(120.0)
        self.assertEqual((self.outcomes(ids)[0][0], self.world.asked()[0]), (State.ACCEPTED, []))

    def test_refused_and_unknown(self) -> None:
        """A token that production refused and the sandbox refuses later has the outcome of production."""
        self.world.change(self.world.sandbox, always(_DOWN))
        ids = self.world.accept(tokens=[NEITHER])
        self.world.advance(1.0)
        self.assertEqual(self.world.kinds(NEITHER), [TokenKind.REFUSED])
        self.world.change(self.world.sandbox, always(_UNKNOWN))
        self.world.drain(120.0)
        self.assertEqual(self.outcomes(ids)[0][:3], _BAD[:3])
        self.assertEqual((self.world.asked()[0], self.world.kinds(NEITHER)), ([NEITHER], [TokenKind.NEITHER]))

    def test_both(self) -> None:
        """If nothing gets through on either side, the app's circuit opens, and the state names both."""
        self.world.send(SANDBOX)
        for each in (self.world.simulator, self.world.sandbox):
            self.world.change(each, always(_REFUSED))
        ids = self.world.accept(tokens=[PRODUCTION, SANDBOX])
        self.world.advance(2.0)
        state = self.world.state()
        self.assertEqual((state.tripped, len(state.sides)), (True, 2))
        self.assertRegex(state.reason, "production: .*other environment.*; sandbox: .*other environment")
        self.world.change(self.world.simulator, refuses(SANDBOX))
        self.world.change(self.world.sandbox, None)
        self.world.drain(1_800.0)
        self.assertEqual({each[0] for each in self.outcomes(ids)}, {State.ACCEPTED})
        self.assertEqual((self.world.state().reason, self.world.state().sides), ("", ()))

    def test_expires(self) -> None:
        """What would expire before its side is tried again is not kept."""
        self.world.change(self.world.simulator, always(_REFUSED))
        self.world.accept(tokens=[PRODUCTION])
        self.world.advance(0.1)
        soon = str(int(self.world.clock.seconds()) + 2)
        [apns_id] = self.world.accept(tokens=[PRODUCTION], expiration=soon)
        self.world.advance(0.1)
        self.assertEqual(self.world.outcome(apns_id).state, State.EXPIRED)

    def test_changed(self) -> None:
        """A new credential of one side is used at once, and its circuit is closed."""
        self.world.send(SANDBOX)
        self.world.change(self.world.sandbox, always(_REFUSED))
        self.world.accept(tokens=[SANDBOX])
        self.world.advance(1.0)
        self.assertTrue(self.world.state().sides)
        self.world.change(self.world.sandbox, None)
        self.world.add_app("chess", sandbox=Side(self.world.side.gateway, self.world.simulator.provider_token()))
        self.world.accept(tokens=[SANDBOX])
        self.world.drain()
        self.assertEqual(self.world.state().sides, ())


class CrashTests(SidesCase):
    """The daemon dies, or its connections are closed, between the two sides."""

    def test_killed_between(self) -> None:
        """After a kill between production's refusal and the sandbox's answer, production is not asked again."""
        self.world.sandbox.delay = 5.0
        self.world.change(self.world.sandbox, None)
        ids = self.world.accept(tokens=[PRODUCTION, SANDBOX])
        self.world.advance(1.0)
        self.assertEqual(self.world.kinds(SANDBOX), [TokenKind.REFUSED])
        self.world.asked()
        self.world.sandbox.delay = 0.0
        self.world.sandbox.sessions.clear()
        self.world.crash()
        self.world.drain()
        self.assertEqual({each[0] for each in self.outcomes(ids)}, {State.ACCEPTED})
        self.assertEqual(self.world.asked(), ([PRODUCTION], [SANDBOX]))

    def test_stopped_between(self) -> None:
        """What is refused while the daemon stops is kept, and nothing that was accepted is sent again."""
        self.world.simulator.delay = 1.0
        self.world.change(self.world.simulator, refuses(SANDBOX))
        ids = self.world.accept(tokens=[PRODUCTION, SANDBOX])
        self.world.advance(0.5)
        stopping = self.world.dispatcher.stop(30.0)
        self.world.advance(5.0)
        self.successResultOf(stopping)
        self.assertEqual([each[0] for each in self.outcomes(ids)], [State.ACCEPTED, State.WAITING])
        self.assertEqual(self.world.asked(), ([PRODUCTION, SANDBOX], []))
        self.world.start()
        self.world.drain()
        self.assertEqual({each[0] for each in self.outcomes(ids)}, {State.ACCEPTED})
        self.assertEqual(self.world.asked(), ([], [SANDBOX]))

    def test_abandoned(self) -> None:
        """What is broken off goes no further: soon somebody else sends it."""
        self.world.simulator.delay = 5.0
        self.world.change(self.world.simulator, refuses(SANDBOX))
        self.world.accept(tokens=[PRODUCTION, SANDBOX])
        self.world.advance(0.5)
        stopping = self.world.dispatcher.stop(1.0)
        self.world.advance(20.0)
        self.successResultOf(stopping)
        self.assertEqual((self.world.asked()[1], self.world.kinds(SANDBOX)), ([], [None]))
