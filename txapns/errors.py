"""
Every exception the project raises or reports, in one tree.

::

    APNSError
    ├── LocalError                 the caller's mistake: nothing was sent, the connection is unharmed
    │   ├── InvalidToken           a device token that is not hexadecimal
    │   ├── InvalidPayload         a payload that is not JSON
    │   ├── InvalidNotification    a header field that no request can carry
    │   ├── InvalidChannel         a channel identifier or bundle id that no request can carry
    │   ├── InvalidGateway         a gateway or proxy that is invalid, or lacks the requested service
    │   ├── ClientClosed           the client was closed before the notification was sent
    │   ├── ClientElsewhere        the client belongs to another process or event loop
    │   ├── QueueFull              too many single notifications are already waiting
    │   ├── DeadlinePassed         the batch's deadline passed before the notification was sent
    │   ├── TokensFailed           the iterable of tokens raised an exception
    │   └── CredentialError        a certificate or key that cannot be used
    │       ├── WrongPassphrase    the passphrase is missing or wrong
    │       ├── KeyMismatch        the private key does not belong to the certificate
    │       ├── CertificateExpired the certificate has expired, or is not valid yet
    │       └── UnsupportedKey     a kind of key that APNs does not accept
    ├── RemoteError                an answer or a fault of the server
    │   ├── WireError              it sent bytes that violate the protocol
    │   ├── CredentialRefused      it does not accept our certificate or provider token
    │   ├── RequestRejected        it rejected a request about channels
    │   ├── DaemonRefused          the daemon refused a request
    │   ├── StreamRefused          it repeatedly refused the request without processing it
    │   ├── StreamReset            it dropped one request without an answer
    │   └── GatewayShutdown        it is closing the connection and said why
    ├── OutcomeUnknown             a single notification was sent, and no answer came
    └── TransportError             a fault of the network or TLS
        ├── ConnectFailed          no connection could be made
        │   └── PeerNotVerified    the server's certificate is not trusted, or for another host
        ├── ConnectionLost         the connection ended while a notification was under way
        └── AnswerTimeout          no answer came in time

The branch tells where to look: fix a :class:`LocalError` in the calling program, a :class:`RemoteError` in the
developer account or by waiting, a :class:`TransportError` in the network. Messages name the gateway, the connection
and the identifier; never a key, a provider token, a passphrase or a whole device token.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "APNSError",
    "AnswerTimeout",
    "CertificateExpired",
    "ClientClosed",
    "ClientElsewhere",
    "ConnectFailed",
    "ConnectionLost",
    "CredentialError",
    "CredentialRefused",
    "DaemonRefused",
    "DeadlinePassed",
    "GatewayShutdown",
    "InvalidChannel",
    "InvalidGateway",
    "InvalidNotification",
    "InvalidPayload",
    "InvalidToken",
    "KeyMismatch",
    "LocalError",
    "OutcomeUnknown",
    "PeerNotVerified",
    "QueueFull",
    "RemoteError",
    "RequestRejected",
    "StreamRefused",
    "StreamReset",
    "TokensFailed",
    "TransportError",
    "UnsupportedKey",
    "WireError",
    "WrongPassphrase",
    "redact",
]


def redact(token: str | bytes | bytearray | memoryview) -> str:
    """
    Shorten a device token for a log line, to its first and last four hexadecimal digits.

    :param token: a device token, hexadecimal text or raw bytes.
    :returns: for example ``"0011…eeff"``; just ``"…"`` for a short token.
    """
    text = token.hex() if isinstance(token, (bytes, bytearray, memoryview)) else str(token)
    return f"{text[:4]}…{text[-4:]}" if len(text) > 16 else "…"


class APNSError(Exception):
    """The base class of all exceptions that this package raises deliberately."""


class LocalError(APNSError):
    """The calling program made a mistake. Nothing was sent; fix the call and send again."""


class InvalidToken(LocalError, ValueError):
    """A device token that is not hexadecimal digits in pairs, so no request can carry it. Correct or delete it."""


class InvalidPayload(LocalError, ValueError):
    """A payload that is not a JSON object, so no request can carry it. Correct the payload."""


class InvalidNotification(LocalError, ValueError):
    """A header field of the notification that no request can carry. Correct that field."""


class InvalidChannel(LocalError, ValueError):
    """A channel identifier or bundle id that is missing, or that no request can carry. Correct the call."""


class InvalidGateway(LocalError, ValueError):
    """
    A gateway or proxy whose protocol, host or port is invalid, or that lacks the requested service. Correct it.
    """


class ClientClosed(LocalError):
    """The client was closed before this notification was sent. Send it with another client."""


class ClientElsewhere(LocalError):
    """
    The client belongs to another process or event loop, where its connections are. Make one where it is used.
    """


class QueueFull(LocalError):
    """
    The queue of single notifications is full, so this one was not accepted. It is safe to resend.

    Wait for :meth:`APNSClient.when_ready() <txapns.APNSClient.when_ready>`, or send a batch, which paces itself.
    """


class DeadlinePassed(LocalError):
    """The call's deadline passed before this notification was sent. It is safe to resend."""


class TokensFailed(LocalError):
    """
    The iterable of tokens raised an exception, which is the ``__cause__``, so the remaining tokens are unknown.

    :ivar batch: the :class:`~txapns.Batch` of the tokens it yielded before.
    """

    def __init__(self, message: str, batch: Any = None) -> None:
        super().__init__(message, batch)
        self.batch = batch

    def __str__(self) -> str:
        """The message alone."""
        return str(self.args[0])


class CredentialError(LocalError, ValueError):
    """A certificate or key that cannot be used. The message says which part is wrong, and why."""


class WrongPassphrase(CredentialError):
    """The private key is encrypted and the passphrase is missing or wrong. Look it up where the key was exported."""


class KeyMismatch(CredentialError):
    """The private key does not belong to the certificate. Export both from the same identity."""


class CertificateExpired(CredentialError):
    """The certificate is not valid today; the message has its dates. Renew it in the developer account."""


class UnsupportedKey(CredentialError):
    """A kind of key that cannot be used here, such as a ``.p8`` that is not on the curve P-256."""


class RemoteError(APNSError):
    """The server rejected something or failed. The message has its reason, if it gave one, in its own words."""


class WireError(RemoteError):
    """The peer violated the protocol. The connection is closed; if it recurs, check which server answers there."""


class CredentialRefused(RemoteError):
    """
    The gateway does not accept the certificate or provider token, so it would reject every notification.

    Nothing else is sent until the credential is replaced: check environment, team, key and dates in the developer
    account.

    :ivar reason: the gateway's reason, such as ``"BadCertificateEnvironment"`` or ``"InvalidProviderToken"``.
    """

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message, reason)
        self.reason = reason

    def __str__(self) -> str:
        """The message alone, which includes the reason."""
        return str(self.args[0])


class RequestRejected(RemoteError):
    """
    The gateway rejected a request about channels. The message has its reason, and what to do.

    :ivar status: the HTTP status; 0 if there is none.
    :ivar reason: the gateway's reason, such as ``"ChannelNotRegistered"``.
    :ivar request_id: the request's id at Apple; ``None`` if it gave none.
    :ivar retry_after: how long the gateway asks us to wait, in seconds; ``None`` if it does not say.
    """

    def __init__(
        self,
        message: str,
        status: int = 0,
        reason: str = "",
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, status, reason, request_id, retry_after)
        self.status = status
        self.reason = reason
        self.request_id = request_id
        self.retry_after = retry_after

    def __str__(self) -> str:
        """The message alone, which includes the reason."""
        return str(self.args[0])


class DaemonRefused(RemoteError):
    """
    The daemon refused a request, so nothing of it was accepted. The code says what to do.

    :ivar status: the HTTP status; 0 if there is none.
    :ivar code: the daemon's code, such as ``"not_authenticated"``; ``""`` for an answer that is not the daemon's.
    :ivar reason: Apple's reason, if it was Apple who rejected what was asked.
    """

    def __init__(self, message: str, status: int = 0, code: str = "", reason: str = "") -> None:
        super().__init__(message, status, code, reason)
        self.status = status
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        """The message alone."""
        return str(self.args[0])


class StreamRefused(RemoteError):
    """The server refused the request each time it was sent, without processing it. It is safe to resend later."""


class StreamReset(RemoteError):
    """The server dropped this one request without an answer. It may or may not have been processed."""


class GatewayShutdown(RemoteError):
    """
    The server is closing the connection and gave its reason. The client opens another one.

    :ivar code: the HTTP/2 error code; 0 for an orderly shutdown.
    """

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message, code)
        self.code = code

    def __str__(self) -> str:
        """The message alone, which includes the code."""
        return str(self.args[0])


class OutcomeUnknown(APNSError):
    """
    The notification was sent and no answer came; the ``__cause__`` says why. It may have been delivered.

    :meth:`APNSClient.send_one <txapns.APNSClient.send_one>` raises it for what a batch reports in ``Batch.uncertain``.
    If it is resent, the user may see it twice.
    """


class TransportError(APNSError):
    """The network or TLS connection to the gateway failed."""


class ConnectFailed(TransportError):
    """No connection to the gateway or proxy could be made. Check host name, port and firewall (TCP 443 or 2197)."""


class PeerNotVerified(ConnectFailed):
    """The server's certificate is not trusted, or for another host. Check ``trust_root`` and the host name."""


class ConnectionLost(TransportError):
    """The connection ended before an answer came. The notification may or may not have been processed."""


class AnswerTimeout(TransportError):
    """No answer came within the timeout. The notification may or may not have been processed."""
