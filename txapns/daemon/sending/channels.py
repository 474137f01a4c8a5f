"""
The broadcast channels of the apps. Requests about them are passed on to Apple at once; nothing of them is stored.

The server that manages channels is another than that of notifications, so these requests have clients of their own,
which open a connection when there is something to ask and close it when it has been idle. They take no part in the
app's circuit breaker: whoever asks gets the answer, or learns why there is none.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from txapns._session.channels import Channels
from txapns.client import Session
from txapns.daemon.broadcasts import check_gateway, side_of
from txapns.daemon.errors import NotSupported, Unavailable
from txapns.daemon.interfaces import IApps
from txapns.daemon.values import Environment
from txapns.errors import APNSError

__all__ = ["AppChannels", "no_channels"]

#: How many requests about the channels of an app may wait for a connection.
MOST = 100


class AppChannels:
    """
    Makes the clients that manage channels.

    :param timeout: how long Apple's answer may take, in seconds.
    """

    def __init__(self, reactor: IReactorTime, apps: IApps, timeout: float = 15.0) -> None:
        self._apps = apps
        self._session = Session(reactor, timeout=timeout, max_queued=MOST)

    def of(self, app: str, environment: Environment | None = None) -> Channels:
        """
        Find the channels of an app.

        :param app: its name.
        :param environment: the side, of an app with two; ``None`` for production, or the only side.
        :raises NotSupported: its gateway has no server that manages channels, or it has not the side that is named.
        :raises RequestRefused: there is no such app, or it cannot be used now.
        """
        found = self._apps.get(app)
        check_gateway(found)
        side = side_of(found, environment)
        if side.gateway.management_port is None:
            raise NotSupported("the app's gateway has no server that manages channels: give it a management_port")
        try:
            return self._session.client(side.credential, side.gateway, topic=found.topic).channels
        except APNSError as error:
            raise Unavailable(str(error), 60.0) from None

    def stop(self) -> Deferred[None]:
        """Wait for the answers to what is under way, and close the connections."""
        return self._session.close()


def no_channels(app: str, environment: Environment | None = None) -> Channels:
    """
    Stand in for the channels of apps where there are none.

    :raises NotSupported: always.
    """
    raise NotSupported("channels are not managed here")
