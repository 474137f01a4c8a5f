"""A device with one app on it: what it is, what its user allows, and what it remembers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import TypeVar

import attrs

from txapns.devices.presentation import Activity, Presentation
from txapns.devices.push import Push

__all__ = ["App", "Capability", "Device", "Permission", "Platform", "Previews", "Settings", "Stored", "TokenKind"]

_T = TypeVar("_T")


class Platform(Enum):
    """An operating system of Apple's."""

    IOS = "iOS"
    IPADOS = "iPadOS"
    MACOS = "macOS"
    TVOS = "tvOS"
    VISIONOS = "visionOS"
    WATCHOS = "watchOS"


class TokenKind(Enum):
    """What a token is for. The values are push types, where there is one type for it."""

    APP = "alert"
    COMPLICATION = "complication"
    CONTROL = "controls"
    FILE_PROVIDER = "fileprovider"
    #: For updates of one Live Activity.
    LIVE_ACTIVITY = "liveactivity"
    LOCATION = "location"
    MDM = "mdm"
    PUSH_TO_START = "push-to-start"
    PUSH_TO_TALK = "pushtotalk"
    VOIP = "voip"
    WALLET = "wallet"
    WIDGET = "widgets"


class Capability(Enum):
    """What an app is built, or allowed by Apple, to do."""

    #: The background mode for remote notifications.
    BACKGROUND = "background"
    #: Reports every incoming call to CallKit.
    CALLS = "calls"
    CRITICAL_ALERTS = "critical alerts"
    #: A notification service extension.
    EXTENSION = "extension"
    #: That extension may hide notifications.
    FILTERING = "filtering"
    FREQUENT_UPDATES = "frequent updates"
    LIVE_ACTIVITIES = "live activities"
    LOCATION = "location"
    TIME_SENSITIVE = "time sensitive"


class Permission(Enum):
    """What the user answered when the app asked to send notifications."""

    NOT_ASKED = "not asked"
    DENIED = "denied"
    PROVISIONAL = "provisional"
    AUTHORIZED = "authorized"


class Previews(Enum):
    """When texts are shown."""

    ALWAYS = "always"
    WHEN_UNLOCKED = "when unlocked"
    NEVER = "never"


def _frozen(items: Iterable[_T] | None) -> frozenset[_T] | None:
    return None if items is None else frozenset(items)


@attrs.frozen
class App:
    """
    What is known of the app. ``None`` stands for unknown: then nothing is held against a push.

    :ivar capabilities: what it can do.
    :ivar categories: the categories of notifications that it registered.
    :ivar sounds: its sound files, and how long each is, in seconds.
    :ivar strings: its ``Localizable.strings``.
    :ivar activities: the types of its Live Activities' attributes, and the keys that each content state must have.
    :ivar foreground: what its delegate presents while the app is open: some of ``"banner"``, ``"list"``, ``"sound"``
        and ``"badge"``; ``None`` if there is no such delegate, or if its method is missing.
    :ivar has_delegate: whether there is a delegate for notifications.
    """

    capabilities: frozenset[Capability] = attrs.field(default=frozenset(Capability), converter=frozenset)
    categories: frozenset[str] | None = attrs.field(default=None, converter=_frozen)
    sounds: Mapping[str, float] | None = None
    strings: Mapping[str, str] | None = attrs.field(default=None, repr=False)
    activities: Mapping[str, frozenset[str]] | None = None
    foreground: frozenset[str] | None = attrs.field(
        default=frozenset({"banner", "list", "sound", "badge"}), converter=_frozen
    )
    has_delegate: bool = True


@attrs.frozen
class Settings:
    """
    What the user set for this app, and for the device.

    :ivar permission: whether the app may send notifications.
    :ivar enabled: whether notifications of the app are switched on in Settings.
    :ivar banners: whether banners are shown.
    :ivar lock_screen: whether notifications are shown on the lock screen.
    :ivar notification_center: whether they are kept in Notification Center.
    :ivar sounds: whether they may make a sound.
    :ivar badges: whether they may set the badge.
    :ivar previews: when their texts are shown.
    :ivar grouped: whether they are grouped by thread.
    :ivar time_sensitive: whether those that are time-sensitive may interrupt.
    :ivar critical: whether those that are critical may.
    :ivar summary: whether the app is in the scheduled summary.
    :ivar focus: whether a Focus is on that does not allow the app.
    :ivar focus_criteria: the filter criteria that the app's Focus filter lets through; ``None`` without such a filter.
    :ivar muted: whether the device is silent.
    :ivar low_power: whether Low Power Mode is on.
    :ivar background_refresh: whether Background App Refresh is on.
    :ivar live_activities: whether Live Activities are allowed.
    :ivar frequent_updates: whether frequent updates of them are.
    :ivar location_always: whether the app always gets the location.
    """

    permission: Permission = Permission.AUTHORIZED
    enabled: bool = True
    banners: bool = True
    lock_screen: bool = True
    notification_center: bool = True
    sounds: bool = True
    badges: bool = True
    previews: Previews = Previews.ALWAYS
    grouped: bool = True
    time_sensitive: bool = True
    critical: bool = True
    summary: bool = False
    focus: bool = False
    focus_criteria: frozenset[str] | None = attrs.field(default=None, converter=_frozen)
    muted: bool = False
    low_power: bool = False
    background_refresh: bool = True
    live_activities: bool = True
    frequent_updates: bool = True
    location_always: bool = True

    @property
    def alert_styles(self) -> bool:
        """Whether alerts are shown anywhere."""
        return self.banners or self.lock_screen or self.notification_center


@attrs.frozen
class Stored:
    """
    A push that waits.

    :ivar push: the push.
    :ivar since: since when, in UNIX seconds.
    :ivar until: when it is thrown away, in UNIX seconds.
    """

    push: Push
    since: float
    until: float


@attrs.frozen(kw_only=True)
class Device:
    """
    A device, as one token of one app on it reaches it. All times are UNIX seconds.

    By default it is an iPhone that is online, on whose lock screen everything is allowed.

    :ivar platform: its operating system.
    :ivar version: the version of that.
    :ivar environment: the only environment in which the token is valid, ``"production"`` or ``"sandbox"``; ``None``
        for either.
    :ivar topic: the app's bundle ID; empty if it is not known.
    :ivar token_kind: what the token is for; ``None`` if it is not known: then every push fits.
    :ivar token_outdated: whether the app has been given a newer token of this kind.
    :ivar app: the app.
    :ivar settings: what the user allows.
    :ivar online: whether it is reached.
    :ivar removed_since: since when the token is dead, because the app was removed; ``None`` while it is not.
    :ivar locked: whether the lock screen is on.
    :ivar foreground: whether the app is open.
    :ivar force_quit: whether the user has ended the app.
    :ivar joined: whether it is in a Push to Talk channel.
    :ivar badge: the number on the app's icon.
    :ivar shown: the notifications in Notification Center, the oldest first.
    :ivar keeps_all: whether several pushes wait for it while it is offline, instead of the latest only: Apple says
        both.
    :ivar stored: what waits at Apple, the oldest first.
    :ivar held: the background push that waits on the device.
    :ivar background_pushes: when background pushes came, in the last hour.
    :ivar location_pushes: when location pushes came, in the last day.
    :ivar activities: its Live Activities, the oldest first.
    :ivar activity_starts: when pushes started Live Activities, in the last hour.
    :ivar unreported_calls: how many VoIP pushes the app has not reported as calls.
    """

    platform: Platform = Platform.IOS
    version: tuple[int, int] = (26, 4)
    environment: str | None = None
    topic: str = ""
    token_kind: TokenKind | None = None
    token_outdated: bool = False
    app: App = App()
    settings: Settings = Settings()
    online: bool = True
    removed_since: float | None = None
    locked: bool = True
    foreground: bool = False
    force_quit: bool = False
    joined: bool = True
    badge: int = 0
    shown: tuple[Presentation, ...] = ()
    keeps_all: bool = False
    stored: tuple[Stored, ...] = ()
    held: Stored | None = None
    background_pushes: tuple[float, ...] = ()
    location_pushes: tuple[float, ...] = ()
    activities: tuple[Activity, ...] = ()
    activity_starts: tuple[float, ...] = ()
    unreported_calls: int = 0

    def can(self, capability: Capability) -> bool:
        """Whether the app has a capability."""
        return capability in self.app.capabilities

    def runs(self, major: int, minor: int = 0) -> bool:
        """Whether it runs a version of iOS or iPadOS that is not older than this one."""
        return self.platform in (Platform.IOS, Platform.IPADOS) and self.version >= (major, minor)
