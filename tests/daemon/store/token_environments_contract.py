"""What every store does that knows which environment device tokens are of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zope.interface.verify import verifyObject

from tests.daemon.store.contract import START, TOKENS, StoreContract
from txapns.daemon.interfaces import ITokenEnvironments
from txapns.daemon.store.token_environments import APPS
from txapns.daemon.values import TokenEnvironment, TokenKind

__all__ = ["TokenEnvironmentsContract", "known"]


def known(kind: TokenKind, seconds: float = 60.0) -> TokenEnvironment:
    """Make what counts for some seconds from the start."""
    return TokenEnvironment(kind, START + seconds)


class TokenEnvironmentsContract(StoreContract):
    """The tests of what is known of tokens."""

    def note(self, found: Mapping[bytes, TokenEnvironment | None], app: str = "chess") -> None:
        """Take note of something."""
        self.result(self.world.tokens.note(app, found))

    def known(self, app: str = "chess") -> Any:
        """Tell what is known of four tokens."""
        return self.result(self.world.tokens.known(app, TOKENS))

    def prune(self, *arguments: Any) -> int:
        """Forget all that can be forgotten, and tell how many were."""
        total = 0
        while count := self.result(self.world.tokens.prune(*arguments)):
            total += count
        return total

    def test_interface(self) -> None:
        """It has all methods of the interface."""
        verifyObject(ITokenEnvironments, self.world.tokens)

    def test_known(self) -> None:
        """What was noted of a token is known, of this app only, also after a restart, and of no other token."""
        self.case.assertEqual(self.known(), {})
        found = dict(zip(TOKENS, map(known, TokenKind), strict=False))
        self.note(found)
        self.world.restart()
        self.case.assertEqual((self.known(), self.known("news")), (found, {}))
        self.case.assertEqual(self.result(self.world.tokens.known("chess", [])), {})
        self.case.assertEqual(self.result(self.world.tokens.known("chess", TOKENS[1:2] * 2)), {b"2": found[b"2"]})

    def test_replaced(self) -> None:
        """What is noted later takes the place of what was known, and may be that nothing is known any more."""
        first, second = known(TokenKind.REFUSED), known(TokenKind.SANDBOX, 90.0)
        self.note({b"1": first, b"2": first, b"3": first})
        self.note({b"1": second, b"2": None, b"4": None})
        self.case.assertEqual(self.known(), {b"1": second, b"3": first})

    def test_age(self) -> None:
        """What does not count any more is not known."""
        self.note({b"1": known(TokenKind.SANDBOX, 30.0), b"2": known(TokenKind.NEITHER, 90.0)})
        self.world.clock.advance(60.0)
        self.case.assertEqual(list(self.known()), [b"2"])

    def test_pruned_by_age(self) -> None:
        """What does not count any more is forgotten, of every app."""
        apps = ["chess", "news", *(f"app-{n}" for n in range(APPS))]
        for app in apps:
            self.note({b"1": known(TokenKind.SANDBOX, -5.0), b"2": known(TokenKind.SANDBOX, 5.0)}, app)
        self.case.assertGreaterEqual(self.prune(START), len(apps))
        self.world.clock.rightNow -= 60.0
        for app in apps:
            self.case.assertEqual(list(self.known(app)), [b"2"])
        self.case.assertLessEqual(self.prune(START), 1)

    def test_pruned_by_number(self) -> None:
        """Of an app that has too many, those stay that count longest; another app loses none."""
        for n, token in enumerate(TOKENS):
            self.note({token: known(TokenKind.NEITHER, 60.0 - n)})
        self.note({b"1": known(TokenKind.SANDBOX, 1.0)}, "news")
        self.case.assertEqual(self.prune(START, 4), 0)
        self.case.assertEqual(self.prune(START, 2, 1), 2)
        self.case.assertEqual((set(self.known()), set(self.known("news"))), ({b"1", b"2"}, {b"1"}))
