"""
The devices behind the tokens, and what becomes there of what was received.

Nothing of that is found out until somebody asks. Then all that came since is judged in the order of its arrival, as
each push changes the device for the next one. What is no longer kept by then has never reached a device.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from txapns._network.clocks import IWallClock
from txapns.devices.device import Device
from txapns.devices.phone import come_online, open_app, pass_time, receive
from txapns.devices.push import Push, token_bytes
from txapns.devices.rules.refusal import Answer
from txapns.devices.verdict import Change, Verdict
from txapns.simulator.inbox import Inbox, Reception

__all__ = ["MAX_DEVICES", "Phones"]

#: How many devices are remembered, the latest ones, and how many that somebody has changed by hand.
MAX_DEVICES = 2_000


class Phones:
    """
    The devices of an inbox.

    :param clock: the clock that devices go by.

    :ivar changed: the tokens of the devices that were changed by hand.
    """

    def __init__(self, inbox: Inbox, clock: IWallClock) -> None:
        self.changed: set[str] = set()
        self._inbox = inbox
        self._clock = clock
        self._judged = 0

    def judge(self) -> None:
        """Find out what became of everything that has come."""
        for reception in self._inbox.after(self._judged):
            self._judged = reception.id
            reception.verdict = self._receive(reception)

    def tokens(self) -> list[str]:
        """Return the tokens of the devices that are known, or that something was sent to."""
        inbox = self._inbox
        gone = [token.hex() for token in (*inbox.dead, *inbox.environments)]
        sent = [inbox.owner(each.token_text) for each in inbox.received if each.token]
        return list(dict.fromkeys((*inbox.devices, *gone, *sent)))

    def device(self, token: str) -> Device:
        """
        Find a device as it is now.

        :param token: its token, in hexadecimal.
        """
        self.judge()
        token = self._inbox.owner(token)
        change = pass_time(self._inbox.device(token), self._clock.now())
        return self._settle(token, change)

    def set(self, token: str, device: Device) -> Device:
        """
        Change a device by hand. If it comes online or its app is opened, it gets what waited.

        :param token: its token, in hexadecimal.
        :param device: what it is from now on.
        :returns: the device afterwards.
        """
        before, now = self.device(token), self._clock.now()
        token = self._inbox.owner(token)
        self.changed.add(token)
        octets = token_bytes(token) or b""
        self._inbox.dead.pop(octets, None)
        self._inbox.environments.pop(octets, None)
        if device.environment is not None:
            self._inbox.environments[octets] = device.environment
        if device.removed_since is not None:
            self._inbox.dead[octets] = device.removed_since
        else:
            self._inbox.listed.discard(octets)  # it may die again
        change = Change(device)
        if device.online and not before.online:
            change = come_online(device, now)
        if device.foreground and not before.foreground:
            opened = open_app(change.device, now)
            change = Change(opened.device, (*change.verdicts, *opened.verdicts))
        device = self._settle(token, change)
        self._inbox.tell()
        return device

    def set_strings(self, strings: Mapping[str, str]) -> None:
        """Give the app on all devices its ``Localizable.strings``; what was shown before stays."""
        self.judge()
        inbox = self._inbox
        inbox.template = _with_strings(inbox.template, strings)
        inbox.devices = {token: _with_strings(device, strings) for token, device in inbox.devices.items()}

    def _receive(self, reception: Reception) -> Verdict:
        push, connection = reception.push, reception.connection
        answered = Answer(200) if reception.reason is None else Answer(reception.status, reception.reason)
        if reception.protocol == "broadcast":
            return self._broadcast(push, reception.at, answered)
        token = self._inbox.owner(push.token)
        verdict = receive(
            push,
            self._inbox.device(token),
            reception.at,
            credential=connection.credential,
            environment=connection.environment,
            answered=answered,
        )
        self._keep(token, verdict.device)
        return verdict

    def _broadcast(self, push: Push, at: float, answered: Answer) -> Verdict:
        """Deliver a broadcast; what becomes of it is told of one of the devices."""
        verdict = None
        for token, device in list(self._inbox.devices.items()):
            if any(each.channel == push.channel for each in device.activities):
                verdict = receive(push, self._inbox.device(token), at, answered=answered)
                self._keep(token, verdict.device)
        return verdict or receive(push, self._inbox.template, at, answered=answered)

    def _settle(self, token: str, change: Change) -> Device:
        self._keep(token, change.device)
        self._revise(change.verdicts)
        return self._inbox.device(token)

    def _keep(self, token: str, device: Device) -> None:
        inbox = self._inbox
        device = attrs.evolve(device, removed_since=None, environment=None)  # the inbox has these
        if device == inbox.template and token not in self.changed:
            return
        inbox.devices.pop(token, None)
        inbox.devices[token] = device
        for activity in device.activities:
            if activity.token:
                inbox.owners[activity.token] = token
        if len(inbox.devices) > MAX_DEVICES + len(self.changed):
            oldest = next(each for each in inbox.devices if each not in self.changed)
            for activity in inbox.devices.pop(oldest).activities:
                inbox.owners.pop(activity.token, None)

    def _revise(self, verdicts: Iterable[Verdict]) -> None:
        """Change the verdicts on what waited until now."""
        for verdict in verdicts:
            for reception in self._inbox.received:
                old = reception.verdict
                if verdict.push is not None and old is not None and old.push is verdict.push:
                    reception.verdict = attrs.evolve(verdict, answer=old.answer)
                    self._inbox.revise(reception)


def _with_strings(device: Device, strings: Mapping[str, str]) -> Device:
    return attrs.evolve(device, app=attrs.evolve(device.app, strings=strings))
