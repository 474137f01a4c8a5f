"""
A request as the statements that store it take it: everything of one kind in one value.

A message is stored once, with one delivery for each of its devices. The deliveries of a request have consecutive
numbers, and a message has the number of its first delivery.

Messages that follow one another and differ only in their payloads, tokens and ids are a *block*, whether they are a
campaign of one payload or a thousand notifications with a payload each: the database numbers them, and cuts their
payloads, tokens and ids out of values that have all of them. The tokens of a *run* are equally long. So a statement has
a few parameters, and it is one statement, however many notifications there are.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence

import attrs
import msgspec

from txapns.daemon.errors import KeyConflict
from txapns.daemon.store.queue_time import QueueTime, milliseconds
from txapns.daemon.store.superseding import Superseded, hash_of
from txapns.daemon.values import Idempotency, Message, Receipt

__all__ = [
    "LONGEST_RUN",
    "PLACE",
    "Acceptance",
    "Block",
    "FlowKey",
    "Layout",
    "collapsing",
    "flow_of",
    "laid_out",
    "packed",
    "receipts_of",
    "repeated",
    "schedule",
    "uuid_text",
    "uuid_texts",
]

#: How many deliveries one run of tokens with equal lengths can have; longer runs are divided.
LONGEST_RUN = 1000
#: What the place of a payload is multiplied by where its length is added.
PLACE = 2**32

# From how many ids on they are written a digit at a time: 82 instead of 716 ns each for 500.
_MANY = 32
# Where the 32 digits of an id go, each of which is followed by a space.
_TEMPLATE = b"        -    -    -    -             "
_PLACES = [place for place, octet in enumerate(_TEMPLATE[:-1]) if octet == ord(" ")]

_encode = msgspec.json.Encoder().encode

#: What tells one *flow* from another: the app's name, the lane and the caller's name. The notifications of a flow wait
#: in line; see :mod:`txapns.daemon.store.turns`.
FlowKey = tuple[str, int, str]


def flow_of(message: Message) -> FlowKey:
    """Tell in which flow a message waits."""
    return message.app, int(message.lane), message.caller


class Block(msgspec.Struct, frozen=True, eq=False, gc=False):
    """
    Messages that differ only in their payloads, tokens and ids, in the form that the statements take.

    :ivar messages: the messages, as they were given.
    :ivar each: for how many devices each of their payloads is.
    :ivar widths: the length of each token.
    :ivar not_before: the date before which the first delivery is not sent, in milliseconds; 0 for none.
    :ivar due: when that is, in milliseconds of the queue's time; ``None`` for now.
    :ivar step: how many microseconds after each delivery the next one may be sent.
    :ivar collapse: the hash of their collapse id, if they supersede those before; otherwise 0.
    """

    messages: Sequence[Message]
    flow: FlowKey
    headers: str
    each: int
    payloads: list[bytes]
    tokens: bytes
    widths: list[int]
    apns_ids: bytes
    collapse: int = 0
    not_before: int = 0
    due: int | None = None
    step: int = 0

    @property
    def app(self) -> str:
        """The app's name."""
        return self.flow[0]

    @property
    def count(self) -> int:
        """How many deliveries there are."""
        return len(self.widths)


@attrs.define(eq=False)
class Acceptance:
    """
    A request to accept messages, or several that are stored as one.

    :ivar date: the date, in milliseconds.
    :ivar due: when its notifications are due that may be sent now, in milliseconds of the queue's time.
    :ivar apps: the ids of all apps, including those made for it.
    :ivar flows: the ids of all flows, likewise.
    :ivar first: the number of its first delivery; 0 if nothing was stored.
    :ivar superseded: what was superseded by it and by those that are stored with it.
    :ivar blocks: its blocks, once its messages are packed.
    """

    messages: Sequence[Message]
    idempotency: Idempotency | None
    date: int
    due: int
    apps: dict[str, int] = attrs.Factory(dict)
    flows: dict[FlowKey, int] = attrs.Factory(dict)
    first: int = 0
    superseded: Superseded = attrs.Factory(Superseded)
    blocks: list[Block] = attrs.Factory(list)

    @property
    def count(self) -> int:
        """How many deliveries it has."""
        return sum(self.counts)

    @property
    def counts(self) -> list[int]:
        """How many deliveries each of its messages has."""
        return [len(message.tokens) for message in self.messages]

    @property
    def apns_ids(self) -> bytes:
        """The ids of its deliveries."""
        return _octets(self.messages)


@attrs.frozen(eq=False)
class Layout:
    """
    Requests as the statements take them. Positions count from 1, as SQL does.

    :ivar messages: of each block the number of the first message, how many deliveries each has, the headers, the date,
        when they are due, and for each message where in the payloads its own begins, times ``PLACE``, and how long it
        is.
    :ivar runs: of each the number of the first delivery, that of the first message in its block, how many deliveries
        each of these has, the app, when it is due, how many deliveries the run has, where in the tokens its own are,
        how long each is, where in the ids its own are, the date, the date before which the first is not sent, or 0, how
        many microseconds later the next one may be, the flow, and the hash of the collapse id, or 0.
    """

    messages: list[tuple[int, int, str, int, int, list[int]]]
    runs: list[tuple[int, int, int, int, int, int, int, int, int, int, int, int, int, int]]
    payloads: bytes
    tokens: bytes
    apns_ids: bytes


def schedule(messages: Sequence[Message], time: QueueTime) -> list[Block]:
    """
    Pack the messages of a request, if some of them are not sent at once, and place these in the queue.

    :returns: the blocks; none if all are sent at once, which can be packed together with others.
    :raises ValueError: an id is not a UUID.
    """
    if all(message.not_before is None and message.rate is None for message in messages):
        return []
    found = []
    present = time.calendar()
    paced = 0  # how many devices come before, at the rate of the request
    for alike in _alike(messages):
        block, first = _block(alike), alike[0]
        date = present if first.not_before is None else max(present, milliseconds(first.not_before))
        step = 0
        if first.rate is not None:
            step = -(-1_000_000 // first.rate)
            date += paced * step // 1_000
            paced += block.count
        if date > present or step:
            block = msgspec.structs.replace(block, not_before=date, due=time.place(date), step=step)
        found.append(block)
    return found


def packed(acceptances: Sequence[Acceptance]) -> list[Acceptance]:
    """
    Pack requests that have their numbers. All were accepted at the time of the last one.

    Those that follow one another become one, unless something of them is scheduled: what different callers send at the
    same time is a block, if it is alike, and costs little more than if it were of one caller.

    :raises ValueError: an id is not a UUID.
    """
    groups: list[list[Acceptance]] = []
    end = 0
    for each in acceptances:
        if groups and each.first == end and not (each.blocks or groups[-1][-1].blocks):
            groups[-1].append(each)
        else:
            groups.append([each])
        end = each.first + each.count
    return [_joined(group, acceptances[-1]) for group in groups]


def _joined(group: Sequence[Acceptance], last: Acceptance) -> Acceptance:
    messages = [message for each in group for message in each.messages]
    blocks = group[0].blocks or [_block(alike) for alike in _alike(messages)]
    return Acceptance(messages, None, last.date, last.due, first=group[0].first, blocks=blocks)


def _alike(messages: Iterable[Message]) -> list[list[Message]]:
    """Group the messages that are in one block."""
    return [list(group) for _, group in itertools.groupby(messages, _shared)]


def _shared(message: Message) -> tuple[object, ...]:
    """Give what the messages of a block have in common."""
    place = message.app, message.lane, message.caller, message.collapse_id, message.not_before, message.rate
    return 1 if message.payloads else len(message.tokens), message.headers, place


def _block(messages: Sequence[Message]) -> Block:
    first = messages[0]
    tokens = [token for message in messages for token in message.tokens]
    payloads = [payload for message in messages for payload in message.payloads or (message.payload,)]
    return Block(
        messages,
        flow_of(first),
        _encode(dict(first.headers)).decode(),
        1 if first.payloads else len(first.tokens),
        payloads,
        b"".join(tokens),
        list(map(len, tokens)),
        _octets(messages),
        0 if first.collapse_id is None else hash_of(first.collapse_id),
    )


def _octets(messages: Iterable[Message]) -> bytes:
    """Write the ids of messages as 16 octets each."""
    texts = [apns_id for message in messages for apns_id in message.apns_ids]
    text = " ".join([*texts, ""])
    apns_ids = bytes.fromhex(text.replace("-", ""))  # which leaves out spaces
    if len(apns_ids) != 16 * len(texts) or text[36::37] != " " * len(texts):
        raise ValueError("an id is not a UUID")
    return apns_ids


def _placed(acceptances: Iterable[Acceptance]) -> Iterator[tuple[Acceptance, int, Block]]:
    """Give each block with its request and the number of its first delivery."""
    for acceptance in acceptances:
        number = acceptance.first
        for block in acceptance.blocks:
            yield acceptance, number, block
            number += block.count


def _runs(widths: Sequence[int]) -> list[tuple[int, int]]:
    """Find the runs of tokens that are equally long: how many of which length."""
    if len(set(widths)) == 1 and len(widths) <= LONGEST_RUN:
        return [(len(widths), widths[0])]
    runs = []
    for width, group in itertools.groupby(widths):
        count = len(list(group))
        runs += [(min(LONGEST_RUN, count - done), width) for done in range(0, count, LONGEST_RUN)]
    return runs


def laid_out(acceptances: Sequence[Acceptance]) -> Layout:
    """Lay out new requests, which have numbers and whose apps and flows have ids."""
    rows, runs = [], []
    payload_at = token_at = id_at = 1
    for acceptance, first, block in _placed(acceptances):
        number, date, due = first, acceptance.date, acceptance.due if block.due is None else block.due
        places = []
        for length in map(len, block.payloads):
            places.append(payload_at * PLACE + length)
            payload_at += length
        if block.widths:  # messages without devices would have the number of the next
            rows.append((first, block.each, block.headers, date, acceptance.due, places))
        app, flow = acceptance.apps[block.app], acceptance.flows[block.flow]
        for count, width in _runs(block.widths):
            later = (number - first) * block.step // 1_000
            not_before = block.not_before and block.not_before + later
            place = (number, first, block.each, app, due + later, count)
            runs.append((*place, token_at, width, id_at, date, not_before, block.step, flow, block.collapse))
            number += count
            token_at += count * width
            id_at += count * 16
    blocks = [block for acceptance in acceptances for block in acceptance.blocks]
    payloads, tokens = [payload for block in blocks for payload in block.payloads], [block.tokens for block in blocks]
    return Layout(rows, runs, b"".join(payloads), b"".join(tokens), b"".join([block.apns_ids for block in blocks]))


def collapsing(acceptances: Iterable[Acceptance]) -> list[tuple[int, int]]:
    """Find the deliveries that supersede those before: from which number on, and the number after the last."""
    placed = _placed(acceptances)
    return [(first, first + block.count) for _, first, block in placed if block.collapse and block.count]


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
    ids = iter(uuid_texts(apns_ids))
    return receipts_of(first, [list(itertools.islice(ids, count)) for count in counts], earlier=True)


def uuid_text(digits: str) -> str:
    """Write a UUID, given its 32 hexadecimal digits, in its canonical form."""
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def uuid_texts(octets: bytes) -> list[str]:
    """Write UUIDs of 16 octets each, one after the other, in their canonical form."""
    digits = octets.hex()
    if len(digits) < 32 * _MANY:
        return [uuid_text(digits[at : at + 32]) for at in range(0, len(digits), 32)]
    texts = bytearray(_TEMPLATE * (len(octets) // 16))
    columns = digits.encode()
    for digit, place in enumerate(_PLACES):  # the same digit of all of them at once
        texts[place :: len(_TEMPLATE)] = columns[digit::32]
    return texts.decode().split()
