"""Tests for :mod:`txapns.command.notification`."""

from __future__ import annotations

import json
from pathlib import Path

import click
from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from txapns.command.notification import NotificationOptions, notification_options
from txapns.command.streams import UNUSABLE, Command
from txapns.notification import Notification

__all__ = ["NotificationOptionsTests"]


@click.command(cls=Command)
@notification_options
def made(content: NotificationOptions) -> None:
    """Print the notification."""
    click.echo(json.dumps(content.notification().to_dict()))


class NotificationOptionsTests(SynchronousTestCase):
    """The options that say what to send."""

    def notification(self, *options: str) -> Notification:
        """Make a notification."""
        result = CliRunner().invoke(made, options)
        self.assertEqual(result.exit_code, 0, result.output)
        return Notification.from_dict(json.loads(result.output))

    def refused(self, *options: str) -> str:
        """Give options that cannot be used; returns what is said of them."""
        result = CliRunner().invoke(made, options)
        self.assertEqual(result.exit_code, UNUSABLE, result.output)
        return result.output

    def test_parts(self) -> None:
        """Each option sets one key, and the push type is derived."""
        self.assertEqual(
            self.notification(
                *("--title", "T", "--subtitle", "S", "--body", "B", "--badge", "0", "--sound", "default"),
                *("--category", "c", "--thread-id", "t", "--interruption-level", "passive", "--mutable-content"),
                *("--data", "game=4=7", "--data", "moves:=[1, null]", "--topic", "com.example.app"),
            ),
            Notification.alert(
                title="T",
                subtitle="S",
                body="B",
                badge=0,
                sound="default",
                category="c",
                thread_id="t",
                interruption_level="passive",
                mutable_content=True,
                extra={"game": "4=7", "moves": [1, None]},
                topic="com.example.app",
            ),
        )
        self.assertEqual(self.notification("--alert", "Hi"), Notification(alert="Hi"))
        self.assertEqual(self.notification("--content-available"), Notification.background())

    def test_whole_payload(self) -> None:
        """A payload is read from a file, and excludes the options for its parts."""
        path = Path(self.mktemp())
        path.write_text('\ufeff{"aps": {"alert": "Hi"}, "mine": 1}')
        given = self.notification("--payload", str(path), "--expiration", "0")
        payload = '{"aps": {"alert": "Hi"}, "mine": 1}'
        self.assertEqual(given, Notification(payload=payload, expiration=0))
        said = self.refused("--payload", str(path), "--thread-id", "t")
        self.assertIn("--payload is the whole payload, so it excludes --thread-id.", said)
        path.write_text("[]")
        self.assertIn(f"Error: {path}: the payload is JSON, but not an object", self.refused("--payload", str(path)))
        said = self.refused("--payload", str(path), "--topic", "a\nb")
        self.assertIn("Error: topic has a control character", said)

    def test_unusable(self) -> None:
        """What cannot be sent is said in the words of the options."""
        for options, words in (
            ((), "Give --payload, or what to send: --title, --body, --badge and so on."),
            (("--alert", "a", "--title", "t"), "beside --title and --subtitle, give --body"),
            (("--data", "game"), "'game' is not KEY=TEXT or KEY:=JSON"),
            (("--data", "=1"), "'=1' is not KEY=TEXT or KEY:=JSON"),
            (("--data", "game:={"), "what follows game:= is not JSON"),
            (("--data", "aps:={}"), "aps is not the app's own key"),
        ):
            self.assertIn(words, self.refused(*options))
