"""How much a device bears, as far as it is known: Apple gives few numbers, and users report others."""

from __future__ import annotations

__all__ = ["ACTIVITY_STARTS", "BACKGROUND_PUSHES", "LOCATION_PUSHES", "URGENT_UPDATES"]

#: Background pushes in an hour that wake the app: Apple says two or three.
BACKGROUND_PUSHES = 3
#: Location pushes in a day.
LOCATION_PUSHES = 360
#: Starts of Live Activities in an hour that a device accepts, as an engineer of Apple's is quoted.
ACTIVITY_STARTS = 10
#: Updates with priority 10 in an hour after which a Live Activity may be out of its budget, which Apple does not tell.
URGENT_UPDATES = 10
