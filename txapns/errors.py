"""
Every exception the project raises or reports, in one tree.

::

    APNSError
    ├── LocalError                 the caller's mistake: nothing was sent, the connection is unharmed
    │   ├── InvalidToken           a device token that is not hexadecimal
    │   ├── InvalidPayload         a payload that is not JSON
    │   ├── InvalidNotification    a header field that cannot stand in a request
    │   ├── InvalidChannel         a channel or an app that cannot be named in a request
    │   ├── InvalidGateway         a gateway, or a proxy, that cannot be understood, or has not what it is asked for
    │   ├── ClientClosed           the client was closed before the notification was asked
    │   ├── QueueFull              too many single notifications wait already
    │   ├── DeadlinePassed         the batch's own deadline came before the notification was asked
    │   ├── TokensFailed           the iterable of tokens raised an exception of its own
    │   └── CredentialError        a certificate or key that cannot be used
    │       ├── WrongPassphrase    the passphrase is missing or does not open the key
    │       ├── KeyMismatch        the private key is not the certificate's
    │       ├── CertificateExpired the certificate is past its last day, or before its first
    │       └── UnsupportedKey     a key of another kind than APNs takes
    ├── RemoteError                the other side's word
    │   ├── WireError              it sent bytes that are not the protocol
    │   ├── CredentialRefused      it does not accept our certificate or provider token
    │   ├── RequestRejected         it refused what was asked of it about channels
    │   ├── StreamRefused          it refused the request again and again, unprocessed
    │   ├── StreamReset            it dropped one request without an answer
    │   └── GatewayShutdown        it is closing the connection and said why
    ├── OutcomeUnknown             a single notification went out, and no answer came
    └── TransportError             the network, or TLS, between us
        ├── ConnectFailed          no connection could be made
        │   └── PeerNotVerified    the server is not who we asked for
        ├── ConnectionLost         the connection ended under a notification
        └── AnswerTimeout          the answer did not come in time

The branch tells whose turn it is: a :class:`LocalError` is mended in the calling program, a :class:`RemoteError` in
the developer account or by waiting, a :class:`TransportError` in the network. Messages name the gateway, the
connection, the identifier; never a key, a provider token, a passphrase or a whole device token.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "APNSError",
    "AnswerTimeout",
    "CertificateExpired",
    "ClientClosed",
    "ConnectFailed",
    "ConnectionLost",
    "CredentialError",
    "CredentialRefused",
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
    Shorten a device token to what may stand in a log line: its first and last four hexadecimal digits.

    :param token: a device token, hexadecimal text or raw bytes.
    :returns: for example ``"0011…eeff"``; a short token is hidden whole.
    """
    text = token.hex() if isinstance(token, (bytes, bytearray, memoryview)) else str(token)
    return f"{text[:4]}…{text[-4:]}" if len(text) > 16 else "…"


class APNSError(Exception):
    """The root of the tree: catch this to catch all that this package raises on purpose."""


class LocalError(APNSError):
    """The calling program's mistake. Nothing was sent; mend the call and send again."""


class InvalidToken(LocalError, ValueError):
    """A device token that is not hexadecimal digits in pairs, so no request can carry it. Mend or delete it."""


class InvalidPayload(LocalError, ValueError):
    """A payload that is not a JSON object, so no request can carry it. Mend the payload."""


class InvalidNotification(LocalError, ValueError):
    """A header field of the notification that cannot stand in a request at all. Mend that field."""


class InvalidChannel(LocalError, ValueError):
    """A channel's identifier, or the bundle id of its app, is missing or cannot stand in a request. Mend the call."""


class InvalidGateway(LocalError, ValueError):
    """
    A gateway or proxy that names no known protocol, host or port, or lacks the service asked for. Mend its description.
    """


class ClientClosed(LocalError):
    """The client was closed before this notification was asked. Send it with another client."""


class QueueFull(LocalError):
    """
    As many single notifications wait as may, so this one was not taken. It can be resent safely.

    Wait for :meth:`APNSClient.when_ready() <txapns.APNSClient.when_ready>`, or send a batch, which paces itself.
    """


class DeadlinePassed(LocalError):
    """The deadline given to the call came before this notification was asked. It can be resent safely."""


class TokensFailed(LocalError):
    """
    The iterable of tokens raised an exception, which is the ``__cause__``, so there is no knowing the rest of them.

    :ivar batch: the :class:`~txapns.Batch` of those it had yielded before.
    """

    def __init__(self, message: str, batch: Any = None) -> None:
        super().__init__(message, batch)
        self.batch = batch

    def __str__(self) -> str:
        """The message alone."""
        return str(self.args[0])


class CredentialError(LocalError, ValueError):
    """A certificate or key that cannot be used as it is. The message says what is wrong with which part."""


class WrongPassphrase(CredentialError):
    """The private key is encrypted and the passphrase is missing or wrong. Look it up where the key was exported."""


class KeyMismatch(CredentialError):
    """The private key does not belong to the certificate. Export both from the same identity."""


class CertificateExpired(CredentialError):
    """The certificate is not valid today; the message has its dates. Renew it in the developer account."""


class UnsupportedKey(CredentialError):
    """A key of another kind than the purpose allows, such as a ``.p8`` that is not on the curve P-256."""


class RemoteError(APNSError):
    """What the server said or did. Its reason, where it gave one, is in the message, in its own words."""


class WireError(RemoteError):
    """The peer sent bytes that are not the protocol. The connection is closed; if it repeats, look who is there."""


class CredentialRefused(RemoteError):
    """
    The gateway does not accept the certificate or provider token: every notification would be refused alike.

    Nothing else is sent until the credential is mended: check environment, team, key and dates in the developer
    account.

    :ivar reason: the gateway's own word, such as ``"BadCertificateEnvironment"`` or ``"InvalidProviderToken"``.
    """

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message, reason)
        self.reason = reason

    def __str__(self) -> str:
        """The message alone: the reason is already told in it."""
        return str(self.args[0])


class RequestRejected(RemoteError):
    """
    The gateway refused to create, read, delete or list channels. The message has its reason, and what to do about it.

    :ivar status: the HTTP status; 0 if there is none.
    :ivar reason: the gateway's own word, such as ``"ChannelNotRegistered"``.
    :ivar request_id: the request's id at Apple, where it was told.
    :ivar retry_after: how long the gateway is to be left alone, in seconds, where it said so.
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
        """The message alone: the reason is already told in it."""
        return str(self.args[0])


class StreamRefused(RemoteError):
    """The server refused the request unprocessed, each time it was offered. It is safe to resend later."""


class StreamReset(RemoteError):
    """The server dropped this one request without an answer. It may or may not have been processed."""


class GatewayShutdown(RemoteError):
    """
    The server is closing the connection and gave its reason. Others will be opened.

    :ivar code: the HTTP/2 error code; 0 where the end is an orderly one.
    """

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message, code)
        self.code = code

    def __str__(self) -> str:
        """The message alone: the code is told in it."""
        return str(self.args[0])


class OutcomeUnknown(APNSError):
    """
    The notification went out and no answer came; the ``__cause__`` says why. It may have been delivered.

    This is what :meth:`APNSClient.send_one <txapns.APNSClient.send_one>` has in the place of ``Batch.uncertain``. A
    resend may show it twice.
    """


class TransportError(APNSError):
    """The network, or TLS, between us and the gateway failed."""


class ConnectFailed(TransportError):
    """No connection to the gateway, or the proxy, could be made. Check name, port and firewall (TCP 443 or 2197)."""


class PeerNotVerified(ConnectFailed):
    """The server's certificate is not trusted or not for the host asked for. Check ``trust_root`` and the host name."""


class ConnectionLost(TransportError):
    """The connection ended before an answer came. The notification may or may not have been processed."""


class AnswerTimeout(TransportError):
    """No answer came within the timeout. The notification may or may not have been processed."""
