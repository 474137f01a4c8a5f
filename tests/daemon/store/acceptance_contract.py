"""What comes out of every queue, whatever requests are stored together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from random import Random
from uuid import UUID

import attrs
import msgspec
from twisted.internet.defer import Deferred

from tests.daemon.store.contract import HEADERS, OTHER, StoreContract
from txapns.daemon.errors import KeyConflict
from txapns.daemon.values import CHANNEL, ENVIRONMENT, Idempotency, Lane, Leased, Message, Receipt, State

__all__ = ["AcceptanceContract"]

_REQUESTS = 10
_APPS = ["chess", "news", "Ünïcode app"]
_LANES = list(Lane)
_RESPECTS = ["app", "headers", "not_before", "rate", "lane", "caller", "collapse_id"]
_WIDTHS = [1, 32, 32, 32, 64, 100, 512]
_PAYLOADS = [2, 20, 20, 20, 4_096, 65_536]
_FAR = 10_000.0  # by when everything is due, in seconds
_NEAR = 0.05  # how much the due time of a notification may be off, in seconds


@attrs.frozen(eq=False)
class _Request:
    messages: list[Message]
    key: Idempotency | None
    made: float  # by the wall clock
    answer: list[list[Receipt] | KeyConflict] = attrs.Factory(list)

    def receipts(self) -> list[Receipt]:
        """Its receipts, if it was stored first."""
        [found] = self.answer
        return [] if isinstance(found, KeyConflict) or any(each.earlier for each in found) else found


@attrs.frozen
class _Notification:
    """A notification as it was submitted, and when it is due, by the wall clock."""

    number: int
    message: Message
    payload: bytes
    token: bytes
    apns_id: str
    due: float

    @property
    def collapses(self) -> tuple[str, bytes, str]:
        """What it supersedes: the app, the token and the collapse id, which it may not have."""
        return self.message.app, self.token, self.message.collapse_id or ""


class _Chance:
    """Makes requests by chance."""

    def __init__(self, seed: int, date: float) -> None:
        self.random = Random(seed)
        self.date = date
        self.messages = 0

    def requests(self) -> list[_Request]:
        """Make requests that are stored together: of notifications of a few kinds, as those of callers are."""
        first = self.kind()
        kinds = [first, self.changed(first), self.kind()]
        return [self.request(kinds) for _ in range(self.random.randint(1, _REQUESTS))]

    def request(self, kinds: list[Message]) -> _Request:
        """Make one."""
        random = self.random
        some = kinds[: random.choice([1, 1, 1, 2, 2, 3])]
        messages = [self.message(random.choice(some)) for _ in range(random.choice([0, 1, 1, 2, 3, 5, 15]))]
        key = None
        if random.random() < 0.3:
            key = Idempotency(random.choice(["x", "y"]), str(random.randrange(4)), random.choice([b"1", b"1", b"2"]))
        return _Request(messages, key, self.date)

    def kind(self) -> Message:
        """Make a message for nobody, which others are like."""
        random = self.random
        headers = dict(HEADERS)
        if random.random() < 0.3:
            headers["apns-priority"] = str(random.choice([1, 5, 10]))
        if random.random() < 0.1:
            headers[ENVIRONMENT] = random.choice(["sandbox", "production"])
        if random.random() < 0.1:
            headers["apns-topic"] = "ü\U0001f600'\"\\" * random.randint(1, 60)
        if random.random() < 0.1:
            headers[CHANNEL] = "AbCd/+=="
        collapse_id = None if CHANNEL in headers else random.choice([None, None, "one", "two"])
        not_before = random.choice([None, None, None, self.date - 5.0, self.date + random.randint(1, 100)])
        rate = random.choice([None, None, None, None, 1, 7, 300])
        whose = random.choice(_LANES), random.choice(["anybody", "a"]), collapse_id
        return Message(random.choice(_APPS), b"", headers, [], [], not_before, rate, *whose)

    def changed(self, kind: Message) -> Message:
        """Make a kind that differs from another in one respect."""
        other, name = self.kind(), self.random.choice(_RESPECTS)
        changed: Message = msgspec.structs.replace(kind, **{name: getattr(other, name)})
        return msgspec.structs.replace(changed, collapse_id=None) if CHANNEL in changed.headers else changed

    def message(self, like: Message) -> Message:
        """Make a message of a kind, mostly for one device."""
        count = self.random.choice([0, 1, 1, 1, 1, 1, 1, 2, 3, 12])
        tokens = [b""] if CHANNEL in like.headers else [self.token(like.collapse_id) for _ in range(count)]
        own = self.payload(), dict(like.headers), tokens, self.ids(len(tokens))
        payloads = [self.payload() for _ in tokens] if self.random.random() < 0.3 else []
        return Message(like.app, *own, like.not_before, like.rate, like.lane, like.caller, like.collapse_id, payloads)

    def token(self, collapse_id: str | None) -> bytes:
        """Make a token; a few of them come again and again, so that something is superseded."""
        if collapse_id is not None and self.random.random() < 0.5:
            return b"%032d" % self.random.randrange(20)
        return self.random.randbytes(self.random.choice(_WIDTHS))

    def payload(self) -> bytes:
        """Make a payload, no two of them alike."""
        self.messages += 1
        return b"%d " % self.messages + b"x" * self.random.randrange(self.random.choice(_PAYLOADS))

    def ids(self, count: int) -> list[str]:
        """Make ids, some of which come again."""
        return [
            OTHER if self.random.random() < 0.05 else str(UUID(int=self.random.getrandbits(128))) for _ in range(count)
        ]


class AcceptanceContract(StoreContract):
    """The test of what is stored together; ``seeds`` times, each with other requests."""

    seeds = 16

    def test_any_requests(self) -> None:
        """Whatever requests are made at once, and however they differ, each notification is leased as submitted."""
        for seed in range(self.seeds):
            with self.case.subTest(seed=seed):
                self.try_requests(seed)

    def try_requests(self, seed: int) -> None:
        """Make requests, and lease what is due, in two steps."""
        chance = _Chance(seed, self.date)
        requests = chance.requests()
        for request in requests:
            storing: Deferred[list[Receipt]] = self.world.queue.accept(request.messages, request.key)
            storing.addErrback(lambda failure: failure.trap(KeyConflict) and failure.value)
            storing.addCallback(request.answer.append)
        for _ in range(100):
            if not all(request.answer for request in requests):
                self.world.clock.advance(0.002)
        self.check_answers(requests)
        expected = {each.number: each for request in requests for each in _submitted(request)}
        waiting = list(_not_superseded(expected.values()))
        for later in (chance.random.uniform(0.0, 50.0), _FAR):
            until = chance.date + later
            self.world.clock.advance(until - self.date)
            leased = {each.number: each for app in _APPS for each in self.lease_all(app)}
            surely = {each.number for each in waiting if each.due < until - _NEAR}
            perhaps = {each.number for each in waiting if each.due < until + _NEAR}
            self.case.assertLessEqual(surely, leased.keys())
            self.case.assertLessEqual(leased.keys(), perhaps)
            for number, found in leased.items():
                self.check_leased(found, expected[number])
            waiting = [each for each in waiting if each.number not in leased]
        self.case.assertEqual(waiting, [])
        for app in _APPS:
            self.case.assertEqual(self.world.queue.waiting(app).count, 0)

    def check_answers(self, requests: list[_Request]) -> None:
        """Each request has receipts; of those with the same key, one is stored, and the others are told so."""
        winners: dict[tuple[str, str], _Request] = {}
        numbers: list[int] = []
        for request in requests:
            if request.receipts() or not request.messages:
                self.case.assertEqual(
                    [list(each.apns_ids) for each in request.receipts()],
                    [list(each.apns_ids) for each in request.messages],
                )
                numbers += [number for each in request.receipts() for number in each.numbers]
        self.case.assertEqual(len(numbers), len(set(numbers)))
        for request in requests:
            if request.key is not None and request.receipts():
                name = request.key.owner, request.key.key
                self.case.assertNotIn(name, winners)
                winners[name] = request
        for request in requests:
            if request.key is not None and not request.receipts():
                self.check_earlier(request, request.key, winners.get((request.key.owner, request.key.key)))

    def check_earlier(self, request: _Request, key: Idempotency, first: _Request | None) -> None:
        """A request whose key was used gets the receipts of the first, or is refused."""
        [answer] = request.answer
        if first is None or first.key is None:
            return  # the first was for nobody
        self.case.assertEqual(isinstance(answer, KeyConflict), key.digest != first.key.digest)
        if isinstance(answer, list):
            told = [(list(each.numbers), list(each.apns_ids)) for each in answer]
            self.case.assertEqual(told, [(list(each.numbers), list(each.apns_ids)) for each in first.receipts()])

    def lease_all(self, app: str) -> Iterator[Leased]:
        """Lease and settle whatever is due, in small parts."""
        while found := self.lease(333, app):
            self.settle(found, State.ACCEPTED, 200)
            yield from found

    def check_leased(self, found: Leased, submitted: _Notification) -> None:
        """It is what was submitted."""
        message, content = submitted.message, found.content
        self.case.assertEqual((found.token, found.apns_id), (submitted.token, submitted.apns_id))
        self.case.assertEqual((content.app, content.lane), (message.app, message.lane))
        self.case.assertEqual(content.headers, message.headers)
        self.case.assertTrue(found.payload == submitted.payload, "another payload")


def _submitted(request: _Request) -> Iterator[_Notification]:
    """List the notifications of a request that was stored."""
    paced = 0
    for message, receipt in zip(request.messages, request.receipts(), strict=False):
        due = max(request.made, message.not_before or 0.0)
        payloads = message.payloads or [message.payload] * len(message.tokens)
        devices = zip(receipt.numbers, payloads, message.tokens, message.apns_ids, strict=True)
        for number, payload, token, apns_id in devices:
            later = 0.0 if message.rate is None else paced / message.rate
            yield _Notification(number, message, payload, token, apns_id, due + later)
            paced += message.rate is not None


def _not_superseded(notifications: Iterable[_Notification]) -> Iterator[_Notification]:
    """Leave out what later ones supersede."""
    latest: dict[tuple[str, bytes, str], int] = {}
    ordered = sorted(notifications, key=lambda each: each.number)
    for each in ordered:
        latest[each.collapses] = each.number
    return (each for each in ordered if each.message.collapse_id is None or latest[each.collapses] == each.number)
