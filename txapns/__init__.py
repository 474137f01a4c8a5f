"""
Apple push notifications for Twisted: the HTTP/2 provider API and the enhanced binary protocol, behind one API.
"""

from txapns.binary import EnhancedNotificationProtocol
from txapns.channels import Channel, Channels, StoragePolicy
from txapns.client import APNSClient, ClientStatus, Session
from txapns.clocks import steady
from txapns.credentials import Certificate, Credential, ProviderToken
from txapns.errors import APNSError
from txapns.factory import APNSClientFactory
from txapns.feedback import DeadToken, FeedbackPoller
from txapns.gateway import Gateway
from txapns.http2 import ProviderAPIProtocol
from txapns.notification import Notification, Priority, PushType
from txapns.protocol import SessionListener
from txapns.proxy import Proxy
from txapns.reasons import Action, Reason, Status
from txapns.result import Accepted, Batch, Rejection, Uncertain, Unsent
from txapns.tls import ClientContextFactory
from txapns.tokens import Token, Tokens

__version__ = "0.1.0"

__all__ = [
    "APNSClient",
    "APNSClientFactory",
    "APNSError",
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
    "ProviderAPIProtocol",
    "ProviderToken",
    "Proxy",
    "PushType",
    "Reason",
    "Rejection",
    "Session",
    "SessionListener",
    "Status",
    "StoragePolicy",
    "Token",
    "Tokens",
    "Uncertain",
    "Unsent",
    "__version__",
    "steady",
]
