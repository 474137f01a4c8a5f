"""The pages of Apple's that rules are from, by their titles."""

from __future__ import annotations

__all__ = [
    "BACKGROUND",
    "BROADCAST",
    "CATEGORIES",
    "FILE_PROVIDER",
    "FOCUS_FILTER",
    "GENERATING",
    "GUIDELINES",
    "HEADERS",
    "LEVELS",
    "LIVE_ACTIVITIES",
    "LOCATION",
    "MDM",
    "METRICS",
    "MODIFYING",
    "OPTIONS",
    "PUSHKIT",
    "PUSH_TO_TALK",
    "REGISTERING",
    "RESPONSES",
    "SENDING",
    "SOUND",
    "WIDGETS",
]

#: Pages on pushes in general.
GENERATING = "Generating a remote notification"
SENDING = "Sending notification requests to APNs"
RESPONSES = "Handling notification responses from APNs"
REGISTERING = "Registering your app with APNs"
BACKGROUND = "Pushing background updates to your App"
MODIFYING = "Modifying content in newly delivered notifications"
METRICS = "Viewing the status of push notifications using metrics and APNs"
BROADCAST = "Sending broadcast push notification requests to APNs"
#: Pages on one kind of push.
LIVE_ACTIVITIES = "Starting and updating Live Activities with ActivityKit push notifications"
PUSH_TO_TALK = "Creating a Push to Talk app"
PUSHKIT = "Responding to VoIP Notifications from PushKit"
FILE_PROVIDER = "Using push notifications to signal changes"
WIDGETS = "Updating widgets with WidgetKit push notifications"
MDM = "Sending MDM commands to a device"
LOCATION = "Creating a location push service extension"
#: The reference of classes, the headers of a framework, and the design guide.
SOUND = "UNNotificationSound"
LEVELS = "UNNotificationInterruptionLevel"
OPTIONS = "UNAuthorizationOptions"
FOCUS_FILTER = "UNNotificationContent: filterCriteria"
CATEGORIES = "Declaring your actionable notification types"
HEADERS = "The headers of the UserNotifications framework"
GUIDELINES = "Human Interface Guidelines: Managing notifications"
