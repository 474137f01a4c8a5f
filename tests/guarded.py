"""
Runs a command that ends with the process that started it, however that ends.

::

    python guarded.py UID DIRECTORY COMMAND...

Whoever starts this holds the other end of standard input. When that is closed, the command gets SIGQUIT; where nothing
was written to it before, as when its owner was killed, the directory is removed as well.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
import threading

__all__: list[str] = []

#: How long the command may take to end before it is killed, in seconds.
_PATIENCE = 60


def _main(user: str, directory: str, *command: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    identity = {"user": int(user), "group": int(user), "extra_groups": []} if int(user) else {}
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, **identity)
    threading.Thread(target=process.wait, daemon=True).start()  # so that none takes it for running when it has ended
    sys.stdout.write(f"{process.pid}\n")
    sys.stdout.close()
    keep = sys.stdin.buffer.read()
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGQUIT)
        process.send_signal(signal.SIGCONT)  # a test may have stopped it
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if not keep:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
