"""
How ``twist`` and ``twistd`` find the daemon and the simulator.

Twisted imports this file whenever it lists its plugins, so it only names the modules and does not import them.
"""

from __future__ import annotations

from twisted.application.service import ServiceMaker

__all__ = ["apns", "apns_simulator"]

apns = ServiceMaker(
    name="APNs daemon",
    module="txapns.daemon.tap",
    description="A durable push daemon: it stores notifications of other programs and sends them to Apple.",
    tapname="apns",
)

apns_simulator = ServiceMaker(
    name="APNs simulator",
    module="txapns.simulator.tap",
    description="Apple's push servers simulated on loopback, for tests and development.",
    tapname="apns-simulator",
)
