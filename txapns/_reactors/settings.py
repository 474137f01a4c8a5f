"""The arguments of a client that is made later, when there is a reactor for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from txapns._network.proxy import Proxy
from txapns.credentials import Certificate, Credential, ProviderToken
from txapns.errors import CredentialError
from txapns.gateway import Gateway
from txapns.notification import Notification
from txapns.options import ClientOptions, Options

__all__ = ["checked"]

if TYPE_CHECKING:
    from typing_extensions import Unpack


def checked(
    credential: Credential,
    gateway: str | Gateway,
    topic: str | None,
    proxy: str | Proxy | None,
    **options: Unpack[ClientOptions],
) -> Gateway:
    """
    Raise what :class:`~txapns.APNSClient` would raise for these arguments.

    :returns: the gateway.
    """
    if not isinstance(credential, (Certificate, ProviderToken)):
        raise CredentialError(f"a credential must be a Certificate or a ProviderToken, not {type(credential).__name__}")
    gateway = Gateway.parse(gateway, proxy=proxy)
    gateway.context(credential)
    Options(**options)
    if topic is not None:
        Notification(payload={}, topic=topic)
    return gateway
