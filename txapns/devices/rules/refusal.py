"""
What a refusal is: a rule for which Apple's servers refuse a push.

A refusal is a condition with its facts. The condition returns the first place where it is met, and ``None`` where it is
not::

    @refusal("COLLAPSE_ID", 400, "BadCollapseId", "A collapse ID has at most 64 bytes, not {value}.", SENDING)
    def collapse_id(attempt: Attempt) -> Place | None:
        given = attempt.headers.get("apns-collapse-id", "")
        return Place("apns-collapse-id", str(len(given))) if len(given) > MAX_COLLAPSE_ID else None

So the servers' answer and the findings come from the same condition. The simulator looks at all of them for each push,
so they are plain functions, and make nothing unless they are met.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

import attrs

from txapns.devices.credential import Credential
from txapns.devices.device import Device
from txapns.devices.findings import Grade, Severity
from txapns.devices.push import Push
from txapns.devices.rules.rule import Place, Rule

__all__ = ["ACCEPTED", "Answer", "Attempt", "Refusal", "first_answer", "refusal"]


@attrs.frozen
class Answer:
    """
    An answer.

    :ivar status: the HTTP status.
    :ivar reason: Apple's reason; empty with success.
    :ivar timestamp: with 410, since when the token is dead, in UNIX seconds.
    """

    status: int
    reason: str = ""
    timestamp: float | None = None

    @property
    def is_success(self) -> bool:
        """Whether the push is accepted."""
        return self.status == 200


#: The answer to a push without faults.
ACCEPTED = Answer(200)


class Attempt:
    """
    An attempt to send a push: all that Apple's servers look at.

    :ivar push: the push.
    :ivar headers: its header fields.
    :ivar push_type: its push type; ``None`` if it names none.
    :ivar device: the device that its token leads to; one that is like any other if nothing is known of it.
    :ivar credential: the credential.
    :ivar environment: where it is sent, ``"production"`` or ``"sandbox"``; ``None`` for where the token is valid.
    """

    __slots__ = ("credential", "device", "environment", "headers", "push", "push_type")

    def __init__(
        self, push: Push, device: Device, credential: Credential | None = None, environment: str | None = None
    ) -> None:
        """With ``None`` for a credential it is one for every topic."""
        self.push = push
        self.headers = push.headers
        self.push_type = push.headers.get("apns-push-type")
        self.device = device
        self.credential = credential or _EVERY_TOPIC
        self.environment = environment


_EVERY_TOPIC = Credential()

#: The condition of a refusal.
Condition: TypeAlias = Callable[[Attempt], "Place | None"]


@attrs.frozen
class Refusal(Rule):
    """
    A rule for which Apple refuses a push. Its ``check`` is a :data:`Condition`.

    :ivar answer: Apple's answer.
    """

    answer: Answer

    def answer_at(self, place: Place) -> Answer:
        """Find the answer for a place where the condition is met."""
        return self.answer if place.since is None else attrs.evolve(self.answer, timestamp=place.since)


def refusal(
    code: str,
    status: int,
    reason: str,
    message: str,
    source: str,
    grade: Grade = Grade.DOCUMENTED,
    types: tuple[str, ...] = (),
    needs: tuple[str, ...] = (),
) -> Callable[[Condition], Refusal]:
    """
    Make a refusal of a condition.

    :param status: the HTTP status of Apple's answer.
    :param reason: the reason in it.

    The other arguments are the fields of :class:`~txapns.devices.rules.rule.Rule`. A condition sees for itself what it
    is for: ``types`` only tell people.
    """
    answer = Answer(status, reason)
    return lambda check: Refusal(code, Severity.ERROR, message, source, grade, types, needs, check, answer)


def first_answer(refusals: Iterable[Refusal], attempt: Attempt) -> Answer | None:
    """
    Find the answer to an attempt.

    :param refusals: what the servers check, in order.
    :param attempt: the attempt.
    :returns: the answer of the first refusal whose condition is met; ``None`` if none is.
    """
    for each in refusals:
        check = each.check  # to look it up first is quicker
        place = check(attempt)
        if place is not None:
            return each.answer_at(place)
    return None
