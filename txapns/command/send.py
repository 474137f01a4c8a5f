"""
``txapns send``: one notification to many devices.

The command exits with

=  ============================================================================================
0  every notification was accepted
1  some were rejected or not sent, or their outcome is unknown; they are listed
2  the command line, a file it names or the credential cannot be used; nothing was accepted
3  the gateway could not be reached; nothing was sent
=  ============================================================================================

With ``--dry-run`` it is 0 if nothing is worse than a hint, and 1 if something is, or a token cannot be sent.

It lists what was not accepted on standard output, and a summary as the last line: a table on a terminal, plain lines
elsewhere, JSON lines with ``--json``. Many tokens with the same cause are one row or line, except in JSON. The progress
bar is drawn on standard error, and only on a terminal.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import attrs
import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from txapns import reasons
from txapns._running import run
from txapns.client import APNSClient
from txapns.command.dry_run import try_out
from txapns.command.notification import NotificationOptions, notification_options
from txapns.command.options import (
    CredentialOptions,
    credential_options,
    gateway_option,
    json_option,
    read_trust_root,
    trust_root_option,
)
from txapns.command.outcomes import report
from txapns.command.streams import UNUSABLE, Command, InputFile, naming
from txapns.command.token_file import TokenFile, TokenList, TokenSource, no_tokens, tokens_from
from txapns.credentials import Certificate, Credential
from txapns.errors import CredentialError, CredentialRefused, TokensFailed, TransportError
from txapns.gateway import Gateway
from txapns.notification import Notification
from txapns.result import Batch

__all__ = ["send"]

_ALL_ACCEPTED, _SOME_NOT, _UNREACHED = 0, 1, 3

_REDRAW = 0.1  # seconds between two drawings of the progress bar


@click.command(cls=Command)
@gateway_option
@trust_root_option
@credential_options
@notification_options
@click.option("--token", "named", multiple=True, metavar="HEX", help="A device token; several times for several.")
@click.option(
    "--tokens",
    type=InputFile(),
    metavar="FILE",
    help="One hexadecimal device token a line; - for standard input. Blank lines and # comments are skipped.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, 3_600, min_open=True),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for a connection, for an answer, or without progress.",
)
@click.option(
    "--proxy",
    metavar="URL",
    help="Connect through an HTTP proxy: http://host:port, or environment for the one in HTTPS_PROXY.",
)
@click.option("--dry-run", is_flag=True, help="Say what is wrong with it, and send nothing; needs no credential.")
@click.option("--barrier", is_flag=True, help="Binary protocol: prove acceptance at once instead of waiting for it.")
@json_option("Write JSON lines, with whole tokens.")
def send(
    gateway: str,
    trust_root: IO[bytes] | None,
    credential: CredentialOptions,
    named: tuple[str, ...],
    tokens: IO[bytes] | None,
    timeout: float,
    proxy: str | None,
    dry_run: bool,
    barrier: bool,
    as_json: bool,
    content: NotificationOptions,
) -> None:
    """
    Send one notification to many devices.

    It lists the notifications that were not accepted, by the number of the token's line or option; where many have
    the same cause, in one line. The exit status is 0 if all were accepted, 1 if some were not, 2 if an option, a file
    or the credential cannot be used, and 3 if the gateway could not be reached.

    With --dry-run nothing is sent. It lists what txapns lint finds in the notification, and the tokens that no request
    can carry; the exit status is 0 if there is nothing worse than a hint, 1 if there is, and 2 as above.
    """
    server = _gateway(gateway, trust_root, barrier)
    source = _source(named, tokens)
    notification = content.notification()
    if dry_run:
        who = _read(credential) if credential.file is not None else None
        raise SystemExit(try_out(notification, who, source, as_json))
    who = _read(credential)

    async def work(reactor: Any, stop: Deferred[None]) -> _Sent:
        assert credential.file is not None
        with naming(credential.file, CredentialError):
            client = APNSClient(reactor, who, server, timeout=timeout, proxy=proxy)
        return await _send(reactor, client, notification, tokens_from(reactor, source), stop)

    sent = run(work)
    if not sent.batch.total and sent.complaint is None:
        raise no_tokens(source)
    report(sent.batch, sent.seconds, as_json)
    if sent.complaint is not None:
        click.echo(f"Error: {sent.complaint}", err=True)
    raise SystemExit(_status(sent))


def _read(credential: CredentialOptions) -> Credential:
    return credential.read(lambda data, passphrase: Certificate.from_pem(data, passphrase=passphrase))


def _source(named: tuple[str, ...], file: IO[bytes] | None) -> TokenSource:
    if bool(named) == (file is not None):
        raise click.UsageError("Give either --token or --tokens.")
    return named if file is None else file


def _gateway(description: str, trust_root: IO[bytes] | None, barrier: bool) -> Gateway:
    gateway = Gateway.parse(description, trust_root=read_trust_root(trust_root))
    if barrier and gateway.protocol != "binary":
        raise click.UsageError("--barrier is for a gateway of the binary protocol.")
    return attrs.evolve(gateway, barrier=True) if barrier else gateway


@attrs.frozen
class _Sent:
    """
    What was sent.

    :ivar complaint: why not all tokens were read.
    """

    batch: Batch
    seconds: float
    complaint: str | None


async def _send(
    reactor: Any, client: APNSClient, notification: Notification, tokens: TokenFile | TokenList, stop: Deferred[None]
) -> _Sent:
    def interrupt(_: None) -> None:
        tokens.end()
        client.close()

    stop.addCallback(interrupt)
    complaint = None
    began = reactor.seconds()
    with _progress_bar(client, tokens):
        try:
            batch = await client.send(notification, tokens)
        except TokensFailed as error:
            assert isinstance(error.batch, Batch)
            batch = error.batch
            complaint = f"the tokens after line {tokens.number} could not be read: {error.__cause__}"
    if stop.called and not tokens.complete:
        complaint = f"interrupted; the tokens after line {tokens.number} were not read"
    seconds = reactor.seconds() - began
    await client.close()
    return _Sent(batch, seconds, complaint)


def _status(sent: _Sent) -> int:
    """Find the exit status."""
    batch = sent.batch
    if batch.accepted == batch.total:
        return _ALL_ACCEPTED if sent.complaint is None else _SOME_NOT
    if batch.accepted:
        return _SOME_NOT
    if _credential_refused(batch):
        return UNUSABLE
    unreached = any(isinstance(left.error, TransportError) for left in batch.unsent.values())
    return _UNREACHED if unreached and not batch.failed and not batch.uncertain else _SOME_NOT


def _credential_refused(batch: Batch) -> bool:
    """Whether the gateway refused the credential, with the first notification or before any."""
    actions = {reasons.action(rejection.status, rejection.reason) for rejection in batch.failed.values()}
    errors = (left.error for left in batch.unsent.values())
    return reasons.Action.CREDENTIAL in actions or any(isinstance(error, CredentialRefused) for error in errors)


@contextmanager
def _progress_bar(client: APNSClient, tokens: TokenFile | TokenList) -> Iterator[None]:
    """Show the progress on a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    columns = BarColumn(), TextColumn("{task.fields[state]}", markup=False), TimeElapsedColumn()
    with Progress(*columns, console=console, auto_refresh=False, transient=True) as progress:
        task = progress.add_task("", total=tokens.size, state="")

        def draw() -> None:
            status = client.status()
            state = f"{tokens.given - status.in_flight} sent, {status.in_flight} under way"
            if status.connections[0] != "ready":
                state += f", {status.connections[0]}"
            progress.update(task, completed=tokens.consumed, state=state, refresh=True)

        drawing = LoopingCall(draw)
        drawing.start(_REDRAW)
        try:
            yield
        finally:
            drawing.stop()
