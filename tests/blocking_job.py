"""
What each kind of program does with a blocking client: ``python -m tests.blocking_job HOST STATE``.

The job is a batch with a dead token, single notifications, a batch that Ctrl-C ends midway, and then either to close
the client or to exit without that. Each host does both, in the processes that it starts, where it starts some. Each of
these may take ten seconds.

It prints a line of JSON for each time that the job was done, and what should have been received in total. The hosts are
named in :data:`HOSTS`; frameworks of others import this module.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.hanging import until_exit, watched
from txapns import Accepted, Certificate, Gateway, Notification
from txapns.blocking import APNSClient, SendInterrupted
from txapns.errors import ClientClosed

__all__ = ["DEAD", "HELLO", "HOSTS", "Job", "client_of", "descriptors", "done", "exercise", "expected", "leave"]
__all__ += ["tokens"]

DEAD = "dd" * 32
HELLO = Notification(alert="Hello")
#: How many tokens a batch has that is interrupted, and after how many.
LONG, CUT = 20_000, 3_000

Job = dict[str, Any]


def tokens(count: int) -> Iterator[str]:
    """Generate device tokens, all different."""
    return (f"{number:064x}" for number in range(count))


def client_of(state: str | Path, **options: Any) -> APNSClient:
    """Make a client of the simulator with this state directory."""
    state = Path(state)
    ready = json.loads((state / "simulator.json").read_text())
    gateway = Gateway.http2("localhost", ready["http2"], trust_root=(state / "ca.pem").read_bytes())
    return APNSClient(Certificate.from_file(state / "client.pem"), gateway, **options)


def interrupt() -> None:
    """Press Ctrl-C, where that reaches this thread; elsewhere raise what it raises."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is (
        signal.default_int_handler
    ):
        os.kill(os.getpid(), signal.SIGINT)
    else:
        raise KeyboardInterrupt


def interrupted(client: APNSClient) -> tuple[int, int, int]:
    """Interrupt a batch; returns how many are known, how many of these left, and how many were pulled."""
    pulled = 0

    def rows() -> Iterator[str]:
        nonlocal pulled
        for token in tokens(LONG):
            if pulled == CUT:
                interrupt()
            pulled += 1
            yield token

    try:
        client.send(HELLO, rows())
    except SendInterrupted as error:
        batch = error.batch
        assert batch is not None
        return batch.total, batch.accepted + len(batch.uncertain), pulled
    raise AssertionError("nothing was interrupted")


def exercise(client: APNSClient) -> Job:
    """Do the job but for its end."""
    with watched():
        batch = client.send(HELLO, [*tokens(500), DEAD])
    with watched():
        alive, dead = client.send_one(HELLO, "aa" * 32), client.send_one(HELLO, DEAD)
    with watched():
        total, left, pulled = interrupted(client)
        after = client.send(HELLO, tokens(5))
    return {
        "batch": [batch.accepted, list(batch.failed), [token for token, _ in batch.dead_tokens]],
        "one": [isinstance(alive, Accepted), getattr(dead, "reason", "")],
        "interrupted": [total, pulled],
        "after": after.accepted,
        "received": 501 + 2 + left + 5,
    }


def expected() -> Job:
    """What the job gives in each host, without what depends on chance."""
    return {
        "batch": [500, [500], [DEAD]],
        "one": [True, "Unregistered"],
        "interrupted": [CUT, CUT],
        "after": 5,
        "received": 501 + 2 + 5,
    }


def descriptors() -> int:
    """Tell how many descriptors are open."""
    place = Path("/proc/self/fd")
    return len(list(place.iterdir())) if place.is_dir() else 0


def done(client: APNSClient, before: int) -> None:
    """Close the client: nothing may be left, and it may not be used."""
    with watched():
        client.close()
    others = set(threading.enumerate()) - {threading.current_thread()}  # where a pool's thread forked, it is a daemon
    assert not [thread for thread in others if thread.daemon], str(others)
    assert descriptors() <= before, (descriptors(), before)
    try:
        client.send_one(HELLO, DEAD)
    except ClientClosed:
        return
    raise AssertionError("it is not closed")


def report(job: Job) -> None:
    """Print what was done."""
    sys.stdout.write(json.dumps(job) + "\n")
    sys.stdout.flush()


def leave(state: str) -> None:
    """Use a client that nobody closes; it is referenced until the end."""
    client = client_of(state)
    report({"received": client.send(HELLO, tokens(10)).total})
    left(client)


def left(client: APNSClient) -> None:
    """Leave a client as it is until the exit."""
    _left.append(client)
    until_exit()


_left: list[APNSClient] = []


def whole(state: str, run: Callable[[APNSClient], None]) -> None:
    """Warm up, so that what is made only once is made; then do everything."""
    with client_of(state) as client:
        report({"received": client.send(HELLO, tokens(1)).total})
    before = descriptors()
    client = client_of(state)
    run(client)
    done(client, before)
    leave(state)


def in_main(state: str) -> None:
    """The main thread."""
    whole(state, lambda client: report(exercise(client)))


def in_threads(state: str) -> None:
    """Eight threads at once."""

    def run(client: APNSClient) -> None:
        with ThreadPoolExecutor(8) as pool:
            for job in pool.map(lambda _: exercise(client), range(8)):
                report(job)

    whole(state, run)


def in_child(state: str) -> None:
    """A child that was forked after the parent had used the client, and the parent again."""
    client = client_of(state)
    report({"received": client.send(HELLO, tokens(10)).total})
    child = os.fork()
    report(exercise(client))
    if child:
        _, status = os.waitpid(child, 0)
        assert status == 0, status
        report(exercise(client))
    before = descriptors()
    with watched():
        client.close()
    assert descriptors() < before
    leave(state)


def in_fork_pool(state: str) -> None:
    """The processes of a pool, forked after the parent had used the client; they inherit it."""
    global _inherited
    client = _inherited = client_of(state)
    report({"received": client.send(HELLO, tokens(10)).total})
    with multiprocessing.get_context("fork").Pool(2, maxtasksperchild=1) as pool:
        for job in pool.map(_with_inherited, [True, False] * 2, chunksize=1):
            report(job)
        pool.close()
        pool.join()
    report(exercise(client))
    left(client)


_inherited: APNSClient


def _with_inherited(close: bool) -> Job:
    return whole_process(_inherited, close)


def whole_process(client: APNSClient, close: bool) -> Job:
    """Do the job in a process that ends then."""
    before = descriptors()
    job = exercise(client)
    if close:
        done(client, before)
    else:
        left(client)
    return job


def in_spawn_pool(state: str) -> None:
    """The processes of a pool that were started anew; they get the client pickled."""
    client = client_of(state)
    with multiprocessing.get_context("spawn").Pool(2, maxtasksperchild=1) as pool:
        for job in pool.starmap(whole_process, [(client, True), (client, False)], chunksize=1):
            report(job)
        pool.close()
        pool.join()
    report(exercise(client))
    left(client)


def in_forkserver_pool(state: str) -> None:
    """The same with a server that forks them, and processes that do the job more than once."""
    client = client_of(state)
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("forkserver")) as pool:
        for job in pool.map(exercise, [client] * 4):
            report(job)


def beside_asyncio(state: str) -> None:
    """In a running event loop, as in a notebook, and in its threads."""

    async def main() -> None:
        with client_of(state) as client:
            report(exercise(client))
            report(await asyncio.get_running_loop().run_in_executor(None, exercise, client))

    asyncio.run(main(), debug=False)


def beside_twisted(state: str) -> None:
    """In threads of a program whose own reactor runs in the main thread."""
    from twisted.internet import reactor, threads
    from twisted.internet.interfaces import IReactorCore

    core = IReactorCore(reactor)

    def main(client: APNSClient) -> None:
        report(exercise(client))
        threads.blockingCallFromThread(reactor, lambda: None)  # it runs, and knows its own thread

    def end(result: Any) -> None:
        results.append(result)
        core.stop()

    results: list[Any] = []
    client = client_of(state)
    core.callWhenRunning(lambda: threads.deferToThread(main, client).addBoth(end))
    core.run()
    assert results == [None], results
    leave(state)


HOSTS: dict[str, Callable[[str], None]] = {
    "main": in_main,
    "threads": in_threads,
    "child": in_child,
    "fork-pool": in_fork_pool,
    "spawn-pool": in_spawn_pool,
    "forkserver-pool": in_forkserver_pool,
    "asyncio": beside_asyncio,
    "twisted": beside_twisted,
}

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    HOSTS[sys.argv[1]](sys.argv[2])
