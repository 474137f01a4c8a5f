"""
Apple push notifications for Twisted: the HTTP/2 provider API and the enhanced binary protocol, behind one API.

Each name is imported when it is first asked for: programs on asyncio, the command and the pytest plugin need only some
of them, and Twisted takes as long to import as all else.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from txapns.errors import APNSError

if TYPE_CHECKING:
    from txapns._linting import lint
    from txapns._network.clocks import steady
    from txapns._network.proxy import Proxy
    from txapns._network.tls import ClientContextFactory
    from txapns._session.batch import SendCancelled
    from txapns._session.binary import EnhancedNotificationProtocol
    from txapns._session.channels import Channels
    from txapns._session.factory import APNSClientFactory
    from txapns._session.http2 import ProviderAPIProtocol
    from txapns._session.protocol import ProtocolListener
    from txapns._session.tokens import Token, Tokens
    from txapns.channels import Channel, StoragePolicy
    from txapns.client import APNSClient, ClientStatus, Session
    from txapns.credentials import Certificate, Credential, ProviderToken
    from txapns.feedback import DeadToken
    from txapns.feedback_poller import FeedbackPoller
    from txapns.gateway import Gateway
    from txapns.notification import Notification, Priority, PushType
    from txapns.reasons import Action, Reason, Status
    from txapns.result import Accepted, Batch, Rejection, Uncertain, Unsent
    from txapns.service import APNSService

__version__ = "0.1.0"

__all__ = [
    "APNSClient",
    "APNSClientFactory",
    "APNSError",
    "APNSService",
    "Accepted",
    "Action",
    "Batch",
    "Certificate",
    "Channel",
    "Channels",
    "ClientContextFactory",
    "ClientStatus",
    "Credential",
    "DeadToken",
    "EnhancedNotificationProtocol",
    "FeedbackPoller",
    "Gateway",
    "Notification",
    "Priority",
    "ProtocolListener",
    "ProviderAPIProtocol",
    "ProviderToken",
    "Proxy",
    "PushType",
    "Reason",
    "Rejection",
    "SendCancelled",
    "Session",
    "Status",
    "StoragePolicy",
    "Token",
    "Tokens",
    "Uncertain",
    "Unsent",
    "__version__",
    "lint",
    "steady",
]

# Where the rest comes from, as above.
_NAMES = {
    "txapns._linting": ("lint",),
    "txapns._network.clocks": ("steady",),
    "txapns._network.proxy": ("Proxy",),
    "txapns._network.tls": ("ClientContextFactory",),
    "txapns._session.batch": ("SendCancelled",),
    "txapns._session.binary": ("EnhancedNotificationProtocol",),
    "txapns._session.channels": ("Channels",),
    "txapns._session.factory": ("APNSClientFactory",),
    "txapns._session.http2": ("ProviderAPIProtocol",),
    "txapns._session.protocol": ("ProtocolListener",),
    "txapns._session.tokens": (
        "Token",
        "Tokens",
    ),
    "txapns.channels": (
        "Channel",
        "StoragePolicy",
    ),
    "txapns.client": (
        "APNSClient",
        "ClientStatus",
        "Session",
    ),
    "txapns.credentials": (
        "Certificate",
        "Credential",
        "ProviderToken",
    ),
    "txapns.feedback": ("DeadToken",),
    "txapns.feedback_poller": ("FeedbackPoller",),
    "txapns.gateway": ("Gateway",),
    "txapns.notification": (
        "Notification",
        "Priority",
        "PushType",
    ),
    "txapns.reasons": (
        "Action",
        "Reason",
        "Status",
    ),
    "txapns.result": (
        "Accepted",
        "Batch",
        "Rejection",
        "Uncertain",
        "Unsent",
    ),
    "txapns.service": ("APNSService",),
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}


if not TYPE_CHECKING:  # to which any name would be one of the package's

    def __getattr__(name: str) -> object:
        """Import a name."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_MODULES[name]), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
