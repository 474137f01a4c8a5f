"""
A request as the statements that store it take it: everything of one kind in one value.

A message is stored once, with one delivery for each of its devices. The deliveries of a request have consecutive
numbers, and a message has the number of its first delivery. The tokens of a message are joined, and so are its ids: a
*run* of deliveries whose tokens are equally long is cut out of both again by the database. So a statement has a few
parameters, and it is one statement, however many notifications there are.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Iterable, Sequence

import attrs
import msgspec

from txapns.daemon.errors import KeyConflict
from txapns.daemon.store.queue_time import QueueTime, milliseconds
from txapns.daemon.store.superseding import Superseded, hash_of
from txapns.daemon.values import Idempotency, Message, Receipt

__all__ = [
    "LONGEST_RUN",
    "Acceptance",
    "FlowKey",
    "Layout",
    "Packed",
    "collapsing",
    "laid_out",
    "pack",
    "receipts_of",
    "repeated",
    "scheduled",
    "uuid_text",
]

#: How many deliveries one run of tokens with equal lengths can have; longer runs are divided.
LONGEST_RUN = 1000

_encode = msgspec.json.Encoder().encode

#: What tells one *flow* from another: the app's name, the lane and the caller's name. The notifications of a flow wait
#: in line; see :mod:`txapns.daemon.store.turns`.
FlowKey = tuple[str, int, str]


class Packed(msgspec.Struct, frozen=True, eq=False, gc=False):
    """
    A message in the form that the statements take.

    :ivar not_before: the date before which its first delivery is not sent, in milliseconds; 0 for none.
    :ivar due: when that is, in milliseconds of the queue's time; ``None`` for now.
    :ivar step: how many microseconds after each delivery the next one may be sent.
    :ivar collapse: the hash of its collapse id, if it supersedes those before; otherwise 0.
    """

    flow: FlowKey
    headers: str
    payload: bytes
    tokens: bytes
    runs: list[tuple[int, int]]  # how many tokens of which length
    apns_ids: bytes
    not_before: int = 0
    due: int | None = None
    step: int = 0
    collapse: int = 0

    @property
    def app(self) -> str:
        """The app's name."""
        return self.flow[0]

    @property
    def count(self) -> int:
        """How many deliveries it has."""
        return len(self.apns_ids) // 16


@attrs.define(eq=False)
class Acceptance:
    """
    One request to accept messages.

    :ivar date: the date, in milliseconds.
    :ivar due: when its notifications are due that may be sent now, in milliseconds of the queue's time.
    :ivar apps: the ids of all apps, including those made for it.
    :ivar flows: the ids of all flows, likewise.
    :ivar first: the number of its first delivery; 0 if nothing was stored.
    :ivar superseded: what was superseded by it and by those that are stored with it.
    """

    messages: list[Packed]
    idempotency: Idempotency | None
    date: int
    due: int
    apps: dict[str, int] = attrs.Factory(dict)
    flows: dict[FlowKey, int] = attrs.Factory(dict)
    first: int = 0
    superseded: Superseded = attrs.Factory(Superseded)

    @property
    def count(self) -> int:
        """How many deliveries it has."""
        return sum(message.count for message in self.messages)


@attrs.frozen(eq=False)
class Layout:
    """
    Requests as the statements take them. Positions count from 1, as SQL does.

    :ivar messages: of each the number, the headers, the date, where in the payloads its own is, and how long, and when
        it is due.
    :ivar runs: of each the number of the first delivery, the message, the app, when it is due, how many deliveries it
        has, where in the tokens its own are, how long each is, where in the ids its own are, the date, the date before
        which the first is not sent, or 0, how many microseconds later the next one may be, the flow, and the hash of
        the collapse id, or 0.
    """

    messages: list[tuple[int, str, int, int, int, int]]
    runs: list[tuple[int, int, int, int, int, int, int, int, int, int, int, int, int]]
    payloads: bytes
    tokens: bytes
    apns_ids: bytes


def pack(message: Message) -> Packed:
    """
    Pack a message.

    :raises ValueError: one of its ids is not a UUID.
    """
    tokens = message.tokens
    text = "".join(message.apns_ids)
    apns_ids = bytes.fromhex(text.replace("-", ""))
    if not len(text) / 36 == len(apns_ids) / 16 == len(tokens):
        raise ValueError("an id is not a UUID")
    headers = _encode(dict(message.headers)).decode()
    flow = message.app, int(message.lane), message.caller
    collapse = 0 if message.collapse_id is None else hash_of(message.collapse_id)
    return Packed(flow, headers, message.payload, b"".join(tokens), _runs(tokens), apns_ids, collapse=collapse)


def _runs(tokens: Sequence[bytes]) -> list[tuple[int, int]]:
    """Find the runs of tokens that are equally long: how many of which length."""
    widths = list(map(len, tokens))
    if len(set(widths)) == 1 and len(widths) <= LONGEST_RUN:
        return [(len(widths), widths[0])]
    runs = []
    for width, group in itertools.groupby(widths):
        count = len(list(group))
        runs += [(min(LONGEST_RUN, count - done), width) for done in range(0, count, LONGEST_RUN)]
    return runs


def scheduled(packed: Sequence[Packed], messages: Sequence[Message], time: QueueTime) -> list[Packed]:
    """Place the messages of a request in the queue that are not sent at once."""
    if all(message.not_before is None and message.rate is None for message in messages):
        return list(packed)
    found = []
    present = time.calendar()
    paced = 0  # how many devices come before, at the rate of the request
    for each, message in zip(packed, messages, strict=True):
        date = present if message.not_before is None else max(present, milliseconds(message.not_before))
        step = 0
        if message.rate is not None:
            step = -(-1_000_000 // message.rate)
            date += paced * step // 1_000
            paced += each.count
        if date > present or step:
            each = msgspec.structs.replace(each, not_before=date, due=time.place(date), step=step)
        found.append(each)
    return found


def laid_out(acceptances: Iterable[Acceptance]) -> Layout:
    """Lay out new requests, which have numbers and whose apps and flows have ids."""
    rows, runs = [], []
    payload_at = token_at = id_at = 1
    messages = []
    for acceptance in acceptances:
        number = acceptance.first
        for message in acceptance.messages:
            messages.append(message)
            first = number
            if message.runs:  # a message without devices would have the number of the next
                rows.append(
                    (number, message.headers, acceptance.date, payload_at, len(message.payload), acceptance.due)
                )
            payload_at += len(message.payload)
            app, flow = acceptance.apps[message.app], acceptance.flows[message.flow]
            date, due = acceptance.date, acceptance.due if message.due is None else message.due
            for count, width in message.runs:
                later = (number - first) * message.step // 1_000
                not_before = message.not_before and message.not_before + later
                place = (number, first, app, due + later, count)
                runs.append((*place, token_at, width, id_at, date, not_before, message.step, flow, message.collapse))
                number += count
                token_at += count * width
                id_at += count * 16
    payloads, tokens = b"".join(each.payload for each in messages), b"".join(each.tokens for each in messages)
    return Layout(rows, runs, payloads, tokens, b"".join(each.apns_ids for each in messages))


def collapsing(acceptances: Iterable[Acceptance]) -> list[tuple[int, int]]:
    """Find the deliveries that supersede those before: from which number on, and the number after the last."""
    found = []
    for acceptance in acceptances:
        number = acceptance.first
        for message in acceptance.messages:
            if message.collapse and message.count:
                found.append((number, number + message.count))
            number += message.count
    return found


def receipts_of(
    first: int, groups: Iterable[Sequence[str]], *, earlier: bool = False, superseded: Sequence[int] = ()
) -> list[Receipt]:
    """
    Make the receipts of a request.

    :param first: the number of its first delivery.
    :param earlier: whether the request repeats an earlier one.
    :param superseded: notifications that are superseded already, in order.
    """
    receipts = []
    for apns_ids in groups:
        numbers = range(first, first + len(apns_ids))
        some = bool(superseded) and bisect_left(superseded, numbers.stop) > bisect_left(superseded, first)
        receipts.append(Receipt(numbers, apns_ids, earlier, some))
        first = numbers.stop
    return receipts


def repeated(
    idempotency: Idempotency, digest: bytes, counts: Iterable[int], apns_ids: bytes, first: int
) -> list[Receipt] | KeyConflict:
    """
    Tell the result of a request whose key was used before.

    :param digest: that of the request before; the rest is of it, too.
    """
    if digest != idempotency.digest:
        return KeyConflict("the idempotency key was used before, for another request")
    digits = apns_ids.hex()
    ids = iter([uuid_text(digits[at : at + 32]) for at in range(0, len(digits), 32)])
    return receipts_of(first, [list(itertools.islice(ids, count)) for count in counts], earlier=True)


def uuid_text(digits: str) -> str:
    """Write a UUID, given its 32 hexadecimal digits, in its canonical form."""
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
