"""
What went wrong with one app, key or webhook, in words that everybody may read who looks after the daemon.
"""

from __future__ import annotations

from txapns.errors import APNSError

__all__ = ["in_words"]


def in_words(error: BaseException) -> str:
    """
    Say what went wrong.

    :param error: what was raised.
    :returns: its message, if it is one of ours; the message of any other may have a secret in it.
    """
    return str(error) if isinstance(error, APNSError) else f"{type(error).__name__}; the daemon's log has more of it"
