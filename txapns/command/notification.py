"""The options that say what to send: the parts of a payload or the whole, and the header fields."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import IO, Any

import attrs
import click

from txapns._texts import utf8
from txapns.command.options import gather
from txapns.command.streams import InputFile, content_of, naming
from txapns.notification import Notification

__all__ = ["NotificationOptions", "notification_options"]

#: The options that each set one key of the payload.
_KEYS = ("badge", "sound", "category", "thread_id", "interruption_level", "content_available", "mutable_content")
_TEXTS = ("title", "subtitle", "body")


@attrs.frozen
class NotificationOptions:
    """The options that say what to send, as they were given."""

    topic: str | None
    alert: str | None
    title: str | None
    subtitle: str | None
    body: str | None
    badge: int | None
    sound: str | None
    category: str | None
    thread_id: str | None
    interruption_level: str | None
    content_available: bool
    mutable_content: bool
    data: dict[str, object]
    payload: IO[bytes] | None
    push_type: str | None
    priority: int | None
    expiration: int | None
    collapse_id: str | None

    def notification(self) -> Notification:
        """
        Make the notification.

        :raises click.UsageError: there is nothing to send, or options exclude each other.
        :raises LocalError: no request can carry it; a message about the payload names its file.
        """
        fields: dict[str, Any] = {
            "topic": self.topic,
            "push_type": self.push_type,
            "priority": self.priority,
            # 0 is Apple's word for "try once", not a time from now.
            "expiration": timedelta(seconds=self.expiration) if self.expiration else self.expiration,
            "collapse_id": self.collapse_id,
        }
        given = [name for name in ("alert", *_TEXTS, *_KEYS, "data") if self._given(name)]
        if self.payload is None:
            if not given:
                raise click.UsageError("Give --payload, or what to send: --title, --body, --badge and so on.")
            return Notification(**self._keywords(), **fields)
        if given:
            raise click.UsageError(f"--payload is the whole payload, so it excludes --{given[0].replace('_', '-')}.")
        content = utf8(content_of(self.payload))
        Notification(payload={}, **fields)  # so that an error of these is not taken for one of the file
        with naming(self.payload):
            return Notification(payload=content, **fields)

    def _given(self, name: str) -> bool:
        value = getattr(self, name)
        return value is not None and value is not False and value != {}

    def _keywords(self) -> dict[str, Any]:
        """Make the keywords of :func:`txapns.payload.aps`."""
        texts = {name: getattr(self, name) for name in _TEXTS if self._given(name)}
        if texts and self.alert is not None:
            raise click.UsageError("--alert is the whole text; beside --title and --subtitle, give --body.")
        return {"alert": texts or self.alert, "extra": self.data, **{name: getattr(self, name) for name in _KEYS}}


def _data(context: click.Context, parameter: click.Parameter, given: Sequence[str]) -> dict[str, object]:
    """Read the app's own keys: ``KEY=TEXT``, or ``KEY:=JSON``."""
    data: dict[str, object] = {}
    for each in given:
        key, equals, text = each.partition("=")
        name = key.removesuffix(":")
        if not (name and equals):
            raise click.BadParameter(f"{each!r} is not KEY=TEXT or KEY:=JSON")
        if name == "aps":
            raise click.BadParameter("aps is not the app's own key; its keys have options, or give --payload")
        try:
            data[name] = text if name == key else json.loads(text)
        except ValueError as error:
            raise click.BadParameter(f"what follows {name}:= is not JSON: {error}") from None
    return data


def notification_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say what to send, as one argument ``content``."""
    options = (
        click.option("--topic", help="The app's bundle ID; not needed with the certificate of one app."),
        click.option("--alert", metavar="TEXT", help="The text to show, if there is neither title nor subtitle."),
        click.option("--title", metavar="TEXT", help="The first line."),
        click.option("--subtitle", metavar="TEXT", help="The second line."),
        click.option("--body", metavar="TEXT", help="The text below the title."),
        click.option("--badge", type=int, metavar="N", help="The number on the app's icon; 0 removes it."),
        click.option("--sound", metavar="NAME", help="A sound file in the app, or default."),
        click.option("--category", help="The category, which determines the buttons."),
        click.option("--thread-id", help="Groups notifications with the same ID."),
        click.option("--interruption-level", metavar="LEVEL", help="passive, active, time-sensitive or critical."),
        click.option("--content-available", is_flag=True, help="Wake the app in the background."),
        click.option("--mutable-content", is_flag=True, help="Let the app's extension change it before it is shown."),
        click.option(
            "--data",
            multiple=True,
            callback=_data,
            metavar="KEY=TEXT",
            help="A key of the app's own; KEY:=JSON for a value that is not a text. May be repeated.",
        ),
        click.option("--payload", type=InputFile(), metavar="FILE", help="The whole payload, JSON."),
        click.option("--push-type", help="alert, background, voip and so on; left out, it is derived."),
        click.option(
            "--priority", type=int, metavar="N", help="10: at once; 5: considerate of the device's battery; 1: low."
        ),
        click.option(
            "--expiration",
            type=click.IntRange(0, 2**31 - 1),
            metavar="SECONDS",
            help="How long APNs keeps it and tries again; 0 for a single attempt.",
        ),
        click.option("--collapse-id", help="It replaces an earlier notification with the same ID."),
    )
    return gather(NotificationOptions, "content", options, command)
