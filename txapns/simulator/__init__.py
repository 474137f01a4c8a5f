"""
Apple's servers on this machine or in memory: both protocols, the feedback service, and the server that manages
broadcast channels. No Apple account is needed.

They are built from the same :mod:`txapns.wire` as the client, in the server's role, and check what they receive in the
order that Apple's documentation suggests. They can misbehave on demand.
"""

from txapns.simulator.authority import Authority
from txapns.simulator.channels import ChannelRegistry, ChannelServer
from txapns.simulator.http2 import ProviderAPIServer
from txapns.simulator.inbox import Inbox, Reception
from txapns.simulator.random_faults import RandomFaults
from txapns.simulator.requests import RequestServer, Response
from txapns.simulator.servers import Simulator

__all__ = [
    "Authority",
    "ChannelRegistry",
    "ChannelServer",
    "Inbox",
    "ProviderAPIServer",
    "RandomFaults",
    "Reception",
    "RequestServer",
    "Response",
    "Simulator",
]
