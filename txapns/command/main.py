"""
The ``txapns`` command: send notifications from the shell, or play Apple's servers on this machine.

``txapns send`` exits with

=  ============================================================================================
0  every notification was accepted
1  some were refused or not sent, or nobody can tell; they are listed
2  the command line, a file it names or the credential cannot be used; nothing was accepted
3  the gateway could not be reached; nothing was sent
=  ============================================================================================

It writes what did not go well to standard output, and a summary as the last line: a table on a terminal, plain lines
elsewhere, JSON lines with ``--json``. The progress bar is drawn on standard error, and on a terminal only.
"""

from __future__ import annotations

import importlib.util
import json
import os
import stat
import sys
from codecs import getincrementaldecoder
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from io import IncrementalNewlineDecoder
from operator import attrgetter
from pathlib import Path
from typing import IO, Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError, ConnectionDone
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure
from zope.interface import implementer

from txapns import __version__, reasons
from txapns._running import run
from txapns._texts import encoding_of, first_line, utf8
from txapns.client import APNSClient
from txapns.credentials import Certificate, Credential, ProviderToken
from txapns.errors import CredentialRefused, TokensFailed, TransportError, redact
from txapns.gateway import Gateway
from txapns.notification import Notification
from txapns.result import Batch, Rejection, Uncertain, Unsent
from txapns.simulator.faults import FAULTS
from txapns.simulator.service import FLAGS, NUMBERS, SimulatorService, read_dead

try:
    import click
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Table
    from rich.text import Text

    from txapns.command.streams import UNUSABLE, InputFile, Unusable, give_up_output, in_a_sentence, open_streams
except ModuleNotFoundError:
    sys.stderr.write('The txapns command needs click and rich: pip install "txapns[cli]"\n')
    raise SystemExit(2) from None

__all__ = ["main"]


ALL_ACCEPTED, SOME_NOT, UNREACHED = 0, 1, 3

#: How many octets of the tokens' file are read at a time.
CHUNK = 65_536
# A byte order mark, as it stands where a file begins that was put behind another.
_MARK = "\ufeff"
#: How often the progress bar is drawn, in seconds.
REDRAW = 0.1
#: How many rows the table of failures has at the most: who wants to see more takes the JSON.
ROWS = 100

# The gateway's commands, and their names in txapns.command.daemon.
_GATEWAY = {"apps": "apps", "check-config": "check_config", "keys": "keys", "queue": "queue", "serve": "serve"}

_FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)


class _Group(click.Group):
    """
    The commands here, and those of the gateway, which are imported when asked for.

    Sending needs nothing of the gateway, neither its libraries nor the time to import it.
    """

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run the command; what it cannot write is told in a sentence, too."""
        try:
            return super().main(*arguments, **options)
        except OSError as error:
            click.echo(f"Error: standard output cannot be written to: {error.strerror}", err=True)
            raise SystemExit(SOME_NOT) from None
        finally:
            give_up_output()

    def list_commands(self, context: click.Context) -> list[str]:
        """Name all that can be used."""
        return sorted([*super().list_commands(context), *(_GATEWAY if importlib.util.find_spec("msgspec") else ())])

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Find a command."""
        if name not in _GATEWAY:
            return super().get_command(context, name)
        try:
            from txapns.command import daemon as commands
        except ModuleNotFoundError as error:
            raise Unusable(f'The daemon needs {error.name}: pip install "txapns[daemon]"') from None
        command: click.Command = getattr(commands, _GATEWAY[name])
        return command


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="txapns", message="%(prog)s %(version)s")
def main() -> None:
    """Send Apple push notifications, or play Apple's servers on this machine."""
    open_streams()


def _print_json(value: dict[str, Any]) -> None:
    click.echo(json.dumps(value))


# simulate


def _dead(context: click.Context, parameter: click.Parameter, path: Path | None) -> list[bytes]:
    try:
        return [] if path is None else read_dead(path)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@main.command(
    params=[
        *(
            click.Option(
                [f"--{number.name}"],
                type=click.IntRange(number.least, number.most),
                default=number.default,
                show_default=True,
                metavar="N",
                help=number.help,
            )
            for number in NUMBERS
        ),
        *(click.Option([f"--{name}"], is_flag=True, help=words) for name, words in FLAGS.items()),
    ]
)
@click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    metavar="DIR",
    help="The directory to write credentials and ports into.",
)
@click.option(
    "--dead", type=_FILE, callback=_dead, metavar="FILE", help="Tokens whose devices are gone, one hex token a line."
)
@click.option("--topic", default="com.example.app", show_default=True, help="The app's bundle id.")
@click.option(
    "--fault",
    type=click.Choice(list(FAULTS)),
    metavar="NAME",
    help=f"What the binary server does wrong: {', '.join(FAULTS)}.",
)
def simulate(**options: Any) -> None:
    """
    Play Apple's servers on loopback until a signal ends it.

    When it listens, it prints one line of JSON with the ports and the
    names of the files in the state directory; at its end one with what it received, accepted and rejected.
    """

    async def work(reactor: Any, asked: Deferred[None]) -> dict[str, Any]:
        service = SimulatorService.from_options(reactor, **options)
        service.startService()
        _print_json({"ready": True, **service.description()})
        await asked
        await service.stopService()
        return service.simulator.counters()

    try:
        with in_a_sentence():
            counters = run(work)
    except CannotListenError as error:
        raise Unusable(str(error)) from None
    _print_json(counters)


# send


@main.command()
@click.option(
    "--gateway",
    default="production",
    show_default=True,
    help="production, sandbox, http2:host=NAME:port=N or binary:host=NAME:port=N.",
)
@click.option("--trust-root", type=_FILE, help="Authorities to trust (PEM) instead of the platform's.")
@click.option("--certificate", type=_FILE, help="A client certificate with its key, PEM or PKCS#12.")
@click.option("--key", type=_FILE, help="A signing key (.p8) for provider tokens.")
@click.option("--key-id", help="The signing key's identifier.")
@click.option("--team-id", help="The team's identifier.")
@click.option(
    "--passphrase-file", type=_FILE, help="Its first line opens the certificate or key; or set TXAPNS_PASSPHRASE."
)
@click.option("--topic", help="The app's bundle id; not needed with the certificate of one app.")
@click.option("--alert", metavar="TEXT", help="The text to show.")
@click.option("--payload", type=_FILE, help="The whole payload, JSON.")
@click.option("--push-type", help="alert, background, voip and so on; left out, the payload tells.")
@click.option("--priority", type=int, help="10 for at once, 5 considerate of the device's power, 1 for low.")
@click.option(
    "--expiration",
    type=click.IntRange(0, 2**31 - 1),
    metavar="SECONDS",
    help="How long APNs stores it and tries again; 0 for a single attempt.",
)
@click.option("--collapse-id", help="It replaces an earlier notification of the same id.")
@click.option(
    "--tokens",
    type=InputFile(),
    required=True,
    help="One hexadecimal device token a line; - for standard input. Blank lines and # comments are skipped.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, 3_600, min_open=True),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long connecting, an answer, or waiting without progress may take.",
)
@click.option(
    "--proxy",
    metavar="URL",
    help="Go through an HTTP proxy: http://host:port, or environment, for what HTTPS_PROXY says.",
)
@click.option("--barrier", is_flag=True, help="Binary protocol: prove acceptance at once instead of waiting for it.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON lines, with whole tokens.")
def send(
    gateway: str,
    trust_root: Path | None,
    certificate: Path | None,
    key: Path | None,
    key_id: str | None,
    team_id: str | None,
    passphrase_file: Path | None,
    topic: str | None,
    alert: str | None,
    payload: Path | None,
    push_type: str | None,
    priority: int | None,
    expiration: int | None,
    collapse_id: str | None,
    tokens: IO[bytes],
    timeout: float,
    proxy: str | None,
    barrier: bool,
    as_json: bool,
) -> None:
    """
    Send one notification to many devices, and list those it did not go to by the numbers of their lines.

    It exits with 0 if all were accepted, 1 if some were not, 2 if an option, a file or the credential cannot be used,
    and 3 if the gateway could not be reached.
    """
    with in_a_sentence():
        server = _gateway(gateway, trust_root, barrier)
        credential = _credential(certificate, key, key_id, team_id, passphrase_file)
        notification = Notification(
            alert=alert,
            payload=_payload(alert, payload),
            topic=topic,
            push_type=push_type,
            priority=priority,
            # 0 is Apple's word for "try once", not a time from now.
            expiration=timedelta(seconds=expiration) if expiration else expiration,
            collapse_id=collapse_id,
        )

        async def work(reactor: Any, asked: Deferred[None]) -> _Sent:
            client = APNSClient(reactor, credential, server, timeout=timeout, proxy=proxy)
            return await _send(reactor, client, notification, _Lines(reactor, tokens), asked)

        sent = run(work)
    _report(sent.batch, sent.seconds, as_json)
    if sent.complaint is not None:
        click.echo(f"Error: {sent.complaint}", err=True)
    raise SystemExit(_status(sent))


def _gateway(description: str, trust_root: Path | None, barrier: bool) -> Gateway:
    gateway = Gateway.parse(description, trust_root=None if trust_root is None else trust_root.read_bytes())
    if barrier and gateway.protocol != "binary":
        raise click.UsageError("--barrier is for a gateway of the binary protocol.")
    return attrs.evolve(gateway, barrier=True) if barrier else gateway


def _credential(
    certificate: Path | None, key: Path | None, key_id: str | None, team_id: str | None, passphrase_file: Path | None
) -> Credential:
    if (certificate is None) == (key is None):
        raise click.UsageError("Give either --certificate or --key.")
    passphrase: str | bytes | None = os.environ.get("TXAPNS_PASSPHRASE")
    if passphrase_file is not None:
        passphrase = first_line(passphrase_file.read_bytes())
    if certificate is not None:
        return Certificate.from_file(certificate, passphrase)
    if key is None or key_id is None or team_id is None:
        raise click.UsageError("--key needs --key-id and --team-id.")
    return ProviderToken.from_file(key, key_id, team_id, passphrase=passphrase)


def _payload(alert: str | None, payload: Path | None) -> bytes | None:
    if (alert is None) == (payload is None):
        raise click.UsageError("Give either --alert or --payload.")
    return None if payload is None else utf8(payload.read_bytes())


# The tokens


@implementer(IReadDescriptor)
class _Lines:
    """
    The device tokens in a file, each with the number of its line, read only as far as they are asked for.

    The file may be a pipe that is silent for long, so the reactor tells when there is something to read.

    :param reactor: the reactor.
    :param file: the file, of which nothing has been read; only its descriptor is used.

    :ivar number: the number of the last line that was given out or skipped.
    :ivar octets: how many octets of the file have been dealt with.
    :ivar given: how many tokens have been given out.
    """

    def __init__(self, reactor: Any, file: IO[bytes]) -> None:
        self.number = 0
        self.octets = 0
        self.given = 0
        self._reactor = reactor
        self._file = file
        self._arriving: Deferred[bytes] = Deferred()
        self._ended = False

    @property
    def size(self) -> int | None:
        """How many octets the file has; ``None`` if that shows only at its end."""
        status = os.fstat(self._file.fileno())
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def end(self) -> None:
        """Give out no more."""
        self._ended = True
        self._reactor.removeReader(self)
        self._arrived(b"")

    async def __aiter__(self) -> AsyncIterator[tuple[int, str]]:
        """Give pairs of line number and token; blank lines and comments count as lines."""
        rest = ""
        chunk = await self._beginning()
        characters = getincrementaldecoder(encoding_of(chunk))("backslashreplace")
        decoder = IncrementalNewlineDecoder(characters, translate=True)
        while chunk:
            *lines, rest = (rest + decoder.decode(chunk)).split("\n")
            for pair in self._tokens(lines):
                yield pair
            self.octets += len(chunk)
            chunk = await self._read()
        for pair in self._tokens([rest + decoder.decode(b"", True)]):  # the last line may have no end
            yield pair

    async def _beginning(self) -> bytes:
        """Give as much as tells how the text is encoded, or all there is."""
        beginning = b""
        while len(beginning) < 4 and (chunk := await self._read()):
            beginning += chunk
        return beginning

    def _tokens(self, lines: list[str]) -> Iterator[tuple[int, str]]:
        for line in lines:
            if self._ended:
                return
            self.number += 1
            token = line.replace(_MARK, "").strip()
            if token and not token.startswith("#"):
                self.given += 1
                yield self.number, token

    def _read(self) -> Deferred[bytes]:
        self._arriving = Deferred()
        if self._ended:
            self._arrived(b"")
        elif self.size is None:
            self._reactor.addReader(self)
        else:
            self.doRead()  # a regular file keeps nobody waiting, and not every reactor would take it
        return self._arriving

    def _arrived(self, result: bytes | Failure) -> None:
        if not self._arriving.called:
            self._arriving.callback(result)

    # IReadDescriptor

    def fileno(self) -> int:
        """The file's descriptor."""
        return self._file.fileno()

    def logPrefix(self) -> str:
        """What the reactor calls it in its log."""
        return "tokens"

    def doRead(self) -> None:
        """There is something to read, or the end."""
        self._reactor.removeReader(self)
        try:
            result: bytes | Failure = os.read(self.fileno(), CHUNK)
        except OSError:
            result = Failure()
        self._arrived(result)

    def connectionLost(self, reason: Failure) -> None:
        """Whoever wrote to the pipe closed it, or the reactor cannot watch such a file."""
        self._arrived(b"" if reason.check(ConnectionDone) else reason)


# The sending


@attrs.frozen
class _Sent:
    """What became of it: the batch, how long it took, and what kept us from reading all tokens."""

    batch: Batch
    seconds: float
    complaint: str | None


async def _send(
    reactor: Any, client: APNSClient, notification: Notification, lines: _Lines, asked: Deferred[None]
) -> _Sent:
    def interrupt(_: None) -> None:
        lines.end()
        client.close()

    asked.addCallback(interrupt)
    complaint = None
    began = reactor.seconds()
    with _progress_bar(client, lines):
        try:
            batch = await client.send(notification, lines)
        except TokensFailed as error:
            assert isinstance(error.batch, Batch)
            batch = error.batch
            complaint = f"the tokens after line {lines.number} could not be read: {error.__cause__}"
    if asked.called:
        complaint = f"interrupted; the tokens after line {lines.number} were not read"
    seconds = reactor.seconds() - began
    await client.close()
    return _Sent(batch, seconds, complaint)


def _status(sent: _Sent) -> int:
    """Find the exit status."""
    batch = sent.batch
    if batch.accepted == batch.total:
        return ALL_ACCEPTED if sent.complaint is None else SOME_NOT
    if batch.accepted:
        return SOME_NOT
    if _credential_refused(batch):
        return UNUSABLE
    unreached = any(isinstance(left.error, TransportError) for left in batch.unsent.values())
    return UNREACHED if unreached and not batch.failed and not batch.uncertain else SOME_NOT


def _credential_refused(batch: Batch) -> bool:
    """Whether it was the credential that the gateway refused, with the first notification or with none."""
    actions = {reasons.action(rejection.status, rejection.reason) for rejection in batch.failed.values()}
    errors = (left.error for left in batch.unsent.values())
    return reasons.Action.CREDENTIAL in actions or any(isinstance(error, CredentialRefused) for error in errors)


@contextmanager
def _progress_bar(client: APNSClient, lines: _Lines) -> Iterator[None]:
    """Show on a terminal how far the sending has come."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    columns = BarColumn(), TextColumn("{task.fields[state]}", markup=False), TimeElapsedColumn()
    with Progress(*columns, console=console, auto_refresh=False, transient=True) as progress:
        task = progress.add_task("", total=lines.size, state="")

        def draw() -> None:
            status = client.status()
            state = f"{lines.given - status.in_flight} sent, {status.in_flight} under way"
            if status.connections[0] != "ready":
                state += f", {status.connections[0]}"
            progress.update(task, completed=lines.octets, state=state, refresh=True)

        drawing = LoopingCall(draw)
        drawing.start(REDRAW)
        try:
            yield
        finally:
            drawing.stop()


# The report


def _report(batch: Batch, seconds: float, as_json: bool) -> None:
    """Write what was not accepted, in the order of its lines, and the summary."""
    counts = {
        "accepted": batch.accepted,
        "failed": len(batch.failed),
        "unsent": len(batch.unsent),
        "uncertain": len(batch.uncertain),
    }
    outcomes: list[Rejection | Unsent | Uncertain] = sorted(
        [*batch.failed.values(), *batch.unsent.values(), *batch.uncertain.values()], key=attrgetter("identifier")
    )
    if as_json:
        for outcome in outcomes:
            _print_json(_fields(outcome))
        _print_json({"summary": {**counts, "seconds": round(seconds, 3)}})
        return
    console = Console()
    if console.is_terminal:
        _print_table(console, outcomes)
    else:
        for outcome in outcomes:
            identifier, token, word, reason, advice = _cells(outcome)
            click.echo(f"line {identifier}, token {token}: {word}, {reason}. {advice}")
    rate = f" in {seconds:.1f} s, {batch.total / seconds:.0f}/s" if seconds else ""
    click.echo(", ".join(f"{count} {word}" for word, count in counts.items()) + rate)


def _fields(outcome: Rejection | Unsent | Uncertain) -> dict[str, Any]:
    """Tell a program all about an outcome."""
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
    """Tell a person about an outcome: line, shortened token, outcome, reason, what to do."""
    if isinstance(outcome, Rejection):
        said = outcome.reason or str(outcome.status), reasons.text(outcome.status, outcome.reason)
    else:
        said = type(outcome.error).__name__, str(outcome.error)
    return [_printable(text) for text in (str(outcome.identifier), redact(outcome.token), _word(outcome), *said)]


def _word(outcome: Rejection | Unsent | Uncertain) -> str:
    return {Rejection: "failed", Unsent: "unsent", Uncertain: "uncertain"}[type(outcome)]


def _printable(text: str) -> str:
    """A server's words, or a file's, must not move the cursor or end the line."""
    return "".join(character if character.isprintable() else "�" for character in text)


def _print_table(console: Console, outcomes: list[Rejection | Unsent | Uncertain]) -> None:
    if outcomes:
        table = Table("line", "token", "outcome", "reason", "what to do")
        for outcome in outcomes[:ROWS]:
            table.add_row(*map(Text, _cells(outcome)))
        console.print(table)
    if len(outcomes) > ROWS:
        click.echo(f"and {len(outcomes) - ROWS} more; --json lists all")


if __name__ == "__main__":
    main()
