"""
How statements are executed: which plan PostgreSQL chooses for them, and how much they touch.

The connections of :class:`RecordingSettings` explain each statement of a store just before they execute it. What is
explained is the plan that is made for any values of the parameters, as the store's connections have it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import psycopg
from psycopg._queries import PostgresQuery
from psycopg.adapt import Transformer
from psycopg.pq import TransactionStatus
from psycopg.sql import SQL, Composable, Literal

from txapns.daemon.store.postgresql.settings import Settings

__all__ = ["Explained", "RecordingSettings"]

_STATEMENT = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b")


@attrs.frozen
class Explained:
    """
    One statement, as it was executed.

    :ivar nodes: the nodes of its plan, the topmost first.
    """

    statement: str
    nodes: list[Mapping[str, Any]] = attrs.field(repr=False)

    @property
    def pages(self) -> int:
        """How many pages it touched."""
        return int(self.nodes[0]["Shared Hit Blocks"] + self.nodes[0]["Shared Read Blocks"])

    @property
    def rows(self) -> int:
        """How many rows came to the busiest node."""
        return max(
            int((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"])
            for node in self.nodes
        )

    def __str__(self) -> str:
        lines = [self.statement]
        for node in self.nodes:
            kept = {key: value for key, value in node.items() if not key.startswith(("Plan", "Local", "Temp", "Async"))}
            lines.append(str({key: value for key, value in kept.items() if value not in (0, False)}))
        return "\n".join(lines)

    @property
    def scanned(self) -> set[str]:
        """The tables that were read from end to end, without an index."""
        return {str(node["Relation Name"]) for node in self.nodes if node["Node Type"] == "Seq Scan"}


@attrs.frozen
class RecordingSettings(Settings):
    """
    Settings whose connections explain what they execute.

    :ivar found: called with each statement.
    """

    found: Callable[[Explained], None] = attrs.field(kw_only=True)

    def connect(self, **more: Any) -> psycopg.Connection[Any]:
        """Connect, in a thread."""
        found = self.found

        class RecordingCursor(psycopg.Cursor[Any]):
            def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
                if isinstance(query, str) and _STATEMENT.match(query):
                    found(_explain(self.connection, query, params))
                return super().execute(query, params, **options)

        return super().connect(cursor_factory=RecordingCursor, **more)


def _explain(connection: psycopg.Connection[Any], statement: str, parameters: Any) -> Explained:
    """Explain a statement, and undo what it did."""
    query = PostgresQuery(Transformer(connection))
    query.convert(statement, parameters)
    cursor = psycopg.Cursor(connection)
    values: tuple[Any, ...] = ()
    types = ""
    if query.types:
        names = getattr(query, "_order", None)
        given = parameters if names is None else [parameters[name] for name in names]
        [values] = cursor.execute("SELECT " + ", ".join(["%s::text"] * len(given)), given).fetchall()
        texts = [_type(cursor, oid) for oid in query.types]
        types = f"({', '.join(texts)})"
    undone = connection.info.transaction_status is TransactionStatus.INTRANS or not connection.autocommit
    if undone:
        cursor.execute("SAVEPOINT explained")
    cursor.execute(f"PREPARE explained{types} AS ".encode() + query.query)
    explain: Composable = SQL("EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) EXECUTE explained")
    if values:
        explain = SQL("{}({})").format(explain, SQL(", ").join(map(Literal, values)))
    [(found,)] = psycopg.ClientCursor(connection).execute(explain).fetchall()
    if undone:
        cursor.execute("ROLLBACK TO explained")
    cursor.execute("DEALLOCATE explained")
    plans = json.loads(found) if isinstance(found, str) else found
    return Explained(statement, _nodes(plans[0]["Plan"]))


def _type(cursor: psycopg.Cursor[Any], oid: int) -> str:
    [(name,)] = cursor.execute("SELECT format_type(%s::oid, NULL)", [oid]).fetchall()
    return "unknown" if not oid else str(name)


def _nodes(plan: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", ()) for node in _nodes(child))]
