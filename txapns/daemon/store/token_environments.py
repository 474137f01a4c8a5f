"""What both kinds of database have in common that store which environment device tokens are of."""

from __future__ import annotations

__all__ = ["APPS"]

#: How many apps are looked at in one step of pruning.
APPS = 100
