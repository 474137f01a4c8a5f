"""
The webhooks of the configuration, also when it changes.

One that is as it was before goes on undisturbed. One that was changed or removed sends nothing new, but the request
that is under way gets its answer, and the position moves on if that confirms it. Only then does the changed one begin,
from the same position. So reading the configuration again neither repeats nor leaves out anything. The positions of a
webhook that was removed stay in the database: if there is one of its name again, it goes on there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import attrs
from twisted.web.iweb import IAgent

from txapns.daemon.config.decoding import dotted
from txapns.daemon.config.sections import WebhookSection
from txapns.daemon.errors import ConfigurationError
from txapns.daemon.interfaces import IFeedbackLog, IOutcomeFeed
from txapns.daemon.sending.webhook import Webhook, WebhookConfig, events_of, read_secret
from txapns.daemon.store.cluster import ICluster

__all__ = ["Webhooks"]


@attrs.define(eq=False)
class _Used:
    """A webhook with what the configuration says of it."""

    section: WebhookSection
    webhook: Webhook
    begun: bool = False


class Webhooks:
    """
    The webhooks.

    :param agent: sends the requests; see :class:`~txapns.daemon.sending.webhook.Webhook`.
    """

    def __init__(
        self, reactor: Any, feedback: IFeedbackLog, feed: IOutcomeFeed, cluster: ICluster, agent: IAgent | None = None
    ) -> None:
        self._reactor = reactor
        self._feedback = feedback
        self._feed = feed
        self._cluster = cluster
        self._agent = agent
        self._used: dict[str, _Used] = {}
        self._ending: dict[str, Webhook] = {}  # of each name one at most: the next has not begun
        self._started = False

    def __iter__(self) -> Iterator[Webhook]:
        """Go through those that the configuration has now."""
        return iter([each.webhook for each in self._used.values()])

    def check(self, sections: Mapping[str, WebhookSection]) -> None:
        """
        Check that the secrets of webhooks that are not as they are now can be read.

        :raises ConfigurationError: some cannot; there is a line for each.
        """
        faults = []
        for name, section in sections.items():
            if name not in self._used or self._used[name].section != section:
                try:
                    read_secret(section.secret_file)
                except ConfigurationError as error:
                    faults.append(f"{dotted('webhook', name)}.secret_file: {error}")
        if faults:
            raise ConfigurationError("\n".join(faults))

    def use(self, sections: Mapping[str, WebhookSection]) -> None:
        """Have these webhooks from now on. One that has given up begins again."""
        before, self._used = self._used, {}
        for name, section in sections.items():
            used = before.get(name)
            if used is None or used.section != section or used.webhook.state.gave_up:
                used = _Used(section, self._made(name, section))
            self._used[name] = used
        for name, used in before.items():
            if self._used.get(name) is not used and name not in self._ending:  # otherwise it has not begun
                self._end(name, used.webhook)
        self._begin()

    def start(self) -> None:
        """Begin to send."""
        self._started = True
        self._begin()

    def stop(self) -> None:
        """Stop sending; see :meth:`Webhook.stop`."""
        self._started = False
        for webhook in [*self, *self._ending.values()]:
            webhook.stop()

    def _made(self, name: str, section: WebhookSection) -> Webhook:
        secret = partial(read_secret, section.secret_file)
        patience = section.timeout, section.give_up
        hook = WebhookConfig(name, section.url, secret, section.apps, section.batch, *patience, section.events)
        events = events_of(hook, self._feedback, self._feed)
        return Webhook(self._reactor, events, hook, self._agent, cluster=self._cluster)

    def _begin(self) -> None:
        for name, used in self._used.items() if self._started else ():
            if not used.begun and name not in self._ending:
                used.begun = True
                used.webhook.start()

    def _end(self, name: str, webhook: Webhook) -> None:
        self._ending[name] = webhook
        webhook.retire().addCallback(lambda _: self._ended(name))

    def _ended(self, name: str) -> None:
        duty = self._ending.pop(name).duty
        if name not in self._used:
            self._cluster.resign(duty)
        self._begin()
