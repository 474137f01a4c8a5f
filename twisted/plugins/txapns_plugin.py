"""
How ``twist`` and ``twistd`` find the daemon and the simulator.

Twisted imports this file whenever it lists its plugins, so it names the modules and imports nothing of them.
"""

from __future__ import annotations

from twisted.application.service import ServiceMaker

__all__ = ["apns", "apns_simulator"]

apns = ServiceMaker(
    name="APNs daemon",
    module="txapns.daemon.tap",
    description="A durable daemon to Apple's push servers for other programs.",
    tapname="apns",
)

apns_simulator = ServiceMaker(
    name="APNs simulator",
    module="txapns.simulator.tap",
    description="Apple's push servers on loopback, for tests and for a developer's desk.",
    tapname="apns-simulator",
)
