"""For each rule a push in which it finds something, and one like it in which it does not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import attrs

from txapns.devices import (
    Activity,
    ActivityState,
    App,
    Capability,
    Credential,
    Device,
    Finding,
    Permission,
    Platform,
    Presentation,
    Push,
    Settings,
    Stored,
    TokenKind,
)
from txapns.devices.push import SUFFIXES
from txapns.devices.rules import lint

__all__ = ["CASES", "NOW", "Case", "activity", "alert", "background", "push", "start", "update"]

NOW = 1_800_000_000
TOKEN = "ab" * 32
CERTIFICATE = Credential(("com.example.app",), is_certificate=True)
LIST = Credential(("com.example.app", "com.example.other"), is_certificate=True, listed=True)
KEY = Credential(("com.example.app",))


@attrs.frozen
class Case:
    """A push, and what else the rules are told."""

    push: Push
    device: Device | None = None
    credential: Credential | None = None
    environment: str | None = None
    now: float | None = None

    def findings(self) -> list[Finding]:
        """Lint it."""
        return lint(self.push, self.device, self.credential, self.environment, now=self.now)

    def codes(self) -> set[str]:
        """The codes of what is found."""
        return {finding.code for finding in self.findings()}


def push(
    push_type: str = "alert",
    payload: Mapping[str, Any] | bytes | None = None,
    headers: Mapping[str, str | None] | None = None,
    token: str = "",
    channel: str = "",
    **more: Any,
) -> Case:
    """Make a case; a header field that is ``None`` is left out."""
    priority = "5" if push_type == "background" else "10"
    fields = {"apns-push-type": push_type, "apns-priority": priority}
    fields["apns-topic"] = "com.example.app" + SUFFIXES.get(push_type, "")
    kept = {name: value for name, value in {**fields, **(headers or {})}.items() if value is not None}
    body = payload if isinstance(payload, bytes) else json.dumps(payload if payload is not None else TEXT).encode()
    return Case(Push(kept, body, token, channel), **more)


def _aps(push_type: str, given: Mapping[str, Any], base: Mapping[str, Any]) -> Case:
    more = {key: value for key, value in given.items() if key in ("device", "now", "headers", "token", "channel")}
    aps = {**base, **{key.replace("_", "-"): value for key, value in given.items() if key not in more}}
    return push(push_type, {"aps": {key: value for key, value in aps.items() if value is not ...}}, **more)


def alert(**keys: Any) -> Case:
    """Make a case of an alert; keys of ``aps`` replace those of a faultless one, and ``...`` takes one out."""
    return _aps("alert", keys, TEXT["aps"])


def background(**keys: Any) -> Case:
    """Likewise for a background push."""
    return _aps("background", keys, {"content-available": 1})


def update(**keys: Any) -> Case:
    """Likewise for an update of a Live Activity."""
    return _aps("liveactivity", keys, {"event": "update", "timestamp": NOW, "content-state": {"score": 3}})


def start(**keys: Any) -> Case:
    """Likewise for the start of one."""
    attributes = {"attributes-type": "GameAttributes", "attributes": {"home": "Ajax"}, "alert": {"title": "Kick-off"}}
    state = {"event": "start", "timestamp": NOW, "content-state": {"score": 0}}
    return _aps("liveactivity", keys, {**state, **attributes})


def activity(**fields: Any) -> Activity:
    """Make a Live Activity."""
    values = {"kind": "GameAttributes", "started": NOW - 600, "timestamp": NOW - 60, "ends_at": NOW + 3_600, **fields}
    return Activity(1, **values)


def _app(**fields: Any) -> Device:
    return Device(app=App(**fields))


def _set(**fields: Any) -> Device:
    return Device(settings=Settings(**fields))


def _lacks(capability: Capability) -> Device:
    return _app(capabilities=set(Capability) - {capability})


def _broadcast(**headers: str | None) -> Case:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    fields = {"apns-expiration": "0", "apns-push-type": "LiveActivity", "apns-topic": None, **fields}
    channel = fields.pop("channel", None) or "Y2hhbm5lbA=="
    return push("liveactivity", {"aps": {"event": "end", "timestamp": NOW}}, fields, channel=channel)


TEXT: dict[str, Any] = {"aps": {"alert": {"title": "Chess", "body": "Your move"}, "sound": "default", "badge": 3}}
QUIET = {"aps": {"alert": {"title": "Chess", "body": "Your move"}}}
VOIP, WIDGETS = {"call": "4711"}, {"aps": {"content-changed": True}}
WAITS = Stored(Push({}, b"{}"), NOW - 60, NOW + 60)
SHOWN = Device(shown=(Presentation(identifier="game"),))
ENDED = activity(state=ActivityState.ENDED, dismissed_at=NOW + 60)
LEFT = activity(state=ActivityState.DISMISSED, dismissed_at=NOW - 1, token=TOKEN)
COLLAPSES = {"apns-collapse-id": "game"}

CASES: dict[str, tuple[Case, Case]] = {
    # The request.
    "APNS_ID": (
        push(headers={"apns-id": "4711"}),
        push(headers={"apns-id": "123E4567-e89b-12d3-a456-426655440000"}),
    ),
    "TOPIC_MISSING": (
        push(headers={"authorization": "bearer …", "apns-topic": None}),
        push(headers={"authorization": "bearer …"}),
    ),
    "TOPIC_NOT_LISTED": (push(headers={"apns-topic": "com.example.chess"}, credential=LIST), push(credential=LIST)),
    "TOPIC_NOT_SERVED": (push(headers={"apns-topic": "com.example.chess"}, credential=KEY), push(credential=KEY)),
    "LA_CERTIFICATE": (
        push("liveactivity", {"aps": {}}, credential=CERTIFICATE),
        push("liveactivity", {"aps": {}}, credential=KEY),
    ),
    "LOCATION_CERTIFICATE": (push("location", {}, credential=CERTIFICATE), push("location", {}, credential=KEY)),
    "TOPIC_FORM": (push(headers={"apns-topic": "com example"}), push()),
    "TOPIC_TYPE": (push("voip", VOIP, {"apns-topic": "com.example.app"}), push("voip", VOIP)),
    "TOPIC_SUFFIX": (push(headers={"apns-topic": "com.example.app.voip"}), push()),
    "TOPIC_DOUBLE_SUFFIX": (push("voip", VOIP, {"apns-topic": "com.example.app.voip.voip"}), push("voip", VOIP)),
    "TYPE_UNKNOWN": (push("Alert"), push()),
    "TYPE_MISSING": (push(headers={"apns-push-type": None}), Case(Push({}, b'{"aps":{"badge":1}}'))),
    "PRIORITY": (push(headers={"apns-priority": "7"}), push(headers={"apns-priority": "1"})),
    "BACKGROUND_PRIORITY": (background(headers={"apns-priority": None}), background()),
    "EXPIRATION": (push(headers={"apns-expiration": "1.5e9"}), push(headers={"apns-expiration": "1800000000"})),
    "EXPIRATION_UNIT": (push(headers={"apns-expiration": "3600"}), push(headers={"apns-expiration": "0"})),
    "EXPIRATION_PAST": (
        push(headers={"apns-expiration": str(NOW - 1)}, now=NOW),
        push(headers={"apns-expiration": str(NOW + 1)}, now=NOW),
    ),
    "EXPIRATION_ZERO": (push(headers={"apns-expiration": "0"}), push()),
    "COLLAPSE_ID": (push(headers={"apns-collapse-id": "x" * 65}), push(headers={"apns-collapse-id": "x" * 64})),
    "KEY_AS_HEADER": (push(headers={"thread-id": "game"}), alert(thread_id="game")),
    "TOKEN_MISSING": (push(headers={":path": "/3/device/"}), push()),
    "TOKEN_FORM": (push(token="<0badcafe>"), push(token=TOKEN)),
    "CHANNEL_FORM": (_broadcast(channel="channel!"), _broadcast()),
    "BROADCAST_TYPE": (_broadcast(apns_push_type=None), _broadcast()),
    "BROADCAST_OTHER_TYPE": (_broadcast(apns_push_type="alert"), _broadcast(apns_push_type="liveactivity")),
    "BROADCAST_EXPIRATION": (_broadcast(apns_expiration=None), _broadcast()),
    "BROADCAST_PRIORITY": (_broadcast(apns_priority=None), _broadcast()),
    "PAYLOAD_EMPTY": (push(payload=b""), push()),
    "PAYLOAD_TOO_LARGE": (alert(category="x" * 4_000), push("voip", {"x": "x" * 4_200})),
    "PAYLOAD_NOT_JSON": (push(payload=b"[1]"), push()),
    # Keys.
    "APS_MISSING": (push(payload={"game": 1}), push("voip", VOIP)),
    "APS_TYPE": (push(payload={"aps": "Your move"}), push()),
    "KEY_OUTSIDE_APS": (push(payload={"alert": "Your move", "aps": {"badge": 1}}), push()),
    "KEY_SPELLING": (alert(content_available=..., contentAvailable=1), alert(content_available=1)),
    "KEY_UNKNOWN": (alert(game=4711), push(payload={**TEXT, "game": 4711})),
    "HEADER_IN_PAYLOAD": (push(payload={**TEXT, "apns-priority": 5}), push(payload={**TEXT, "headers": {"x": 1}})),
    "NULL_VALUE": (push(payload={**TEXT, "game": {"board": [None]}}), push(payload={**TEXT, "game": "null"})),
    # What is seen and heard.
    "NOTHING_TO_SHOW": (push(payload={"aps": {"category": "game"}}), push(payload={"aps": {"badge": 0}})),
    "ALERT_EMPTY": (alert(alert={"title": ""}), alert()),
    "ALERT_TYPE": (alert(alert=["Your move"]), alert(alert="Your move")),
    "ALERT_NO_BODY": (alert(alert={"title": "Chess"}), alert(alert={"title": "Chess", "loc-key": "MOVE"})),
    "ALERT_NO_TITLE": (alert(alert="Your move"), alert()),
    "LOC_ARGS_TYPE": (
        alert(alert={"loc-key": "MOVE", "loc-args": '["Ann"]'}),
        alert(alert={"loc-key": "MOVE", "loc-args": ["Ann"]}),
    ),
    "LOC_ARGS_NULL": (
        start(alert={"title": {"loc-key": "MOVE", "loc-args": [None]}}),
        start(alert={"title": {"loc-key": "MOVE", "loc-args": ["null"]}}),
    ),
    "LOC_ARGS_ORPHAN": (
        alert(alert={"body": "Move", "title-loc-args": ["Ann"]}),
        alert(alert={"title-loc-key": "TURN", "title-loc-args": ["Ann"]}),
    ),
    "SUMMARY_ARG": (alert(alert={"body": "Move", "summary-arg": "Ann"}), alert()),
    "BADGE_TYPE": (alert(badge=True), alert(badge=0)),
    "BADGE_INCREMENT": (alert(badge="+1"), alert(badge=1)),
    "NO_SOUND": (push(payload=QUIET), push(payload={"aps": {"badge": 1}})),
    "SOUND_NO_EXT": (alert(sound="bell"), alert(sound="default")),
    "SOUND_FORMAT": (alert(sound={"name": "bell.mp3"}), alert(sound="bell.CAF")),
    "CRITICAL_NOT_1": (alert(sound={"critical": True}), alert(sound={"critical": 1})),
    "CRITICAL_VOLUME": (alert(sound={"critical": 1, "volume": 80}), alert(sound={"critical": 1, "volume": 0.8})),
    "LEVEL_UNKNOWN": (alert(interruption_level="timeSensitive"), alert(interruption_level="time-sensitive")),
    "LEVEL_PASSIVE_SOUND": (alert(interruption_level="passive"), alert(interruption_level="active")),
    "RELEVANCE_RANGE": (alert(relevance_score=75), update(relevance_score=75)),
    "MUTABLE_NO_TEXT": (alert(mutable_content=1, alert=...), alert(mutable_content=1)),
    "MUTABLE_NOT_1": (alert(mutable_content=True), alert(mutable_content=1)),
    # What the app has.
    "LOC_KEY_MISSING": (
        alert(alert={"loc-key": "MOVE"}, device=_app(strings={})),
        alert(alert={"loc-key": "MOVE"}, device=_app(strings={"MOVE": "Your move"})),
    ),
    "SOUND_MISSING": (
        alert(sound="bell.caf", device=_app(sounds={})),
        alert(sound="default", device=_app(sounds={})),
    ),
    "SOUND_LONG": (
        alert(sound="bell.caf", device=_app(sounds={"bell.caf": 30})),
        alert(sound="bell.caf", device=_app(sounds={"bell.caf": 29.9})),
    ),
    "CRITICAL_ENTITLEMENT": (
        alert(interruption_level="critical", device=_lacks(Capability.CRITICAL_ALERTS)),
        alert(interruption_level="critical", device=Device()),
    ),
    "LEVEL_TIME_SENSITIVE": (
        alert(interruption_level="time-sensitive", device=_lacks(Capability.TIME_SENSITIVE)),
        alert(interruption_level="time-sensitive", device=Device()),
    ),
    "CATEGORY_UNKNOWN": (
        alert(category="GAME", device=_app(categories=["CHAT"])),
        alert(category="GAME", device=Device()),
    ),
    "MUTABLE_NO_EXTENSION": (
        alert(mutable_content=1, device=_lacks(Capability.EXTENSION)),
        alert(mutable_content=1, device=Device()),
    ),
    # What wakes the app.
    "AVAILABLE_NOT_1": (background(content_available=True), background()),
    "ALERT_AND_SILENT": (alert(content_available=1), alert()),
    "SILENT_AS_ALERT": (push("alert", {"aps": {"content-available": 1}}), background()),
    "BACKGROUND_VISIBLE": (background(badge=1), background()),
    "BACKGROUND_NO_FLAG": (push("background", {"aps": {}}), background()),
    "BACKGROUND_RATE": (
        background(device=Device(background_pushes=(NOW - 3, NOW - 2, NOW - 1))),
        background(device=Device(background_pushes=(NOW - 2, NOW - 1))),
    ),
    "STYLES_OFF": (
        background(device=_set(banners=False, lock_screen=False, notification_center=False)),
        background(device=_set(banners=False, lock_screen=False)),
    ),
    "FORCE_QUIT": (background(device=Device(force_quit=True)), alert(device=Device(force_quit=True))),
    # Other push types.
    "VOIP_ALERT": (push("voip", TEXT), push("voip", VOIP)),
    "VOIP_REPORT": (push("voip", VOIP, device=_lacks(Capability.CALLS)), push("voip", VOIP, device=Device())),
    "PTT_HEADERS": (push("pushtotalk", {"aps": {}}), push("pushtotalk", {"aps": {}}, {"apns-expiration": "0"})),
    "PTT_NOT_JOINED": (
        push("pushtotalk", {"aps": {}}, device=Device(joined=False)),
        push("pushtotalk", {"aps": {}}, device=Device()),
    ),
    "LOCATION_BUDGET": (
        push("location", {}, device=Device(location_pushes=(NOW,) * 360)),
        push("location", {}, device=Device(location_pushes=(NOW,) * 359)),
    ),
    "FILEPROVIDER_CONTAINER": (push("fileprovider", {}), push("fileprovider", {"container-identifier": "root"})),
    "WIDGET_CHANGED": (push("widgets", {"aps": {"content-changed": 1}}), push("widgets", WIDGETS)),
    "WIDGET_OS": (
        push("widgets", WIDGETS, device=Device(version=(18, 6))),
        push("controls", WIDGETS, device=Device(version=(18, 6))),
    ),
    "MDM_EXTRA": (push("mdm", {"mdm": "x", "aps": {}}), push("mdm", {"mdm": "x"})),
    "WALLET_TEXT": (
        push("alert", TEXT, {"apns-topic": "pass.com.example"}),
        push("alert", {}, {"apns-topic": "pass.com.example"}),
    ),
    "TVOS_TEXT": (
        push(device=Device(platform=Platform.TVOS)),
        push(payload={"aps": {"badge": 1}}, device=Device(platform=Platform.TVOS)),
    ),
    # Live Activities.
    "LA_EVENT": (update(event="stop"), update()),
    "LA_TIMESTAMP": (update(timestamp="now"), update()),
    "LA_MILLISECONDS": (update(timestamp=NOW * 1_000), update()),
    "LA_FUTURE": (update(timestamp=NOW + 28_801, now=NOW), update(timestamp=NOW + 28_800, now=NOW)),
    "LA_STATE": (update(content_state=...), update(event="end", content_state=...)),
    "LA_DATE_FIELD": (update(content_state={"ends": NOW + 60}), update(content_state={"ends": NOW - 978_307_200})),
    "LA_START_FIELDS": (start(attributes=...), start()),
    "LA_START_ALERT": (start(alert=...), start()),
    "LA_START_CHANNEL": (start(channel="Y2hhbm5lbA=="), update(channel="Y2hhbm5lbA==")),
    "LA_DISMISS_EVENT": (update(dismissal_date=NOW + 60), update(event="end", dismissal_date=NOW + 60)),
    "LA_DISMISS_4H": (
        update(event="end", dismissal_date=NOW + 14_401),
        update(event="end", dismissal_date=NOW + 14_400),
    ),
    "LA_STALE_PAST": (start(stale_date=NOW - 1), start(stale_date=NOW + 60)),
    "LA_KEY_ELSEWHERE": (alert(event="update"), update()),
    "LA_TOKEN": (
        start(device=Device(token_kind=TokenKind.LIVE_ACTIVITY)),
        update(device=Device(token_kind=TokenKind.LIVE_ACTIVITY)),
    ),
    "LA_OLD": (
        update(timestamp=NOW - 61, device=Device(activities=(activity(),))),
        update(event="end", timestamp=NOW - 61, device=Device(activities=(activity(),))),
    ),
    "LA_STATE_DECODE": (
        update(device=Device(app=App(activities={"GameAttributes": frozenset(("half",))}), activities=(activity(),))),
        start(device=_app(activities={"GameAttributes": frozenset(("score",))})),
    ),
    "LA_TYPE_UNKNOWN": (
        start(device=_app(activities={})),
        start(device=_app(activities={"GameAttributes": frozenset()})),
    ),
    "LA_START_OS": (start(device=Device(version=(17, 1))), update(device=Device(version=(17, 1)))),
    "LA_CHANNEL_OS": (
        start(input_push_channel="Y2hhbm5lbA==", device=Device(version=(17, 5))),
        start(input_push_channel="Y2hhbm5lbA==", device=Device(version=(18, 0))),
    ),
    "LA_START_BUDGET": (
        start(device=Device(activity_starts=(NOW,) * 10)),
        start(device=Device(activity_starts=(NOW,) * 9)),
    ),
    "LA_START_TWICE": (start(device=Device(activities=(activity(),))), start(device=Device(activities=(ENDED,)))),
    "LA_START_TOKEN": (start(device=Device(token_outdated=True)), start(device=Device())),
    "LA_ENDED": (update(device=Device(activities=(ENDED,))), update(device=Device(activities=(activity(),)))),
    "LA_GONE": (
        update(token=TOKEN, device=Device(activities=(LEFT,))),
        update(token="cd" * 32, device=Device(activities=(LEFT,))),
    ),
    "LA_BUDGET": (
        update(device=Device(activities=(activity(urgent=(NOW,) * 10),))),
        update(headers={"apns-priority": "5"}, device=Device(activities=(activity(urgent=(NOW,) * 10),))),
    ),
    # What the device allows and remembers.
    "ENVIRONMENT": (
        push(device=Device(environment="sandbox"), environment="production"),
        push(device=Device(environment="sandbox"), environment="sandbox"),
    ),
    "REMOVED": (push(device=Device(removed_since=NOW)), push(device=Device())),
    "TOKEN_KIND": (
        push(device=Device(token_kind=TokenKind.VOIP)),
        push("voip", VOIP, device=Device(token_kind=TokenKind.VOIP)),
    ),
    "TOKEN_TOPIC": (push(device=Device(topic="com.example.chess")), push(device=Device(topic="com.example.app"))),
    "TYPE_PLATFORM": (
        push("voip", VOIP, device=Device(platform=Platform.WATCHOS)),
        push("voip", VOIP, device=Device()),
    ),
    "NOT_PERMITTED": (push(device=_set(permission=Permission.DENIED)), push(device=Device())),
    "PROVISIONAL": (push(device=_set(permission=Permission.PROVISIONAL)), push(device=Device())),
    "BADGES_OFF": (push(device=_set(badges=False)), push(payload=QUIET, device=_set(badges=False))),
    "FOCUS": (push(device=_set(focus=True)), alert(interruption_level="critical", device=_set(focus=True))),
    "FOCUS_FILTER": (
        alert(filter_criteria="work", device=_set(focus_criteria=["home"])),
        alert(filter_criteria="work", device=_set(focus_criteria=["work"])),
    ),
    "FOREGROUND": (push(device=Device(foreground=True)), push(device=Device())),
    "BADGE_UNCHANGED": (push(payload=QUIET, device=Device(badge=2)), push(device=Device(badge=2))),
    "STORED_LATEST": (
        push(device=Device(online=False, stored=(WAITS,))),
        push(device=Device(online=False, stored=(WAITS,), keeps_all=True)),
    ),
    "COLLAPSE_QUIET": (push(headers=COLLAPSES, device=SHOWN), push(device=SHOWN)),
    "COLLAPSE_NOT_THREAD": (
        push(headers=COLLAPSES, device=SHOWN),
        alert(thread_id="game", headers=COLLAPSES, device=SHOWN),
    ),
}
