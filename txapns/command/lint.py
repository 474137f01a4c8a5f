"""
``txapns lint``: what a device would ignore or Apple reject, found before anything is sent.

A file may hold

- a payload;
- a payload with ``Simulator Target Bundle``, as ``xcrun simctl push`` takes it, usually named ``.apns``. The bundle ID
  becomes the topic, and the payload is what remains without that key;
- pushes or payloads as JSON lines. A push is an object with ``headers`` and ``payload``, as the simulator tells what it
  received; ``payload_base64`` in place of the latter is for payloads that are not JSON, ``token`` and ``channel`` say
  whom it is for.

The command exits with

=  ======================================================================
0  nothing is worse than a hint
1  something is: Apple would reject a push, or a device ignore part of it
2  the command line cannot be used, or a file cannot be read
=  ======================================================================
"""

from __future__ import annotations

import binascii
import json
import time
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

import attrs
import click

from txapns._texts import utf8
from txapns.command.findings import print_findings, serious, tally
from txapns.command.options import json_option
from txapns.command.streams import Command, InputFile, content_of, echo, name_of
from txapns.devices import Finding, Push
from txapns.devices.push import SUFFIXES, json_object
from txapns.devices.rules import lint as lint_push
from txapns.errors import LocalError
from txapns.notification import Notification

__all__ = ["lint", "pushes_in"]

#: The key that Xcode's simulator needs, with the app's bundle ID.
TARGET = "Simulator Target Bundle"


@click.command(cls=Command)
@click.argument("files", type=InputFile(), nargs=-1, required=True, metavar="FILE…")
@click.option("--push-type", help="The push type of those that do not name one: alert, background, voip and so on.")
@click.option("--topic", help="The topic of those that do not name one.")
@json_option("Write JSON lines, one for each push.")
def lint(files: tuple[IO[bytes], ...], push_type: str | None, topic: str | None, as_json: bool) -> None:
    """
    Say what is wrong with payloads and pushes.

    Each finding says how it is known. A file holds a payload, or one with the key Simulator Target Bundle, or JSON
    lines of objects with headers and payload; - is standard input. The exit status is 0 if nothing is worse than a
    hint, 1 if something is, and 2 if a file cannot be read.
    """
    all_findings: list[Finding] = []
    count, now = 0, time.time()
    for file in files:
        for place, push in pushes_in(content_of(file), push_type, topic):
            findings = lint_push(push, now=now)
            print_findings(name_of(file) + place, findings, as_json)
            all_findings += findings
            count += 1
    if not as_json:
        echo(f"{tally(all_findings)} in {count} {'push' if count == 1 else 'pushes'}")
    raise SystemExit(1 if serious(all_findings) else 0)


def pushes_in(content: bytes, push_type: str | None = None, topic: str | None = None) -> Iterator[tuple[str, Push]]:
    """
    Read pushes.

    :param content: the content of a file.
    :param push_type: the push type of those that do not name one.
    :param topic: the topic of those that do not name one.
    :returns: each with its place in the file: a colon and the number of its line, or nothing for the only one.
    """
    text = utf8(content)
    given = _Given(push_type, topic)
    lines = [(number, line) for number, line in enumerate(text.split(b"\n"), 1) if line.strip()]
    if len(lines) > 1 and json_object(text) is None and _mostly_objects(lines):
        for number, line in lines:
            yield f":{number}", given.push(line.strip())
    else:
        yield "", given.push(text)


def _mostly_objects(lines: Sequence[tuple[int, bytes]]) -> bool:
    """Tell JSON lines, of which some may be broken, from a broken payload, a line of which may be an object."""
    return 2 * sum(json_object(line) is not None for _, line in lines) >= len(lines)


@attrs.frozen
class _Given:
    """What the command line says of pushes that do not say it themselves."""

    push_type: str | None
    topic: str | None

    def push(self, text: bytes) -> Push:
        """Make a push of an object, or of a payload."""
        content = json_object(text) or {}
        headers = content.get("headers")
        if "aps" not in content and isinstance(headers, dict) and not content.keys().isdisjoint(_PAYLOADS):
            return self._whole(headers, content)
        return self._bare(content, text)

    def _whole(self, headers: Mapping[str, Any], content: Mapping[str, Any]) -> Push:
        fields = _fields(self.push_type, self.topic) | {name.lower(): str(value) for name, value in headers.items()}
        token, channel = (str(content.get(name) or "") for name in ("token", "channel"))
        return Push(fields, _payload(content), token, channel)

    def _bare(self, content: Mapping[str, Any], payload: bytes) -> Push:
        """Make a push of a payload. Without any of the options nothing is known of its header fields."""
        topic, push_type = self.topic, self.push_type
        if isinstance(target := content.get(TARGET), str):
            payload = _written({key: value for key, value in content.items() if key != TARGET})
            topic = topic or target + SUFFIXES.get(push_type or "", "")
        if topic is None and push_type is None:
            return Push({}, payload)
        try:
            fields = Notification(payload=payload, topic=topic, push_type=push_type).headers()
        except LocalError:  # no request can carry it
            return Push(_fields(push_type, topic), payload)
        return Push({name.decode(): value.decode("latin-1") for name, value in fields}, payload)


def _fields(push_type: str | None, topic: str | None) -> dict[str, str]:
    given = {"apns-push-type": push_type, "apns-topic": topic}
    return {name: value for name, value in given.items() if value is not None}


#: Where the payload of a push is.
_PAYLOADS = ("payload", "payload_base64")


def _payload(content: Mapping[str, Any]) -> bytes:
    """Find the payload of a push."""
    encoded, payload = content.get("payload_base64"), content.get("payload")
    if encoded is not None:
        text = str(encoded).encode("utf-8", "replace")
        try:
            return b64decode(text, validate=True)
        except binascii.Error:
            return text  # which is not a JSON object, and so there is a finding
    return payload.encode("utf-8", "surrogatepass") if isinstance(payload, str) else _written(payload)


def _written(payload: object) -> bytes:
    """Write a payload as :mod:`txapns.payload` does."""
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
