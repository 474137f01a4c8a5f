"""
What an operator should know of a database, for ``txapns database check`` and ``txapns check-config``.

A *fault* keeps the daemon from working, and a *warning* is what one wants to know before something happens. The rest
are facts. An examination changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

import attrs

from txapns.daemon.store.cluster import NodeStatus

__all__ = ["Examination", "Finding", "Kind", "megabytes"]

#: What kind of finding it is.
Kind: TypeAlias = Literal["ok", "warning", "fault"]


class Finding(NamedTuple):
    """Something that was found out, in words."""

    kind: Kind
    text: str


@attrs.frozen
class Examination:
    """
    What was found out about a database.

    :ivar prepared: whether there are tables of apps and keys that this program can read.
    :ivar nodes: the nodes that use it, if several can.
    """

    findings: Sequence[Finding]
    prepared: bool = False
    nodes: Sequence[NodeStatus] = ()

    @property
    def faults(self) -> list[str]:
        """What keeps the daemon from working."""
        return [text for kind, text in self.findings if kind == "fault"]


def megabytes(size: int) -> str:
    """Write a number of bytes."""
    return f"{size / 2**20:,.1f} MB"
