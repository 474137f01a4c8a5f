"""
``txapns send``: one notification to many devices.

The command exits with

=  ============================================================================================
0  every notification was accepted
1  some were rejected or not sent, or their outcome is unknown; they are listed
2  the command line, a file it names or the credential cannot be used; nothing was accepted
3  the gateway could not be reached; nothing was sent
=  ============================================================================================

It lists what was not accepted on standard output, and a summary as the last line: a table on a terminal, plain lines
elsewhere, JSON lines with ``--json``. The progress bar is drawn on standard error, and only on a terminal.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from operator import attrgetter
from typing import IO, Any

import attrs
import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from txapns import reasons
from txapns._running import run
from txapns._texts import utf8
from txapns.client import APNSClient
from txapns.command.options import CredentialOptions, credential_options, gateway_option, json_option
from txapns.command.streams import UNUSABLE, Command, InputFile, echo
from txapns.command.tables import on_terminal, print_json, print_table, printable
from txapns.command.token_file import TokenFile
from txapns.credentials import Certificate
from txapns.errors import CredentialRefused, TokensFailed, TransportError, redact
from txapns.gateway import Gateway
from txapns.notification import Notification
from txapns.result import Batch, Rejection, Uncertain, Unsent

__all__ = ["send"]

_ALL_ACCEPTED, _SOME_NOT, _UNREACHED = 0, 1, 3

_REDRAW = 0.1  # seconds between two drawings of the progress bar
#: How many rows the table of failures has at most; ``--json`` lists all.
ROWS = 100


@click.command(cls=Command)
@gateway_option
@click.option(
    "--trust-root", type=InputFile(), metavar="FILE", help="Authorities to trust (PEM) instead of the platform's."
)
@credential_options
@click.option("--topic", help="The app's bundle ID; not needed with the certificate of one app.")
@click.option("--alert", metavar="TEXT", help="The text to show.")
@click.option("--payload", type=InputFile(), metavar="FILE", help="The whole payload, JSON.")
@click.option("--push-type", help="alert, background, voip and so on; left out, it is derived from the payload.")
@click.option("--priority", type=int, metavar="N", help="10: at once; 5: considerate of the device's battery; 1: low.")
@click.option(
    "--expiration",
    type=click.IntRange(0, 2**31 - 1),
    metavar="SECONDS",
    help="How long APNs keeps it and tries again; 0 for a single attempt.",
)
@click.option("--collapse-id", help="It replaces an earlier notification with the same ID.")
@click.option(
    "--tokens",
    type=InputFile(),
    required=True,
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
@click.option("--barrier", is_flag=True, help="Binary protocol: prove acceptance at once instead of waiting for it.")
@json_option("Write JSON lines, with whole tokens.")
def send(
    gateway: str,
    trust_root: IO[bytes] | None,
    credential: CredentialOptions,
    tokens: IO[bytes],
    timeout: float,
    proxy: str | None,
    barrier: bool,
    as_json: bool,
    **fields: Any,
) -> None:
    """
    Send one notification to many devices.

    It lists the notifications that were not accepted, by the number of the token's line. The exit status is 0 if all
    were accepted, 1 if some were not, 2 if an option, a file or the credential cannot be used, and 3 if the gateway
    could not be reached.
    """
    server = _gateway(gateway, trust_root, barrier)
    who = credential.read(lambda data, passphrase: Certificate.from_pem(data, passphrase=passphrase))
    notification = _notification(**fields)

    async def work(reactor: Any, stop: Deferred[None]) -> _Sent:
        client = APNSClient(reactor, who, server, timeout=timeout, proxy=proxy)
        return await _send(reactor, client, notification, TokenFile(reactor, tokens), stop)

    sent = run(work)
    _report(sent.batch, sent.seconds, as_json)
    if sent.complaint is not None:
        click.echo(f"Error: {sent.complaint}", err=True)
    raise SystemExit(_status(sent))


def _gateway(description: str, trust_root: IO[bytes] | None, barrier: bool) -> Gateway:
    gateway = Gateway.parse(description, trust_root=None if trust_root is None else trust_root.read())
    if barrier and gateway.protocol != "binary":
        raise click.UsageError("--barrier is for a gateway of the binary protocol.")
    return attrs.evolve(gateway, barrier=True) if barrier else gateway


def _notification(alert: str | None, payload: IO[bytes] | None, expiration: int | None, **fields: Any) -> Notification:
    if (alert is None) == (payload is None):
        raise click.UsageError("Give either --alert or --payload.")
    return Notification(
        alert=alert,
        payload=None if payload is None else utf8(payload.read()),
        # 0 is Apple's word for "try once", not a time from now.
        expiration=timedelta(seconds=expiration) if expiration else expiration,
        **fields,
    )


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
    reactor: Any, client: APNSClient, notification: Notification, tokens: TokenFile, stop: Deferred[None]
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
def _progress_bar(client: APNSClient, tokens: TokenFile) -> Iterator[None]:
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


def _report(batch: Batch, seconds: float, as_json: bool) -> None:
    """List what was not accepted, in the order of the lines, and write the summary."""
    counts = {
        "accepted": batch.accepted,
        "failed": len(batch.failed),
        "unsent": len(batch.unsent),
        "uncertain": len(batch.uncertain),
    }
    outcomes = sorted(batch.outcomes, key=attrgetter("identifier"))
    if as_json:
        for outcome in outcomes:
            print_json(_fields(outcome))
        print_json({"summary": {**counts, "seconds": round(seconds, 3)}})
        return
    if on_terminal():
        _print_table(outcomes)
    else:
        for outcome in outcomes:
            identifier, token, word, reason, advice = _cells(outcome)
            echo(f"line {identifier}, token {token}: {word}, {reason}. {advice}")
    rate = f" in {seconds:.1f} s, {batch.total / seconds:.0f}/s" if seconds else ""
    echo(", ".join(f"{count} {word}" for word, count in counts.items()) + rate)


def _fields(outcome: Rejection | Unsent | Uncertain) -> dict[str, Any]:
    """Write an outcome for a program."""
    rejection = outcome if isinstance(outcome, Rejection) else None
    timestamp = rejection.timestamp if rejection else None
    return {
        "identifier": outcome.identifier,
        "token": outcome.token,
        "outcome": _word(outcome),
        "status": rejection.status if rejection else None,
        "reason": rejection.reason if rejection else None,
        "timestamp": timestamp.isoformat() if timestamp else None,
        "error": None if isinstance(outcome, Rejection) else f"{type(outcome.error).__name__}: {outcome.error}",
    }


def _cells(outcome: Rejection | Unsent | Uncertain) -> list[str]:
    """Write an outcome for a person: line, shortened token, outcome, reason, what to do."""
    if isinstance(outcome, Rejection):
        reason, advice = outcome.reason or str(outcome.status), reasons.text(outcome.status, outcome.reason)
    else:
        reason, advice = type(outcome.error).__name__, str(outcome.error)
    cells = str(outcome.identifier), redact(outcome.token), _word(outcome), reason, advice
    return [printable(text) for text in cells]


def _word(outcome: Rejection | Unsent | Uncertain) -> str:
    return {Rejection: "failed", Unsent: "unsent", Uncertain: "uncertain"}[type(outcome)]


def _print_table(outcomes: list[Rejection | Unsent | Uncertain]) -> None:
    if outcomes:
        rows = [_cells(outcome) for outcome in outcomes[:ROWS]]
        print_table(("line", "token", "outcome", "reason", "what to do"), rows)
    if len(outcomes) > ROWS:
        echo(f"and {len(outcomes) - ROWS} more; --json lists all")
