"""Which app of the daemon a Matrix app id means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import translate

from txapns.daemon.config.sections import MatrixAppSection

__all__ = ["AppIds"]

#: The longest app id that the specification allows, in characters.
_LONGEST = 64


class AppIds:
    """
    The app ids of the configuration.

    :param sections: the sections by app id, in which ``*`` stands for any characters and ``?`` for one. An app id that
        is written out comes first, then the longest pattern.
    """

    def __init__(self, sections: Mapping[str, MatrixAppSection]) -> None:
        self._exact = sections
        patterns = sorted((each for each in sections if "*" in each or "?" in each), key=len, reverse=True)
        self._patterns = [(_compiled(each), sections[each]) for each in patterns]

    def find(self, app_id: str) -> MatrixAppSection | None:
        """Find the section of an app id; ``None`` if there is none."""
        if len(app_id) > _LONGEST:
            return None
        exact = self._exact.get(app_id)
        if exact is not None:
            return exact
        return next((section for pattern, section in self._patterns if pattern.fullmatch(app_id)), None)


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern.replace("[", "[[]")))  # a set of characters is none of the patterns here
