"""Rules on the other push types: calls, Push to Talk, files, widgets, managed devices and Wallet passes."""

from __future__ import annotations

from txapns.devices.findings import Grade, Severity
from txapns.devices.push import Push
from txapns.devices.rules.rule import Place, Places, joined, rule
from txapns.devices.rules.sources import FILE_PROVIDER, MDM, PUSH_TO_TALK, PUSHKIT, WIDGETS

__all__: list[str] = []


@rule(
    "VOIP_ALERT",
    Severity.WARNING,
    "The system does not show the alert of a VoIP push; the app gets it and reports a call.",
    PUSHKIT,
    types=("voip",),
)
def _voip_alert(push: Push) -> Places:
    if push.aps.get("alert") is not None:
        yield Place("aps.alert")


@rule(
    "PTT_HEADERS",
    Severity.WARNING,
    "A Push to Talk push should have {value}.",
    PUSH_TO_TALK,
    types=("pushtotalk",),
)
def _ptt_headers(push: Push) -> Places:
    if push.priority != "10":
        yield Place("apns-priority", "priority 10")
    if push.headers and push.headers.get("apns-expiration") != "0":
        yield Place("apns-expiration", "expiration 0")


@rule(
    "FILEPROVIDER_CONTAINER",
    Severity.WARNING,
    "It must say in container-identifier which container has changed.",
    FILE_PROVIDER,
    types=("fileprovider",),
)
def _fileprovider_container(push: Push) -> Places:
    container = (push.content or {}).get("container-identifier")
    if not isinstance(container, str) or not container:
        yield Place("container-identifier")


@rule(
    "WIDGET_CHANGED",
    Severity.WARNING,
    "To reload anything, content-changed must be true.",
    WIDGETS,
    types=("widgets", "controls"),
)
def _widget_changed(push: Push) -> Places:
    if push.aps.get("content-changed") is not True:
        yield Place("aps.content-changed")


@rule(
    "MDM_EXTRA",
    Severity.WARNING,
    "A push to a managed device may have no key but mdm.",
    f"{MDM}; node-apn/node-apn#348, ostinelli/apnotic#51",
    types=("mdm",),
)
def _mdm_extra(push: Push) -> Places:
    for key in push.content or ():
        if key != "mdm":
            yield Place(joined("", key))


@rule(
    "WALLET_TEXT",
    Severity.WARNING,
    "Wallet ignores the payload; the text is that of the field of the pass that has changed.",
    "alexalok/dotAPNS#9, drallgood/jpasskit#567",
    Grade.REPORTED,
    types=("pass",),
)
def _wallet_text(push: Push) -> Places:
    if push.aps.get("alert") is not None:
        yield Place("aps.alert")
