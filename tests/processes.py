"""Processes that tests start: they end with the test, and inherit neither its standard input nor what it ignores."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from itertools import count
from pathlib import Path
from typing import Any
from unittest import TestCase

__all__ = ["ForClass", "interruptible", "serve", "started"]


#: How long a process may take to end in good order, in seconds; on a busy machine that is long.
PATIENCE = 120


def interruptible() -> None:
    """Undo what a shell does to commands in the background, and they to their children: ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class ForClass:
    """
    Stands for a test where something is started for a whole class of them: it ends when the last of these has.

    :param case: the class.
    """

    def __init__(self, case: type[TestCase]) -> None:
        self.addCleanup = case.addClassCleanup
        self._directory = Path(tempfile.mkdtemp())
        self._numbers = count()
        self.addCleanup(shutil.rmtree, self._directory)

    def mktemp(self) -> str:
        """Find a name for a file or directory that is removed in the end."""
        return str(self._directory / str(next(self._numbers)))


def started(case: TestCase | ForClass, command: Sequence[str | Path], **options: Any) -> subprocess.Popen[Any]:
    """
    Start a process that ends with a test, whatever becomes of that.

    :param case: the test.
    :param command: what to run.
    :param options: as for ``Popen``; without ``stdin`` there is nothing to be read.
    :returns: the process.
    """
    process: subprocess.Popen[Any] = subprocess.Popen(
        command, **{"stdin": subprocess.DEVNULL, "preexec_fn": interruptible, **options}
    )

    def end() -> None:
        process.terminate()  # does nothing where it has ended
        process.send_signal(signal.SIGCONT)  # a test may have stopped it
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()

    case.addCleanup(end)
    return process


def serve(start: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """
    Run the reactor with what a coroutine starts, until the process is to end: at once where that fails, which is shown.

    Whoever waits for what the coroutine prints then reads the end of it, and does not wait for ever.
    """
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred
    from twisted.python.failure import Failure

    def failed(failure: Failure) -> None:
        failure.printTraceback(sys.stderr)
        reactor.stop()

    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(start()).addErrback(failed))
    reactor.run()
