"""Tests for :mod:`txapns.command.lint`."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from pathlib import Path
from typing import Any

from click.testing import Result
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.checks import invoke
from txapns.command.lint import pushes_in
from txapns.devices import Push
from txapns.notification import Notification

__all__ = ["LintTests", "PushesTests"]

GOOD = '{"aps": {"alert": {"title": "Chess", "body": "Your move"}, "sound": "default"}, "game": 7}'
BAD = '{"aps": {"alert": {"title": "Chess", "body": "Your move"}, "sound": "default", "badge": "3"}}'
FIELDS = {"apns-push-type": "alert", "apns-topic": "com.example.app"}


class PushesTests(SynchronousTestCase):
    """What is read from a file."""

    def pushes(self, text: str, **given: str) -> list[tuple[str, Push]]:
        """Read pushes."""
        return list(pushes_in(text.encode(), **given))

    def test_payload(self) -> None:
        """A payload is taken as it stands, and nothing is known of its header fields unless they are given."""
        self.assertEqual(self.pushes(GOOD), [("", Push({}, GOOD.encode()))])
        self.assertEqual(self.pushes("\ufeff" + GOOD), [("", Push({}, GOOD.encode()))])
        pretty = json.dumps(json.loads(GOOD), indent=2)
        self.assertEqual(self.pushes(pretty), [("", Push({}, pretty.encode()))])
        given = self.pushes(GOOD, push_type="alert", topic="com.example.app")
        self.assertEqual(given, [("", Push(FIELDS, GOOD.encode()))])

    def test_broken(self) -> None:
        """A broken line is one push of several; a broken payload is one push, whatever its lines are."""
        places = [place for place, _ in self.pushes(f'{{"aps":\n{GOOD}\n{BAD}\n')]
        self.assertEqual(places, [":1", ":2", ":3"])
        text = '{"aps": {"alert": "Hello"},\n"games": [\n{"number": 1},\n{"number": 2}\n}'
        self.assertEqual(self.pushes(text), [("", Push({}, text.encode()))])

    def test_as_sent(self) -> None:
        """With an option the other header fields are those that txapns would send."""
        silent = '{"aps": {"content-available": 1}}'
        ((_, push),) = self.pushes(silent, topic="com.example.app")
        background = Notification.background(topic="com.example.app").headers()
        self.assertEqual(push.headers, {name.decode(): value.decode() for name, value in background})
        ((_, push),) = self.pushes("{]", push_type="background", topic="a\nb")
        self.assertEqual((push.push_type, push.payload), ("background", b"{]"))

    def test_target(self) -> None:
        """The key of Xcode's simulator is no part of the payload, and its bundle ID is the topic."""
        text = json.dumps({"Simulator Target Bundle": "com.example.app", **json.loads(GOOD)})
        ((_, push),) = self.pushes(text)
        self.assertEqual((push.headers, push.content), (FIELDS, json.loads(GOOD)))
        ((_, push),) = self.pushes(text, push_type="voip")
        self.assertEqual(push.topic, "com.example.app.voip")

    def test_lines(self) -> None:
        """Lines are pushes or payloads, and what the options say is for those that do not say it."""
        encoded = {"headers": FIELDS, "payload": None, "payload_base64": b64encode(b"\xff{").decode(), "token": "aa11"}
        lines = [
            json.dumps({"headers": {"APNS-Priority": 5}, "payload": {"aps": {"badge": 1}}}),
            "",
            json.dumps(encoded),
            json.dumps({"headers": {}, "payload": GOOD, "channel": "Y2g="}),
            GOOD,
            "junk",
            json.dumps({"headers": {}, "payload_base64": "?"}),
        ]
        found = dict(self.pushes("\r\n".join(lines), push_type="alert", topic="com.example.app"))
        self.assertEqual(
            found,
            {
                ":1": Push({**FIELDS, "apns-priority": "5"}, b'{"aps":{"badge":1}}'),
                ":3": Push(FIELDS, b"\xff{", "aa11"),
                ":4": Push(FIELDS, GOOD.encode(), "", "Y2g="),
                ":5": Push(FIELDS, GOOD.encode()),
                ":6": Push(FIELDS, b"junk"),
                ":7": Push(FIELDS, b"?"),
            },
        )

    @given(st.binary() | st.lists(st.sampled_from([GOOD, '{"headers":{},"payload":1}', "[]", "{"])).map("\n".join))
    def test_anything(self, content: bytes | str) -> None:
        """Anything can be read, and is at least one push."""
        octets = content if isinstance(content, bytes) else content.encode()
        for options in ({}, {"push_type": "voip", "topic": "a"}):
            self.assertTrue(list(pushes_in(octets, **options)))


class LintTests(SynchronousTestCase):
    """``txapns lint``."""

    def file(self, text: str) -> str:
        """Write a file."""
        path = Path(self.mktemp())
        path.write_text(text)
        return str(path)

    def lint(self, *arguments: str, status: int, stdin: str = "") -> Result:
        """Run the command."""
        result = invoke("lint", *arguments, input=stdin)
        self.assertEqual(result.exit_code, status, result.output)
        return result

    def objects(self, *arguments: str, status: int, stdin: str = "") -> list[dict[str, Any]]:
        """Run the command for JSON."""
        output = self.lint(*arguments, "--json", status=status, stdin=stdin).stdout
        return [json.loads(line) for line in output.splitlines()]

    def test_twice(self) -> None:
        """Standard input is not read twice: the second time it would be empty."""
        self.assertIn("read only once", self.lint("-", "-", status=2, stdin=GOOD).stderr)

    def test_good(self) -> None:
        """Nothing is said of what is right, but that it was looked at."""
        self.assertEqual(self.lint(self.file(GOOD), status=0).stdout, "0 errors, 0 warnings, 0 hints in 1 push\n")
        self.assertEqual(self.objects("-", status=0, stdin=GOOD), [{"source": "standard input", "findings": []}])

    def test_findings(self) -> None:
        """A finding names the file, the severity, the place, the rule and the source; something worse than a hint
        shows in the exit status.
        """
        good, bad = self.file(GOOD), self.file(BAD)
        line, summary = self.lint(good, bad, status=1).stdout.splitlines()
        start = f'{bad}: warning: aps.badge: A badge must be a number, not "3". [BADGE_TYPE; '
        self.assertEqual(line[: len(start)], start)
        self.assertEqual(summary, "0 errors, 1 warning, 0 hints in 2 pushes")
        first, second = self.objects(good, bad, status=1)
        self.assertEqual((first, second["source"]), ({"source": good, "findings": []}, bad))
        ((code, severity, path),) = ((each["code"], each["severity"], each["path"]) for each in second["findings"])
        self.assertEqual((code, severity, path), ("BADGE_TYPE", "warning", "aps.badge"))

    def test_hints(self) -> None:
        """A hint does not show in the exit status; what is not documented is told as what it is."""
        said = self.lint("-", status=0, stdin='{"aps": {"alert": {"title": "T", "body": "B"}}}').stdout
        self.assertIn("hint: ", said)
        self.assertIn("[NO_SOUND; reported: ", said)

    def test_lines(self) -> None:
        """Each line has a number."""
        sources = [each["source"] for each in self.objects("-", status=1, stdin=f"{GOOD}\n\n{BAD}\n")]
        self.assertEqual(sources, ["standard input:1", "standard input:3"])

    def test_options(self) -> None:
        """What the options say is linted, too."""
        said = self.lint("-", "--push-type", "voip", "--topic", "com.example.app", status=1, stdin=GOOD).stdout
        self.assertIn("error: apns-topic: ", said)
        self.assertIn("[TOPIC_TYPE; ", said)

    def test_now(self) -> None:
        """Dates are compared with the present."""
        aps = {"event": "update", "content-state": {}, "timestamp": int(time.time()) + 86_400}
        found = self.objects("-", "--push-type", "liveactivity", status=1, stdin=json.dumps({"aps": aps}))
        self.assertIn("LA_FUTURE", [finding["code"] for finding in found[0]["findings"]])

    def test_unusable(self) -> None:
        """A file that cannot be opened is named; one that is no payload is a finding."""
        self.assertIn("'nowhere': No such file", self.lint("nowhere", status=2).stderr)
        self.assertIn("Missing argument", self.lint(status=2).stderr)
        self.assertIn("PAYLOAD_NOT_JSON", self.lint("-", status=1, stdin="{]").stdout)
        self.assertIn("PAYLOAD_EMPTY", self.lint("-", status=1).stdout)
