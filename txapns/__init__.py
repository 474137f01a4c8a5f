"""
Apple push notifications for Twisted: the HTTP/2 provider API and the enhanced binary protocol, behind one API.
"""

from txapns._linting import lint
from txapns._network.clocks import steady
from txapns._network.proxy import Proxy
from txapns._network.tls import ClientContextFactory
from txapns._session.batch import SendCancelled
from txapns._session.binary import EnhancedNotificationProtocol
from txapns._session.factory import APNSClientFactory
from txapns._session.http2 import ProviderAPIProtocol
from txapns._session.protocol import ProtocolListener
from txapns._session.tokens import Token, Tokens
from txapns.channels import Channel, Channels, StoragePolicy
from txapns.client import APNSClient, ClientStatus, Session
from txapns.credentials import Certificate, Credential, ProviderToken
from txapns.errors import APNSError
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
