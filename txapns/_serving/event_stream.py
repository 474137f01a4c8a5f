"""Server-sent events: a response that goes on for as long as the browser reads it."""

from __future__ import annotations

from collections.abc import Sequence

from txapns._serving.http import Request

__all__ = ["KIND", "EventStream"]

#: The content type of the response.
KIND = b"text/event-stream"


class EventStream:
    """
    The response to one browser. What is written while the browser does not read is left out.

    :param request: its request.
    :param headers: header fields of the response.
    """

    def __init__(self, request: Request, headers: Sequence[tuple[bytes, bytes]]) -> None:
        self._request = request
        request.begin_stream(KIND, headers)
        # If the connection breaks, the browser reconnects after this many milliseconds.
        self.write(b"retry: 5000\n\n")

    @property
    def blocked(self) -> float | None:
        """When the browser stopped reading, by the clock; ``None`` while it reads."""
        return self._request.blocked

    def write(self, data: bytes) -> None:
        """Send something, unless what was sent before has not been read yet."""
        if self.blocked is None:
            self._request.write_stream(data)

    def end(self) -> None:
        """End the response."""
        self._request.end_stream()

    def drop(self) -> None:
        """Close the connection, and discard what was not read."""
        self._request.drop()
