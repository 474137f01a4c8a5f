"""
A program on asyncio that sends to a simulator in several ways, for :mod:`tests.aio.test_programs`.

Its argument is the runner; ``SIMULATOR`` is the simulator's state directory. It prints what came of each case, as JSON.
Each may take ten seconds, and so may its end.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import selectors
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.hanging import until_exit, watched
from txapns import Certificate, Gateway, Notification, Rejection
from txapns.aio import APNSClient, batch_of
from txapns.errors import ClientElsewhere

__all__ = ["CASES"]

STATE = Path(os.environ["SIMULATOR"])
READY = json.loads((STATE / "simulator.json").read_text())
GATEWAY = Gateway.http2("localhost", READY["http2"], trust_root=(STATE / "ca.pem").read_text())
CERTIFICATE = Certificate.from_pem((STATE / "client.pem").read_text())
HELLO = Notification(alert="Hello")
ALIVE, DEAD = "aa" * 32, "dd" * 32

Case = Callable[[], Coroutine[Any, Any, Any]]
Run = Callable[[Case], Any]


def endless(pulled: list[str]) -> Iterator[str]:
    """Generate tokens, and keep them."""
    for number in itertools.count():
        pulled.append(f"{number:064x}")
        yield pulled[-1]


async def nothing() -> None:
    """No notification."""


async def batch() -> list[Any]:
    """A batch with dead tokens."""
    async with APNSClient(CERTIFICATE, GATEWAY) as client:
        found = await client.send(HELLO, [DEAD if number % 10 == 0 else f"{number:064x}" for number in range(1_000)])
        return [found.accepted, sorted(found.failed) == list(range(0, 1_000, 10)), len(found.dead_tokens)]


async def one() -> list[Any]:
    """Single ones, in tasks."""
    async with APNSClient(CERTIFICATE, GATEWAY) as client:
        outcomes = await asyncio.gather(*(client.send_one(HELLO, token) for token in [ALIVE, DEAD] * 50))
        return [sum(isinstance(outcome, Rejection) for outcome in outcomes), len(outcomes)]


async def close() -> list[Any]:
    """A batch that is under way when the client is closed."""
    client = APNSClient(CERTIFICATE, GATEWAY)
    task = asyncio.create_task(client.send(HELLO, itertools.islice(endless([]), 20_000)))
    while client.status().in_flight == 0:
        await asyncio.sleep(0)
    await client.close()
    found = await task
    return [found.total, len(found.failed), len(found.uncertain)]


async def cancel() -> list[Any]:
    """A batch that is cancelled midway, and another after it."""
    async with APNSClient(CERTIFICATE, GATEWAY) as client:
        pulled: list[str] = []
        task = asyncio.create_task(client.send(HELLO, endless(pulled)))
        while len(pulled) < 3_000:
            await asyncio.sleep(0)
        task.cancel()
        found: Any = None
        try:
            await task
        except asyncio.CancelledError as cancelled:
            found = batch_of(cancelled)
        known = found.total == len(pulled) == found.accepted + len(found.uncertain)
        return [known, found.accepted > 0, (await client.send(HELLO, [ALIVE])).accepted]


async def leave() -> list[Any]:
    """The end of the loop, without close, with a batch under way."""
    client = APNSClient(CERTIFICATE, GATEWAY)
    task = asyncio.create_task(client.send(HELLO, endless([])))
    while client.status().in_flight == 0:
        await asyncio.sleep(0)
    LEFT.append((client, task))
    return [True]


CASES: dict[str, Case] = {"batch": batch, "one": one, "close": close, "cancel": cancel, "leave": leave}
LEFT: list[Any] = []


def with_asyncio(case: Case) -> Any:
    """``asyncio.run``."""
    return asyncio.run(case())


def with_uvloop(case: Case) -> Any:
    """uvloop's loop."""
    import uvloop

    return uvloop.run(case())


def with_select(case: Case) -> Any:
    """A loop on ``select``, as it is where there is nothing better."""
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    try:
        return loop.run_until_complete(case())
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def in_threads(case: Case) -> Any:
    """A loop in each of four threads."""
    with ThreadPoolExecutor(4) as executor:
        first, *others = executor.map(with_asyncio, [case] * 4)
    return first if all(other == first for other in others) else [first, *others]


def within_running(case: Case) -> Any:
    """A loop that runs already, to which code is handed piece by piece, as in a notebook."""
    [loop] = LOOPS
    return asyncio.run_coroutine_threadsafe(case(), loop).result()


def forked(case: Case) -> Any:
    """A child of a process that has used the client, which is told at once; then the parent goes on."""

    async def main() -> Any:
        async with APNSClient(CERTIFICATE, GATEWAY) as client:
            await client.send_one(HELLO, ALIVE)
            child = os.fork()
            if not child:
                os._exit(in_child(client))
            _, status = os.waitpid(child, 0)
            return [os.waitstatus_to_exitcode(status), (await client.send(HELLO, [ALIVE])).accepted, await case()]

    return asyncio.run(main())


def in_child(client: APNSClient) -> int:
    """Use what is the parent's, then something of one's own; returns the exit status."""
    asyncio._set_running_loop(None)
    try:
        asyncio.run(client.send(HELLO, [ALIVE]))
    except ClientElsewhere as error:
        return 0 if "another process" in str(error) and asyncio.run(one()) == [50, 100] else 2
    return 1


LOOPS: list[asyncio.AbstractEventLoop] = []
ENDED = asyncio.Event()
BEGUN = threading.Event()


async def notebook() -> None:
    """Keep a loop running."""
    LOOPS.append(asyncio.get_running_loop())
    BEGUN.set()
    await ENDED.wait()


RUNNERS: dict[str, Run] = {
    "asyncio": with_asyncio,
    "uvloop": with_uvloop,
    "select": with_select,
    "threads": in_threads,
    "running": within_running,
    "forked": forked,
}


def main(runner: str) -> None:
    """Run all cases; leave nothing behind."""
    # On a busy machine asyncio complains in its debug mode, and the last answers may take longer than a second.
    logging.disable(logging.WARNING)
    if runner == "uvloop":
        with_uvloop(nothing)  # libuv keeps a pipe for signals
    before = descriptors()
    thread = threading.Thread(target=lambda: asyncio.run(notebook()))
    if runner == "running":
        thread.start()
        BEGUN.wait()
    results = {}
    for name, case in CASES.items():
        with watched():
            results[name] = RUNNERS[runner](case)
    if runner == "running":
        LOOPS[0].call_soon_threadsafe(ENDED.set)
        thread.join()
    results["reactor"] = "twisted.internet.reactor" in sys.modules
    results["threads"] = threading.active_count()
    results["left"] = sorted(descriptors() - before)
    sys.stdout.write(json.dumps(results))
    until_exit()


def descriptors() -> set[str]:
    """Find the open descriptors, where the system tells."""
    directory = Path("/proc/self/fd")
    return {each.name for each in directory.iterdir() if each.exists()} if directory.exists() else set()


if __name__ == "__main__":
    main(sys.argv[1])
