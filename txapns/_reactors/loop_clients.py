"""The clients and sessions of :mod:`txapns.aio`, as they are on Twisted: what it imports when it makes the first."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from txapns._network.proxy import Proxy, read_proxy
from txapns._reactors.on_loop import OnLoop
from txapns._reactors.reading import TaskReadAhead
from txapns._reactors.settings import checked
from txapns._session.tokens import Triple
from txapns.client import APNSClient, Session
from txapns.credentials import Credential
from txapns.delivery import Own
from txapns.gateway import Gateway
from txapns.interfaces import IMetrics
from txapns.options import ClientOptions, Options
from txapns.result import Batch

__all__ = ["client_on_loop", "session_on_loop"]

if TYPE_CHECKING:
    from typing_extensions import Unpack


class _Client(APNSClient):
    """A client on an event loop, where tasks read async iterables."""

    def _send(
        self,
        triples: Iterable[Triple] | AsyncIterable[Triple],
        deadline: float | None = None,
        first: bool = False,
        own: Own | None = None,
    ) -> Deferred[Batch]:
        triples = TaskReadAhead(triples) if isinstance(triples, AsyncIterable) else triples
        return super()._send(triples, deadline, first, own)


class _Session(Session):
    """A session of such clients."""

    _kind = _Client


def client_on_loop(
    credential: Credential,
    gateway: str | Gateway,
    topic: str | None,
    metrics: IMetrics | None,
    proxy: str | Proxy | None,
    **options: Unpack[ClientOptions],
) -> OnLoop[APNSClient]:
    """
    Check the arguments of a client, which is made on the event loop that runs when it is first used.

    :returns: where it will be.
    :raises: the same as :class:`txapns.aio.APNSClient`.
    """
    gateway = checked(credential, gateway, topic, proxy, **options)
    return OnLoop(partial(_Client, credential=credential, gateway=gateway, topic=topic, metrics=metrics, **options))


def session_on_loop(proxy: str | Proxy | None, **options: Unpack[ClientOptions]) -> OnLoop[Session]:
    """
    Check the arguments of a session, which is made on the event loop that runs when it is first used.

    :returns: where it will be.
    :raises: the same as :class:`txapns.aio.Session`.
    """
    read_proxy(proxy)
    Options(**options)
    return OnLoop(partial(_Session, proxy=proxy, **options))
