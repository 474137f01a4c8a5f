"""How the server would execute a statement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from txapns.daemon.store.postgresql.schema import Connection

__all__ = ["plan"]


def plan(connection: Connection, statement: str, arguments: Sequence[Any]) -> str:
    """Explain a statement that is planned for its arguments."""
    return "\n".join(line for (line,) in connection.execute(f"EXPLAIN {statement}".encode(), arguments, prepare=False))
