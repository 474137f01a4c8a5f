"""
Apple's servers on loopback, or in memory: both protocols and the feedback service, without an Apple account.

They are built from the same :mod:`txapns.wire` as the client, in the server's role, and judge what they get in the
order that Apple's documentation suggests. They can misbehave on demand.
"""

from txapns.simulator.authority import Authority
from txapns.simulator.devices import Devices, Reception
from txapns.simulator.http2 import ProviderAPIServer, Verdict
from txapns.simulator.servers import Simulator

__all__ = ["Authority", "Devices", "ProviderAPIServer", "Reception", "Simulator", "Verdict"]
