"""What a check found, as a value."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

import attrs

__all__ = ["Finding", "Level"]


class Level(enum.Enum):
    """How much a finding matters."""

    #: It works.
    GOOD = "good"
    #: It could not be found out, and need not be wrong.
    UNKNOWN = "unknown"
    #: It works, or is not needed, but somebody should know.
    NOTE = "note"
    #: It does not work.
    FAULT = "fault"


@attrs.frozen(kw_only=True)
class Finding:
    """
    What a check found.

    :ivar check: which check: ``"name"``, ``"port"``, ``"proxy"``, ``"tls"``, ``"protocol"``, ``"clock"``, ``"push"`` or
        ``"descriptors"``.
    :ivar gateway: the gateway that it is about; empty for this machine.
    :ivar level: how much it matters.
    :ivar message: what it is, in plain words.
    :ivar advice: what to do; empty where there is nothing to do.
    :ivar details: the same for a program, as values that JSON can hold.
    """

    check: str
    gateway: str
    level: Level
    message: str
    advice: str = ""
    details: Mapping[str, Any] = attrs.Factory(dict)

    def to_dict(self) -> dict[str, Any]:
        """Convert it to values that JSON can hold."""
        return {**attrs.asdict(self, recurse=False), "level": self.level.value, "details": {**self.details}}
