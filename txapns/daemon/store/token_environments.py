"""What both kinds of database have in common that store which environment device tokens are of."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

__all__ = ["APPS", "PruningRound"]

#: How many apps are looked at in one step of pruning.
APPS = 100


@attrs.define
class PruningRound:
    """
    Which apps the next step of pruning looks at.

    :ivar after: the app up to which the round has come; empty if it has not begun.
    """

    after: str = ""

    def stepped(self, result: tuple[Sequence[str], int]) -> int:
        """
        Note that a step is done.

        :param result: the apps that were looked at, and how many tokens were forgotten.
        :returns: what :meth:`ITokenEnvironments.prune` does.
        """
        apps, forgotten = result
        more = len(apps) == APPS
        self.after = apps[-1] if more else ""
        return forgotten + more
