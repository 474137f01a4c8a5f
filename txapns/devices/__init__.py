"""
What becomes of a push: what Apple answers, and what the device does with it.

Everything here is a pure function of values. Nothing reads a clock, a file or a socket.
"""

from txapns.devices.answers import answer
from txapns.devices.credential import Credential
from txapns.devices.device import App, Capability, Device, Permission, Platform, Previews, Settings, Stored, TokenKind
from txapns.devices.findings import Finding, Grade, Severity
from txapns.devices.phone import come_online, open_app, pass_time, receive
from txapns.devices.presentation import Activity, ActivityState, Level, Outcome, Presentation
from txapns.devices.push import Push
from txapns.devices.rules import RULES, lint
from txapns.devices.rules.refusal import Answer
from txapns.devices.verdict import Change, Verdict

__all__ = [
    "RULES",
    "Activity",
    "ActivityState",
    "Answer",
    "App",
    "Capability",
    "Change",
    "Credential",
    "Device",
    "Finding",
    "Grade",
    "Level",
    "Outcome",
    "Permission",
    "Platform",
    "Presentation",
    "Previews",
    "Push",
    "Settings",
    "Severity",
    "Stored",
    "TokenKind",
    "Verdict",
    "answer",
    "come_online",
    "lint",
    "open_app",
    "pass_time",
    "receive",
]
