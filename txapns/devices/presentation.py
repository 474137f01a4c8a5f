"""What a device shows of a push."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

import attrs

__all__ = ["Activity", "ActivityState", "Level", "Outcome", "Presentation"]


class Outcome(Enum):
    """What becomes of a push."""

    #: Apple refused it.
    REFUSED = "refused"
    #: Apple accepted it and threw it away, or the device did before the app could see it.
    DISCARDED = "discarded"
    #: It waits at Apple for the device to come online, or on the device for the app to be launched.
    STORED = "stored"
    #: The device has it, and nobody sees or hears anything.
    NOTHING = "nothing"
    #: Only the number on the app's icon changes.
    BADGE = "badge only"
    #: It is in Notification Center, without a banner and without a sound.
    LIST = "list only"
    #: It is on the screen, with its sound if it has one.
    BANNER = "banner"
    #: The app, or an extension of it, runs in the background.
    WOKEN = "app woken"
    ACTIVITY_STARTED = "activity started"
    ACTIVITY_UPDATED = "activity updated"
    ACTIVITY_STALE = "activity stale"
    ACTIVITY_ENDED = "activity ended"
    #: The Live Activity has left the lock screen.
    ACTIVITY_DISMISSED = "activity dismissed"
    #: The Live Activity stays, or does not begin.
    ACTIVITY_IGNORED = "activity ignored"
    #: The widgets or the control are loaded anew.
    RELOADED = "reloaded"
    #: The call screen is shown.
    CALL = "call screen"
    #: iOS ended the app.
    APP_ENDED = "app ended"


class Level(Enum):
    """An interruption level, from iOS 15 on."""

    PASSIVE = "passive"
    ACTIVE = "active"
    TIME_SENSITIVE = "time-sensitive"
    CRITICAL = "critical"


class ActivityState(Enum):
    """The state of a Live Activity, as Apple's ``ActivityState``."""

    ACTIVE = "active"
    STALE = "stale"
    ENDED = "ended"
    DISMISSED = "dismissed"


@attrs.frozen
class Activity:
    """
    A Live Activity on a device. All times are UNIX seconds.

    :ivar number: which of the device's activities it is, from 1.
    :ivar kind: the name of its attributes' type.
    :ivar attributes: what does not change.
    :ivar content: the content state.
    :ivar state: its state.
    :ivar started: when it started.
    :ivar timestamp: the timestamp of the push that made it what it is.
    :ivar stale_at: when it gets stale; ``None`` for never.
    :ivar ends_at: when the system ends it.
    :ivar dismissed_at: when it leaves the lock screen; ``None`` until it has ended.
    :ivar token: the token for its updates; empty if it is not known.
    :ivar channel: the channel whose broadcasts update it; empty for none.
    :ivar urgent: when updates of priority 10 came, of the last hour.
    """

    number: int
    kind: str
    started: float
    timestamp: float
    ends_at: float
    content: Mapping[str, Any] = attrs.field(factory=dict)
    attributes: Mapping[str, Any] = attrs.field(factory=dict)
    state: ActivityState = ActivityState.ACTIVE
    stale_at: float | None = None
    dismissed_at: float | None = None
    token: str = attrs.field(default="", repr=False)
    channel: str = ""
    urgent: tuple[float, ...] = ()

    @property
    def is_running(self) -> bool:
        """Whether updates reach it: it is active or stale."""
        return self.state in (ActivityState.ACTIVE, ActivityState.STALE)


@attrs.frozen
class Presentation:
    """
    What is seen and heard of a push.

    :ivar identifier: the identifier of the notification: its collapse ID, or else its ``apns-id``.
    :ivar title: the title, as shown; empty if the app's name stands there.
    :ivar subtitle: the subtitle, as shown.
    :ivar body: the body, as shown.
    :ivar hidden: whether the user hides previews, so that none of these texts is seen.
    :ivar thread: the group; empty for that of the app.
    :ivar badge: what the number on the icon is set to; ``None`` if it stays.
    :ivar sound: the sound that plays: the name of a file, ``"default"``, or ``None`` for none.
    :ivar level: the interruption level in force; ``None`` before iOS 15.
    :ivar category: the category; empty for none.
    :ivar buttons: whether the category's buttons are shown; ``None`` if it is not known whether the app has it.
    :ivar replaces: the identifier of the notification that it replaces; empty if it replaces none.
    :ivar shown_at: when it was shown, in UNIX seconds.
    :ivar activity: the Live Activity as it is now.
    """

    identifier: str = ""
    title: str = ""
    subtitle: str = ""
    body: str = ""
    hidden: bool = False
    thread: str = ""
    badge: int | None = None
    sound: str | None = None
    level: Level | None = None
    category: str = ""
    buttons: bool | None = None
    replaces: str = ""
    shown_at: float = 0.0
    activity: Activity | None = None
