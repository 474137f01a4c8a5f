"""A front of the daemon that loses answers and asks to wait."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from unittest import TestCase

import attrs

__all__ = ["Front"]


@attrs.define
class Front:
    """
    An HTTP server in front of the daemon.

    :ivar daemon: the daemon's URL.
    :ivar faults: what to do to the next requests: ``"lose"`` the answer, or a status to answer with instead of asking.
    :ivar keys: the idempotency keys that came.
    """

    daemon: str
    faults: deque[Any] = attrs.Factory(deque)
    keys: list[str | None] = attrs.Factory(list)
    url: str = ""

    def start(self, case: TestCase) -> None:
        """Listen, until the test ends."""
        front = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                front.keys.append(self.headers["Idempotency-Key"])
                fault = front.faults.popleft() if front.faults else None
                if isinstance(fault, int):
                    self.answer(fault, b"busy", {"Retry-After": "1"})
                    return
                status, content = front.ask(self.path, body, dict(self.headers))
                if fault is None:
                    self.answer(status, content, {})

            def answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *arguments: Any) -> None:
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        case.addCleanup(thread.join)
        case.addCleanup(server.server_close)
        case.addCleanup(server.shutdown)
        self.url = f"http://127.0.0.1:{server.server_port}"

    def ask(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        """Pass a request on to the daemon."""
        kept = {name: value for name, value in headers.items() if name.lower() not in ("host", "connection")}
        request = urllib.request.Request(self.daemon + path, body, kept)
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()
