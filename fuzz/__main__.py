"""
Search for bytes that make a check raise: ``python -m fuzz [--seconds N] [NAME …]``.

Each harness runs in its own process. Its progress is kept in ``.fuzz/``, where the next run continues. Input that makes
a check raise is written to ``fuzz/corpus/``, and the traceback to the terminal.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import fuzz

__all__ = ["main"]

_LEARNT = Path(".fuzz")
#: The largest input, in bytes. Larger request bodies are bounded elsewhere, and faults do not depend on them.
_LONGEST = 8_192


def main() -> int:
    """Run the harnesses; the exit status is 1 if a check raised."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="duration of each harness")
    parser.add_argument("--one", metavar="NAME", help=argparse.SUPPRESS)
    parser.add_argument("names", metavar="NAME", nargs="*", help=", ".join(fuzz.NAMES))
    given = parser.parse_args()
    if given.one:
        _fuzz(given.one, given.seconds)
        return 0
    unknown = set(given.names) - set(fuzz.NAMES)
    if unknown:
        parser.error(f"unknown harness: {', '.join(sorted(unknown))}")
    failed = []
    for name in given.names or fuzz.NAMES:
        command = [sys.executable, "-m", "fuzz", "--seconds", str(given.seconds), "--one", name]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        last = [line for line in done.stderr.splitlines() if line.startswith(("Done", "#"))][-1:]
        print(f"{name}: {'RAISED' if done.returncode else 'held'}; {''.join(last).strip()}", flush=True)
        if done.returncode:
            print(done.stdout, done.stderr[-10_000:], flush=True)
            failed.append(name)
    if failed:
        print(f"the input that made a check raise is in {fuzz.CORPUS}: {', '.join(failed)}")
    return bool(failed)


def _fuzz(name: str, seconds: int) -> None:
    import atheris

    with atheris.instrument_imports(include=["txapns"]):
        harness = fuzz.load(name)
    learnt, corpus = _LEARNT / name, fuzz.CORPUS / name
    learnt.mkdir(parents=True, exist_ok=True)
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(harness.SEEDS):
        (learnt / f"seed-{number}").write_bytes(seed)
    limits = [f"-max_total_time={seconds}", f"-max_len={_LONGEST}", "-timeout=10", "-rss_limit_mb=2048"]
    atheris.Setup(["fuzz", str(learnt), str(corpus), *limits, f"-artifact_prefix={corpus}/"], harness.check)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
