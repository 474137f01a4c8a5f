"""
Tests with payloads that other projects document, and with what their documentation says becomes of them.

What is from there are facts: which keys there are, of which types their values are, and what is said to happen. Names,
texts and numbers are others. Hints are left out, except where they are the point.
"""

from __future__ import annotations

from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from tests.devices.rules.cases import NOW, Case, push
from txapns.devices import App, Device, Severity

__all__ = ["DocumentationTests"]


@attrs.frozen
class Documented:
    """
    What a project documents.

    :ivar where: the project, and the page.
    :ivar fact: what it says, in short.
    :ivar case: the push.
    :ivar codes: what is found: errors, warnings, and the hints that are the point.
    """

    where: str
    fact: str
    case: Case
    codes: set[str]

    def found(self) -> set[str]:
        """What is found of that, and all errors and warnings."""
        return {
            each.code for each in self.case.findings() if each.severity is not Severity.HINT or each.code in self.codes
        }


def documented(where: str, fact: str, case: Case, *codes: str) -> Documented:
    """Describe what is documented."""
    return Documented(where, fact, case, set(codes))


def alert(own: dict[str, Any] | None = None, headers: dict[str, str | None] | None = None, **aps: Any) -> Case:
    """Make an alert of keys of ``aps`` and others beside it."""
    return push("alert", {"aps": _keys(aps), **(own or {})}, headers)


def background(own: dict[str, Any] | None = None, headers: dict[str, str | None] | None = None, **aps: Any) -> Case:
    """Likewise, a background push."""
    return push("background", {"aps": _keys(aps), **(own or {})}, headers)


def activity(**aps: Any) -> Case:
    """Likewise, a push to a Live Activity, which is current."""
    return push("liveactivity", {"aps": {"timestamp": NOW, **_keys(aps)}}, now=NOW)


def bare(payload: dict[str, Any]) -> Case:
    """Make a push of which only the payload is documented."""
    headers: dict[str, str | None] = dict.fromkeys(("apns-push-type", "apns-topic", "apns-priority"))
    return push("alert", payload, headers)


def _keys(aps: dict[str, Any]) -> dict[str, Any]:
    return {key.replace("_", "-"): value for key, value in aps.items()}


SOUND = {"sound": "default"}
GAME = {"attributes_type": "GameAttributes", "attributes": {"home": "Ajax"}}

DOCUMENTED = [
    # Clients of APNs.
    documented(
        "node-apn: README",
        "an alert as a text, with a badge, a sound file and own keys beside aps, is shown",
        alert({"from": "Ann"}, {"apns-expiration": str(NOW)}, alert="You have mail", badge=2, sound="bell.aiff"),
    ),
    documented(
        "node-apn: notification, rawPayload",
        "a payload with content-available alone may be sent as it is; then it is a background push",
        background({"from": "Ann", "source": "web"}, content_available=1),
    ),
    documented(
        "node-apn: notification, priority",
        "priority 10 for a push that has only content-available is an error",
        background(None, {"apns-priority": "10"}, content_available=1),
        "BACKGROUND_PRIORITY",
    ),
    documented(
        "node-apn: notification, expiry",
        "an expiry of 0 means that it is not kept for later",
        alert(None, {"apns-expiration": "0"}, alert="You have mail", **SOUND),
        "EXPIRATION_ZERO",
    ),
    documented(
        "node-apn: notification, urlArgs",
        "pushes to Safari have a title, an action and url-args, and a topic that begins with web",
        alert(
            None,
            {"apns-topic": "web.com.example"},
            alert={"title": "Mail", "body": "One", "action": "Read"},
            url_args=["1"],
        ),
    ),
    documented(
        "node-apn: notification, mdm",
        "the key mdm is for managed devices and stands beside no aps",
        push("mdm", {"mdm": "5A2C"}, {"apns-topic": "com.apple.mgmt.External.1234"}),
    ),
    documented(
        "aioapns: README",
        "a badge as a text; Apple's table demands a number",
        alert(alert="Hello", badge="1"),
        "BADGE_TYPE",
    ),
    documented(
        "apns2 for Node: README, basic",
        "a message with a badge, and own data beside aps, is shown",
        alert({"user": "ann"}, alert="Hello", badge=4),
    ),
    documented(
        "apns2 for Node: README, silent", "only content-available, nothing else", background(content_available=1)
    ),
    documented(
        "sideshow/apns2: pull request 62",
        "thread-id is a key of aps; the header field that earlier versions sent did nothing",
        alert(None, {"thread-id": "mail"}, alert="Hello"),
        "KEY_AS_HEADER",
    ),
    documented(
        "APNSwift: README",
        "title, subtitle, body, badge, and a sound in a wav file",
        alert(alert={"title": "Hi", "subtitle": "you", "body": "there"}, badge=1, sound="cow.wav"),
    ),
    documented(
        "APNSwift: README, own data",
        "own data is an array beside aps",
        alert({"acme": ["bang", "whizz"]}, alert={"title": "Hi", "body": "there"}),
    ),
    documented("dotAPNS: README, basic", "a title and a body", alert(alert={"title": "Chess", "body": "Your move"})),
    documented(
        "dotAPNS: README, own fields",
        "a field may be put at the root, where thread-id does not group anything",
        alert({"thread-id": "12"}, alert={"title": "Chess", "body": "Your move"}),
        "KEY_OUTSIDE_APS",
    ),
    documented(
        "dotAPNS: README, own fields in aps",
        "or into aps, where it does",
        alert(alert={"title": "Chess", "body": "Your move"}, thread_id="12"),
    ),
    documented(
        "dotAPNS: README, BundleId",
        "the bundle ID is given without .voip, since the library adds it",
        push("voip", {"call": 1}, {"apns-topic": "com.example.app.voip.voip"}),
        "TOPIC_DOUBLE_SUFFIX",
    ),
    documented("pushok: README", "an alert with nothing but a title", alert(alert={"title": "Hello"}), "ALERT_NO_BODY"),
    documented(
        "PyAPNs2: issue 70",
        "the topic of VoIP pushes is the bundle ID with .voip",
        push("voip", {"call": 1}, {"apns-topic": "com.example.app"}),
        "TOPIC_TYPE",
    ),
    documented(
        "rapns: README, expiry",
        "an expiry is a number of seconds from now, as a day; HTTP/2 takes a date",
        alert(None, {"apns-expiration": "86400"}, alert="Hello", sound="1.aiff"),
        "EXPIRATION_UNIT",
    ),
    documented(
        "rapns: README, attributes_for_device",
        "own keys may have nil as their value",
        alert({"question": None, "answer": 43}, alert="Hello", badge=1, sound="1.aiff"),
        "NULL_VALUE",
    ),
    # Servers and services.
    documented(
        "gorush: README, alert payload",
        "a title, a body and action-loc-key, with a badge",
        alert(alert={"title": "Chess", "body": "Ann wants to play", "action-loc-key": "PLAY"}, badge=5),
    ),
    documented(
        "gorush: README, sound payload",
        "a volume of 2; Apple's table ends at 1",
        alert(alert="Fire", sound={"critical": 1, "name": "default", "volume": 2.0}),
        "CRITICAL_VOLUME",
    ),
    documented(
        "gorush: README, critical alert",
        "critical is 1, and the volume between 0 and 1",
        alert(alert="Fire", badge=9, sound={"critical": 1, "name": "default", "volume": 1.0}),
    ),
    documented(
        "Firebase: reference, CriticalSound",
        "critical is a boolean in the library, which writes a number; as it stands it is none",
        alert(alert={"title": "Fire", "body": "Leave"}, sound={"critical": True, "name": "default"}),
        "CRITICAL_NOT_1",
    ),
    documented(
        "Firebase: reference, Aps",
        "contentAvailable and threadId are names in the library; on the wire they have hyphens",
        alert(alert="Hello", threadId="mail", contentAvailable=True),
        "KEY_SPELLING",
    ),
    documented(
        "Firebase: message with apns",
        "a whole message has headers and payload under apns; sent to Apple as it is, it does nothing",
        bare({"apns": {"headers": {"apns-priority": "5"}, "payload": {"aps": {"alert": "Hello"}}}}),
        "APS_MISSING",
        "HEADER_IN_PAYLOAD",
    ),
    documented(
        "Amazon Pinpoint: rawContent, silent",
        "a silent push must not have alert, badge or sound",
        background(content_available=1, badge=1),
        "BACKGROUND_VISIBLE",
    ),
    documented(
        "Amazon Pinpoint: rawContent, standard",
        "content-available is 0 for a standard notification",
        alert(alert="Hello", content_available=0, **SOUND),
    ),
    documented(
        "Amazon Pinpoint: apnsPushType",
        "alert, background, complication, fileprovider, mdm and voip are the types; others are refused",
        push("silent", {"aps": {"content-available": 1}}),
        "TYPE_UNKNOWN",
    ),
    documented(
        "Azure Notification Hubs: AppleCriticalSound",
        "critical is 1, and the volume between 0 and 1",
        alert(alert={"title": "Fire", "body": "Leave"}, sound={"critical": 1, "name": "siren.caf", "volume": 0.5}),
    ),
    documented(
        "SAP Mobile Services: APNs",
        "alertTitle and alertBody are names in its API; in aps nothing would be shown for them",
        bare({"aps": {"alertTitle": "Hello", "alertBody": "How are you?"}}),
        "KEY_UNKNOWN",
        "NOTHING_TO_SHOW",
    ),
    documented(
        "Emarsys: APNS payload",
        "mutable-content is for the extension, which adds a picture, and own data is beside aps",
        alert({"ems": {"id": 1}}, alert={"title": "Ciao", "body": "Ciao"}, mutable_content=1, **SOUND),
    ),
    documented(
        "OneSignal: update a Live Activity, dismissal_date",
        "a dismissal date is allowed only with the event end",
        activity(event="update", content_state={"score": 1}, dismissal_date=NOW + 60),
        "LA_DISMISS_EVENT",
    ),
    documented(
        "Braze: update a Live Activity",
        "the dismissal date is a text in ISO 8601 there; in Apple's payload dates are numbers",
        activity(event="update", content_state={"score": 1}, timestamp="2027-01-15T08:00:00Z"),
        "LA_TIMESTAMP",
    ),
    # Plugins for apps.
    documented(
        "phonegap-plugin-push: PAYLOAD, background notifications",
        "an alert with content-available is shown, and the app's handler is called",
        alert(alert="Hello", content_available=1),
        "ALERT_AND_SILENT",
    ),
    documented(
        "phonegap-plugin-push: PAYLOAD, silent",
        "own data inside aps with content-available; Apple wants it beside aps",
        background(content_available=1, data="news", moredata="more"),
        "KEY_UNKNOWN",
    ),
    documented(
        "notifee: remote notification support",
        "a category must have been created by the app, and a sound must be in its bundle",
        attrs.evolve(
            alert(alert={"title": "Chess", "body": "Your move"}, category="post", sound="kick.wav"),
            device=Device(app=App(categories=[], sounds={})),
        ),
        "CATEGORY_UNKNOWN",
        "SOUND_MISSING",
    ),
    documented(
        "airnativeextensions: iOS APNS payload",
        "a silent push with a sound without a name",
        background({"own": "value"}, content_available=1, sound=""),
        "BACKGROUND_VISIBLE",
    ),
    documented(
        "flutter_live_activities: push to start",
        "a start has an event, a state, attributes and their type, and an alert",
        activity(event="start", content_state={"score": 0}, alert={"title": "Kick-off", "body": "Ajax"}, **GAME),
    ),
    documented(
        "LoopFollow: push to start",
        "the end of a Live Activity needs no content state, and may be dismissed at once",
        activity(event="end", dismissal_date=NOW - 1),
    ),
]


class DocumentationTests(SynchronousTestCase):
    """What is documented elsewhere."""

    def test_found(self) -> None:
        """In each payload just that is found which its documentation speaks of."""
        for each in DOCUMENTED:
            self.assertEqual(each.found(), each.codes, f"{each.where}: {each.fact}")

    def test_count(self) -> None:
        """There are forty, of many projects."""
        self.assertEqual(len({(each.where, each.fact) for each in DOCUMENTED}), 40)
        self.assertGreaterEqual(len({each.where.partition(":")[0] for each in DOCUMENTED}), 20)
