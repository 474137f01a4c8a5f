"""
How ``twist`` and ``twistd`` find the simulator.

Twisted imports this file whenever it lists its plugins, so it names the module and imports nothing of it.
"""

from __future__ import annotations

from twisted.application.service import ServiceMaker

__all__ = ["apns_simulator"]

apns_simulator = ServiceMaker(
    name="APNs simulator",
    module="txapns.tap",
    description="Apple's push servers on loopback, for tests and for a developer's desk.",
    tapname="apns-simulator",
)
