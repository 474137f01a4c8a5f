"""
A client of the simulator's control API, for tests in Python.

It is built on the standard library alone, so that tests of a program need nothing which the program does not have, and
opens a connection for each request: it is the same from any thread, event loop or forked process.

What the API returns is not wrapped: a notification is the dictionary that ``docs/simulator.rst`` describes, as clients
in other languages get it.
"""

from __future__ import annotations

import json
import secrets
import time
from http.client import HTTPConnection
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

__all__ = ["ControlRefused", "NotReceived", "SimulatedDevice", "SimulatorControl"]

_KEPT = 2_000  # as many as the simulator keeps
_LONGEST = 30.0  # for which one request waits, in seconds
_PATIENCE = 60.0  # with a simulator on a busy machine, in seconds


class NotReceived(AssertionError):
    """Fewer notifications came than a test waited for, so the test fails."""


class ControlRefused(Exception):
    """
    The simulator refused a request of the control API.

    :ivar status: the HTTP status.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"the simulator refused the request with status {status}: {message}")
        self.status = status


class SimulatorControl:
    """
    A simulator that runs somewhere on this machine.

    :param url: that of its page, as in ``"http://127.0.0.1:8025"``.

    :ivar url: the same.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def about(self) -> dict[str, Any]:
        """
        Describe it.

        :returns: the answer to ``GET /v1/simulator``: the topic, the ports, the authority to trust and so on.
        """
        found: dict[str, Any] = self.ask("GET", "/v1/simulator")
        return found

    def received(
        self, *, token: str | None = None, topic: str | None = None, push_type: str | None = None
    ) -> list[dict[str, Any]]:
        """
        Tell what came since it was last cleared, of which the latest 2,000 notifications are kept.

        :param token: the device token that they are for, in hexadecimal; left out, any. So with what follows.
        :param topic: the topic.
        :param push_type: the push type.
        :returns: the notifications, the oldest first.
        """
        wanted = _wanted(token, topic, push_type)
        found: list[dict[str, Any]] = []
        page = {"after": 0, "more": True}
        while page["more"]:
            page = self._get(wanted, after=page["after"], limit=_KEPT)
            found += page["received"]
        return found

    def wait(
        self,
        count: int = 1,
        *,
        timeout: float = 10.0,
        token: str | None = None,
        topic: str | None = None,
        push_type: str | None = None,
    ) -> list[dict[str, Any]]:
        """
        Wait until so many notifications have come since it was last cleared.

        :param count: how many.
        :param timeout: for how long, in seconds.
        :param token: as for :meth:`received`, like what follows.
        :returns: the first ``count`` of them.
        :raises NotReceived: fewer came.
        """
        wanted, deadline = _wanted(token, topic, push_type), time.monotonic() + timeout
        found: list[dict[str, Any]] = []
        after = 0
        while True:
            left = max(deadline - time.monotonic(), 0.0)
            limit, wait = min(count - len(found), _KEPT), f"{min(left, _LONGEST):.3f}"
            page = self._get(wanted, after=after, limit=limit, wait=wait)
            found += page["received"]
            after = page["after"]
            if len(found) >= count:
                return found
            if not left:
                raise NotReceived(f"{len(found)} of {count} notifications came within {timeout:g} s")

    def clear(self) -> None:
        """Forget what was received, and the answers that were to be given."""
        self.ask("DELETE", "/v1/received")
        self.ask("DELETE", "/v1/answers")

    def device(self, token: str | None = None) -> SimulatedDevice:
        """
        Have a device.

        :param token: its token, in hexadecimal; left out, a new one.
        :returns: the device.
        """
        return SimulatedDevice(self, token or secrets.token_hex(32))

    def answer(
        self, status: int | None = None, reason: str | None = None, *, token: str | None = None, **more: Any
    ) -> None:
        """
        Have pushes answered otherwise than Apple would.

        :param status: the HTTP status; left out, the answer is what it would have been.
        :param reason: the reason.
        :param token: only those for this token; left out, all.
        :param more: what else ``POST /v1/answers`` takes, such as ``error_packet``, ``times`` and ``delay``.
        """
        given = {"status": status, "reason": reason, "token": token, **more}
        self.ask("POST", "/v1/answers", {name: value for name, value in given.items() if value is not None})

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """
        Send a request of the control API.

        :param method: the method.
        :param path: the path, with the query if there is one.
        :param body: what to send as JSON; ``None`` for nothing.
        :returns: the answer, read as JSON.
        :raises ControlRefused: it is refused.
        :raises OSError: there is no such simulator, or it does not answer.
        """
        place = urlsplit(self.url)
        connection = HTTPConnection(place.hostname or "", place.port, timeout=_LONGEST + _PATIENCE)
        try:
            headers = {} if body is None else {"Content-Type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        if response.status >= 400:
            raise ControlRefused(response.status, _message(content))
        return json.loads(content) if content else None

    def _get(self, wanted: dict[str, str], **more: object) -> Any:
        return self.ask("GET", f"/v1/received?{urlencode({**wanted, **more})}")


class SimulatedDevice:
    """
    A device of a simulator, which may or may not have had a push yet.

    :ivar token: its token, in hexadecimal.
    """

    def __init__(self, simulator: SimulatorControl, token: str) -> None:
        self.token = token
        self._simulator = simulator
        self._path = f"/v1/devices/{quote(token, safe='')}"

    def received(self) -> list[dict[str, Any]]:
        """Tell what came for it; see :meth:`SimulatorControl.received`."""
        return self._simulator.received(token=self.token)

    def wait(self, count: int = 1, *, timeout: float = 10.0) -> list[dict[str, Any]]:
        """Wait until so many notifications have come for it; see :meth:`SimulatorControl.wait`."""
        return self._simulator.wait(count, timeout=timeout, token=self.token)

    def answer(self, status: int | None = None, reason: str | None = None, **more: Any) -> None:
        """Have pushes for it answered otherwise; see :meth:`SimulatorControl.answer`."""
        self._simulator.answer(status, reason, token=self.token, **more)

    def offline(self) -> None:
        """Take it off the network: what comes is stored for it, as far as Apple's servers do."""
        self.change(state="offline")

    def online(self) -> None:
        """Have it on the network: it gets what was stored."""
        self.change(state="online")

    def uninstall(self) -> None:
        """Remove the app from it: from now on the answer is 410, ``Unregistered``."""
        self.change(state="removed")

    def change(self, **fields: Any) -> Any:
        """
        Change it.

        :param fields: those of ``PUT /v1/devices/<token>``.
        :returns: the device as it is then, as a dictionary.
        """
        return self._simulator.ask("PUT", self._path, fields)

    def facts(self) -> Any:
        """
        Describe it.

        :returns: the answer to ``GET /v1/devices/<token>``, a dictionary.
        """
        return self._simulator.ask("GET", self._path)


def _wanted(token: str | None, topic: str | None, push_type: str | None) -> dict[str, str]:
    given = {"token": token, "topic": topic, "push_type": push_type}
    return {name: value for name, value in given.items() if value is not None}


def _message(content: bytes) -> str:
    """Find what the simulator says of an error."""
    try:
        return str(json.loads(content)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return repr(content[:200])
