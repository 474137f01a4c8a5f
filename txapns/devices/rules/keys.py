"""Rules on keys: which there are, where they belong, and how they are spelled."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from txapns.devices.findings import Grade, Severity
from txapns.devices.push import Push
from txapns.devices.rules.rule import Place, Places, joined, rule, shown
from txapns.devices.rules.sources import GENERATING

__all__: list[str] = []

#: The kinds of push whose ``aps`` is read by the system, not by the app.
_SYSTEM = ("alert", "background", "liveactivity", "widgets", "controls")
_NEED_APS = ("alert", "background", "liveactivity")
_APS_KEYS = frozenset(
    (
        *("alert", "badge", "sound", "thread-id", "category", "content-available", "mutable-content", "url-args"),
        *("target-content-id", "interruption-level", "relevance-score", "filter-criteria", "content-changed"),
        *("timestamp", "event", "content-state", "stale-date", "dismissal-date", "attributes-type", "attributes"),
        *("input-push-token", "input-push-channel", "ptt-push-type"),
    )
)
_ALERT_KEYS = frozenset(
    (
        *("title", "title-loc-key", "title-loc-args", "subtitle", "subtitle-loc-key", "subtitle-loc-args"),
        *("body", "loc-key", "loc-args", "launch-image", "sound", "action", "action-loc-key"),
        *("summary-arg", "summary-arg-count"),
    )
)
#: Keys of ``aps`` that would hardly be an app's own.
_UNMISTAKABLE = frozenset(key for key in _APS_KEYS if "-" in key)
_VISIBLE = frozenset(("alert", "badge", "sound"))


def _plain(key: str) -> str:
    return key.replace("-", "").replace("_", "").lower()


_SPELLINGS = {known: {_plain(key): key for key in known} for known in (_APS_KEYS, _ALERT_KEYS)}


def _unknown(push: Push) -> Iterator[tuple[str, str, str]]:
    """Yield each unknown key of ``aps`` and the alert: the path before it, the key, and the key it resembles if any."""
    alert = push.aps.get("alert")
    for path, known, keys in (("aps", _APS_KEYS, push.aps), ("aps.alert", _ALERT_KEYS, alert)):
        if isinstance(keys, dict):
            for key in keys:
                if key not in known:
                    yield path, key, _SPELLINGS[known].get(_plain(key), "")


@rule(
    "APS_MISSING",
    Severity.WARNING,
    "Without an object aps a push does nothing on the device.",
    "node-apn/node-apn#99, #344",
    Grade.REPORTED,
    types=_NEED_APS,
)
def _aps_missing(push: Push) -> Places:
    if push.content is not None and "aps" not in push.content:
        yield Place("aps")


@rule("APS_TYPE", Severity.WARNING, "aps must be an object, not {value}.", GENERATING, types=_NEED_APS)
def _aps_type(push: Push) -> Places:
    aps = (push.content or {}).get("aps", {})
    if not isinstance(aps, dict):
        yield Place("aps", shown(aps))


@rule(
    "KEY_OUTSIDE_APS",
    Severity.WARNING,
    "{value} is a key of aps; beside aps the system ignores it.",
    "node-apn/node-apn#412",
    Grade.SINGLE_REPORT,
    types=_NEED_APS,
)
def _key_outside_aps(push: Push) -> Places:
    keys = _UNMISTAKABLE if push.push_type == "background" else _UNMISTAKABLE | _VISIBLE
    for key in push.content or ():
        if key in keys and key not in push.aps:
            yield Place(key, key)


@rule(
    "KEY_SPELLING",
    Severity.WARNING,
    "The system knows this key only as {value}.",
    "firebase/firebase-ios-sdk#3368, invertase/react-native-firebase#3530",
    Grade.REPORTED,
    types=_SYSTEM,
)
def _key_spelling(push: Push) -> Places:
    for path, key, meant in _unknown(push):
        if meant:
            yield Place(joined(path, key), meant)


@rule(
    "KEY_UNKNOWN",
    Severity.WARNING,
    "The system ignores this key; an app's own data goes beside aps.",
    GENERATING,
    types=_SYSTEM,
)
def _key_unknown(push: Push) -> Places:
    for path, key, meant in _unknown(push):
        if not meant and not key.startswith("apns-"):
            yield Place(joined(path, key))


def _holds_fields(key: str, value: Any) -> bool:
    """Tell whether a member of an object is a header field, or an object of them, as in messages of Firebase."""
    if key == "headers" and isinstance(value, dict):
        return any(each.startswith("apns-") for each in value)
    return key.startswith("apns-")


@rule(
    "HEADER_IN_PAYLOAD",
    Severity.WARNING,
    "Header fields belong into the request; inside the payload they do nothing.",
    "invertase/react-native-firebase#6373, grafana/oncall#1614",
    Grade.REPORTED,
)
def _header_in_payload(push: Push) -> Places:
    content = push.content or {}
    for path, members in (("", content), ("aps", push.aps), ("apns", content.get("apns"))):
        if isinstance(members, dict):
            for key, value in members.items():
                if _holds_fields(key, value):
                    yield Place(joined(path, key))


@rule(
    "NULL_VALUE",
    Severity.HINT,
    "A null may upset the app that receives it, or keep the push from it; leave the key out.",
    "openradar 28200025, wultra/powerauth-push-server#675, appfeel/node-pushnotifications#176",
    Grade.REPORTED,
)
def _null_value(push: Push) -> Places:
    if b"null" not in push.payload:
        return
    waiting: list[tuple[str, Any]] = [("", push.content)]
    while waiting:  # not recursive: it may be nested deeply
        path, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [(joined(path, key), each) for key, each in reversed(value.items())]
        elif isinstance(value, list) and not path.endswith("loc-args"):
            waiting += [(f"{path}[{index}]", each) for index, each in reversed([*enumerate(value)])]
        elif value is None and path:
            yield Place(path)
