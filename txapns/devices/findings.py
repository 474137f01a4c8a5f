"""
Findings: what is wrong, or odd, with a push, and how we know.

Each finding comes from a rule. Rules differ in how well their fact is known: Apple documents some, users of Apple's
services report others. A fact that Apple does not document is never claimed, but told as what it is.
"""

from __future__ import annotations

from enum import Enum

import attrs

__all__ = ["Finding", "Grade", "Severity"]


class Severity(Enum):
    """What follows from a finding."""

    #: Apple's servers refuse the push.
    ERROR = "error"
    #: The device ignores the push, or changes what it shows.
    WARNING = "warning"
    #: It works, and may not be what was meant.
    HINT = "hint"


class Grade(Enum):
    """How well a fact is known."""

    DOCUMENTED = "documented"
    REPORTED = "reported"
    SINGLE_REPORT = "single report"
    #: Apple does not say, or sources disagree. The message of the rule says which.
    UNKNOWN = "unknown"

    @property
    def label(self) -> str:
        """What is written before a source."""
        return "unknown, see" if self is Grade.UNKNOWN else self.value


@attrs.frozen
class Finding:
    """
    What a rule found in a push.

    :ivar code: the rule's name, as ``BACKGROUND_PRIORITY``.
    :ivar severity: what follows.
    :ivar message: a sentence for people.
    :ivar path: where it is: the path of a key of the payload, as ``aps.alert.title``; the name of a header field, as
        ``apns-priority``; or empty if it is about the whole push or the device.
    :ivar grade: how well the fact is known.
    :ivar source: where the fact is from: the title of a page of Apple's documentation, or of a report.
    """

    code: str
    severity: Severity
    message: str
    path: str
    grade: Grade
    source: str

    def to_dict(self) -> dict[str, str]:
        """
        Make a dictionary for JSON.

        :returns: all fields by name, as text.
        """
        return {
            "code": self.code,
            "severity": self.severity.value,
            "message": self.message,
            "path": self.path,
            "grade": self.grade.value,
            "source": self.source,
        }
