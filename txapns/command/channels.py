"""
``txapns channels`` and ``txapns broadcast``: the channels of Live Activities, and what is sent to them.

Both ask Apple with the app's credential, as ``txapns send`` does; or with ``--app`` a running daemon, which has the
credential, and keeps a broadcast until Apple has answered. The exit status is 0 if all was done, 1 if some broadcasts
were not accepted, and 2 if something cannot be used or was refused.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from functools import partial
from typing import IO, Any, TypeVar

import attrs
import click
from twisted.internet.defer import Deferred, gatherResults
from twisted.python.failure import Failure

from txapns import reasons
from txapns._running import run
from txapns._texts import first_line, utf8
from txapns.channels import Channel, StoragePolicy
from txapns.client import APNSClient
from txapns.command.options import (
    CredentialOptions,
    credential_options,
    gateway_option,
    gather,
    json_option,
    read_trust_root,
    trust_root_option,
)
from txapns.command.streams import Command, Group, InputFile, Unusable, content_of, echo, naming
from txapns.command.tables import print_json, print_rows, printable
from txapns.credentials import Certificate
from txapns.errors import APNSError, CredentialError, OutcomeUnknown
from txapns.gateway import Gateway
from txapns.notification import Notification, PushType
from txapns.result import Accepted, Rejection

__all__ = ["broadcast", "channels"]

_T = TypeVar("_T")

_STORED = {"nothing": StoragePolicy.NO_MESSAGE_STORED, "latest": StoragePolicy.MOST_RECENT_MESSAGE_STORED}


@attrs.frozen
class _Options:
    """The options that say whom to ask."""

    app: str | None
    url: str
    key_file: IO[bytes] | None
    environment: str | None
    gateway: str
    trust_root: IO[bytes] | None
    topic: str | None
    timeout: float


@attrs.frozen
class _Place:
    """Apple, or a daemon."""

    options: _Options
    credential: CredentialOptions

    @property
    def side(self) -> Mapping[str, Any]:
        """The side of the app, as an argument of every method that has one."""
        return {} if self.options.environment is None else {"environment": self.options.environment}

    def ask(self, action: Callable[[Any], Any]) -> Any:
        """
        Call a function with a client of either, and wait for its result.

        :raises APNSError: it cannot be asked, or refuses.
        """
        [found] = self.ask_each(lambda client, _: action(client), [None])
        if isinstance(found, APNSError):
            raise found
        return found

    def ask_each(self, action: Callable[[Any, _T], Any], items: Sequence[_T]) -> list[Any]:
        """Call a function with a client of either and each of some items; returns the results, or why there is none."""
        if self.options.app is not None:
            with self._daemon(self.options.app) as client:
                return [_result(partial(action, client, item)) for item in items]
        options, file = self.options, self.credential.file
        who = self.credential.read(lambda data, passphrase: Certificate.from_pem(data, passphrase=passphrase))
        gateway = Gateway.parse(options.gateway, trust_root=read_trust_root(options.trust_root))

        async def work(reactor: Any, stop: Deferred[None]) -> list[Any]:
            assert file is not None
            with naming(file, CredentialError):
                client = APNSClient(reactor, who, gateway, topic=options.topic, timeout=options.timeout)
            stop.addCallback(lambda _: client.abort())
            found = await gatherResults([_failed(action(client, item)) for item in items], consumeErrors=True)
            await client.close()
            return found

        return run(work)

    def _daemon(self, app: str) -> AbstractContextManager[Any]:
        options, key = self.options, os.environ.get("TXAPNS_KEY")
        if self.credential.file is not None:
            raise click.UsageError("With --app the daemon has the credential: give neither --certificate nor --key.")
        try:
            from txapns.remote import DaemonClient
        except ModuleNotFoundError as error:
            raise Unusable(f'To ask a daemon, txapns needs {error.name}: pip install "txapns[remote]"') from None
        if options.key_file is not None:
            key = first_line(content_of(options.key_file)).decode("utf-8", "replace")
        trust_root = read_trust_root(options.trust_root)
        try:
            return DaemonClient(options.url, app=app, key=key, trust_root=trust_root, patience=options.timeout)
        except ValueError as error:
            raise click.UsageError(f"{error}.") from None


def _result(action: Callable[[], Any]) -> Any:
    """Call a function; returns what it returns, or why it does not."""
    try:
        return action()
    except APNSError as error:
        return error


def _failed(result: Deferred[Any]) -> Deferred[Any]:
    """Turn what a ``Deferred`` fails with into its result."""

    def failed(failure: Failure) -> APNSError:
        failure.trap(APNSError)
        assert isinstance(failure.value, APNSError)
        return failure.value

    return result.addErrback(failed)


def _place_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say whom to ask, as one argument ``place``."""

    def placed(credential: CredentialOptions, options: _Options, **given: Any) -> None:
        if options.environment is not None and options.app is None:
            raise click.UsageError("Without --app the environment is that of --gateway.")
        command(_Place(options, credential), **given)

    placed.__doc__ = command.__doc__
    options = (
        click.option("--app", metavar="NAME", help="Ask a daemon, which knows the app by this name, and not Apple."),
        click.option(
            "--url", default="http://127.0.0.1:8080", show_default=True, help="With --app: the daemon's HTTP API."
        ),
        click.option(
            "--key-file",
            type=InputFile(),
            metavar="FILE",
            help="With --app: a file whose first line is a key that may send; or set TXAPNS_KEY.",
        ),
        click.option(
            "--environment",
            type=click.Choice(["production", "sandbox"]),
            help="With --app: the side of an app that has two; left out, production.",
        ),
        gateway_option,
        trust_root_option,
        click.option("--topic", help="The app's bundle ID; with --app, or the certificate of one app, not needed."),
        click.option(
            "--timeout",
            type=click.FloatRange(0, 3_600, min_open=True),
            default=30.0,
            show_default=True,
            metavar="SECONDS",
            help="How long to wait for a connection, or for Apple's answer; with --app, for how long a request to the"
            " daemon that fails is tried again. One that gets no answer fails after 60 seconds.",
        ),
    )
    return gather(_Options, "options", options, credential_options(placed))


@click.group(cls=Group)
def channels() -> None:
    """Manage the broadcast channels of an app, at Apple or by way of a daemon."""


@channels.command("create")
@click.option(
    "--store",
    type=click.Choice([*_STORED]),
    default="nothing",
    show_default=True,
    help="What it stores for devices that cannot be reached: nothing, or the latest broadcast.",
)
@json_option("Write JSON.")
@_place_options
def _create(place: _Place, store: str, as_json: bool) -> None:
    """Make a channel, and write its identifier to standard output."""
    made = place.ask(lambda client: client.channels.create(_STORED[store], **place.side))
    if as_json:
        print_json(_described(made))
    else:
        echo(made.channel_id)


@channels.command("list")
@json_option()
@_place_options
def _list(place: _Place, as_json: bool) -> None:
    """List the identifiers of the app's channels."""
    for channel in place.ask(lambda client: client.channels.list(**place.side)):
        if as_json:
            print_json({"channel": channel})
        else:
            echo(printable(channel))


@channels.command("show")
@click.argument("channel")
@json_option("Write JSON.")
@_place_options
def _show(place: _Place, channel: str, as_json: bool) -> None:
    """Show the properties of a channel."""
    print_rows([_described(place.ask(lambda client: client.channels.read(channel, **place.side)))], as_json)


@channels.command("delete")
@click.argument("channel")
@_place_options
def _delete(place: _Place, channel: str) -> None:
    """Delete a channel for good."""
    place.ask(lambda client: client.channels.delete(channel, **place.side))
    echo(f"deleted {printable(channel)}")


def _described(channel: Channel) -> dict[str, Any]:
    stored = next((name for name, policy in _STORED.items() if policy == channel.storage_policy), None)
    return {
        "channel": channel.channel_id,
        "stores": stored or str(channel.storage_policy),
        "push_type": channel.push_type,
    }


def _state(context: click.Context, parameter: click.Parameter, given: str | None) -> dict[str, object] | None:
    """Read the state of a Live Activity."""
    try:
        state = None if given is None else json.loads(given)
    except ValueError as error:
        raise click.BadParameter(f"this is not JSON: {error}") from None
    if state is not None and not isinstance(state, dict):
        raise click.BadParameter("this is not a JSON object")
    return state


@click.command(cls=Command)
@click.argument("channels", metavar="CHANNEL...", nargs=-1, required=True)
@click.option("--content-state", callback=_state, metavar="JSON", help="The new state of the Live Activities.")
@click.option(
    "--event", type=click.Choice(["update", "end"]), default="update", show_default=True, help="What happens to them."
)
@click.option("--alert", metavar="TEXT", help="A text that alerts the users.")
@click.option("--payload", type=InputFile(), metavar="FILE", help="The whole payload, JSON.")
@click.option("--priority", type=int, metavar="N", help="10: at once; 5: considerate of the device's battery.")
@click.option(
    "--expiration",
    type=click.IntRange(0, 2**31 - 1),
    metavar="SECONDS",
    help="How long APNs keeps it, in a channel that stores the latest.",
)
@json_option()
@_place_options
def broadcast(
    place: _Place,
    channels: tuple[str, ...],
    content_state: dict[str, object] | None,
    event: str,
    alert: str | None,
    payload: IO[bytes] | None,
    priority: int | None,
    expiration: int | None,
    as_json: bool,
) -> None:
    """
    Send an update to all Live Activities that listen to channels.

    It says of each channel whether the broadcast was accepted. The exit status is 0 if all were, 1 if some were not,
    and 2 if an option, a file or the credential cannot be used.
    """
    if (payload is None) == (content_state is None):
        raise click.UsageError("Give either --content-state or --payload.")
    fields: dict[str, Any] = {
        "topic": None if place.options.app is not None else place.options.topic,
        "push_type": PushType.LIVEACTIVITY,
        "priority": priority,
        "expiration": timedelta(seconds=expiration) if expiration else expiration,
    }
    if payload is None:
        fields["timestamp"] = int(time.time())
        notification = Notification(event=event, content_state=content_state, alert=alert, **fields)
    else:
        with naming(payload):
            notification = Notification(payload=utf8(content_of(payload)), **fields)
    found = place.ask_each(lambda client, channel: client.broadcast(notification, channel, **place.side), channels)
    for channel, outcome in zip(channels, found, strict=True):
        word, reason, advice = _described_outcome(outcome)
        if as_json:
            print_json({"channel": channel, "outcome": word, "reason": reason or None})
        else:
            echo(f"{printable(channel)}: {word}" + (f", {printable(reason)}. {printable(advice)}" if reason else ""))
    raise SystemExit(int(not all(isinstance(outcome, Accepted) for outcome in found)))


def _described_outcome(outcome: Accepted | Rejection | APNSError) -> tuple[str, str, str]:
    """Return the outcome in a word, the reason, and what to do, as ``txapns send`` does."""
    if isinstance(outcome, Accepted):
        return "accepted", "", ""
    if isinstance(outcome, Rejection):
        return "failed", outcome.reason or str(outcome.status), reasons.text(outcome.status, outcome.reason)
    word = "uncertain" if isinstance(outcome, OutcomeUnknown) else "unsent"
    return word, type(outcome).__name__, str(outcome)
