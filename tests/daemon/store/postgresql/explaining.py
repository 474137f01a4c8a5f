"""How statements are executed: which plan PostgreSQL chooses for them, and how much they touch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import attrs
import psycopg
from psycopg._queries import PostgresQuery
from psycopg.adapt import Transformer
from psycopg.sql import SQL, Composable, Literal

__all__ = ["Explained", "explain"]


@attrs.frozen
class Explained:
    """
    One statement, as it was executed.

    :ivar milliseconds: how long the server took.
    :ivar nodes: the nodes of its plan, the topmost first.
    """

    statement: str
    milliseconds: float
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


def explain(connection: psycopg.Connection[Any], statement: str, parameters: Any) -> Explained:
    """
    Execute and explain a statement, as the connection plans one that is prepared.

    :param connection: in a transaction, and with no prepared statements of others.
    """
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
    cursor.execute("DEALLOCATE ALL")
    cursor.execute(f"PREPARE explained{types} AS ".encode() + query.query)
    explaining: Composable = SQL("EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) EXECUTE explained")
    if values:
        explaining = SQL("{}({})").format(explaining, SQL(", ").join(map(Literal, values)))
    [(found,)] = psycopg.ClientCursor(connection).execute(explaining).fetchall()
    plans = json.loads(found) if isinstance(found, str) else found
    return Explained(statement, plans[0]["Execution Time"], _nodes(plans[0]["Plan"]))


def _type(cursor: psycopg.Cursor[Any], oid: int) -> str:
    [(name,)] = cursor.execute("SELECT format_type(%s::oid, NULL)", [oid]).fetchall()
    return "unknown" if not oid else str(name)


def _nodes(plan: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", ()) for node in _nodes(child))]
