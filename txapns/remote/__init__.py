"""
Clients of the daemon's HTTP API, blocking and on asyncio; they need the extra ``remote``::

    with DaemonClient("http://127.0.0.1:8080", app="chess", key_file="chess.key") as client:
        batch = client.send(Notification(alert="It is your turn."), tokens)

Notifications, tokens and outcomes are those of the clients that send directly, so a program moves from one to the other
by the line that makes its client. What differs is who waits: once ``submit`` returns, the notifications are on the
daemon's disk, and it goes on until each has an outcome.

**Nothing is sent twice.** Each request has an ``Idempotency-Key``. When no answer comes, or the daemon asks to wait
(``Retry-After``), the same request is sent again with the same key, to the next of its addresses if there are several:
nodes of a cluster. For how long is the caller's ``patience``.

Both clients share what they do: a generator, which yields requests and delays, and is driven by a client of ``httpx``,
of either kind.
"""

from txapns.remote.asking import DaemonOutcome, DeadDevice, RecordedOutcome
from txapns.remote.clients import AsyncDaemonClient, DaemonClient
from txapns.remote.sending import Submission

__all__ = ["AsyncDaemonClient", "DaemonClient", "DaemonOutcome", "DeadDevice", "RecordedOutcome", "Submission"]
