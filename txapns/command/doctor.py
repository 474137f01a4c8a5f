"""
``txapns doctor``: what is wrong on the way to Apple.

The command exits with

=  ==================================================================
0  all that was asked for works
1  something does not work; it is listed, with what to do
2  the command line, a file it names or the credential cannot be used
=  ==================================================================
"""

from __future__ import annotations

from collections import Counter
from typing import IO, Any

import click
from twisted.internet.defer import CancelledError, Deferred

from txapns._network.proxy import Proxy
from txapns._running import run
from txapns.command.options import CredentialOptions, credential_options, json_option
from txapns.command.streams import Command, InputFile, Unusable, content_of, echo
from txapns.command.tables import print_json, printable
from txapns.credentials import Certificate
from txapns.doctor.examination import examine
from txapns.doctor.findings import Finding, Level
from txapns.errors import InvalidGateway
from txapns.gateway import Gateway

__all__ = ["doctor"]

_APPLE = ("production", "sandbox")


@click.command(cls=Command)
@click.option(
    "--gateway",
    "gateways",
    multiple=True,
    help="Apple's server: production, sandbox or http2:host=NAME:port=N; several times for several. By default both of "
    "Apple's, of which one may be enough.",
)
@click.option(
    "--trust-root", type=InputFile(), metavar="FILE", help="Authorities to trust (PEM) instead of the platform's."
)
@credential_options
@click.option("--topic", "topics", multiple=True, help="The app's bundle ID; by default those of the certificate.")
@click.option(
    "--push-type",
    "push_types",
    multiple=True,
    help="A push type that must work; by default all are tried, of which one may be enough.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, 3_600, min_open=True),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long each step may take.",
)
@click.option(
    "--proxy",
    metavar="URL",
    help="Connect through an HTTP proxy: http://host:port, or environment for the one in HTTPS_PROXY.",
)
@json_option("Write JSON lines, one for each finding.")
def doctor(
    gateways: tuple[str, ...],
    trust_root: IO[bytes] | None,
    credential: CredentialOptions,
    topics: tuple[str, ...],
    push_types: tuple[str, ...],
    timeout: float,
    proxy: str | None,
    as_json: bool,
) -> None:
    """
    Say what is wrong on the way to Apple.

    It also says what works with a credential. It asks with device tokens made up at random, so nothing reaches a
    device. The exit status is 0 if all works, 1 if something does not, and 2 if an option, a file or the credential
    cannot be used.
    """
    root = None if trust_root is None else content_of(trust_root)
    who = credential.read(lambda data, passphrase: Certificate.from_pem(data, passphrase=passphrase))
    if not topics and not getattr(who, "topics", ()):
        raise click.UsageError("Give --topic, the app's bundle ID: the credential names none.")
    named = [Gateway.parse(each, trust_root=root, proxy=proxy) for each in gateways or _APPLE]
    options: dict[str, Any] = {"topics": topics, "push_types": push_types, "timeout": timeout}
    options |= {"any_gateway": not gateways, "unused_proxy": _unused_proxy() if proxy is None else None}

    async def work(reactor: Any, stop: Deferred[None]) -> list[Finding]:
        examined = Deferred.fromCoroutine(examine(reactor, who, named, **options))
        stop.addCallback(lambda _: examined.cancel())
        return await examined

    try:
        findings = run(work)
    except CancelledError:
        raise Unusable("interrupted") from None
    _report(findings, as_json)
    raise SystemExit(1 if any(each.level is Level.FAULT for each in findings) else 0)


def _unused_proxy() -> Proxy | None:
    try:
        return Proxy.from_environment()
    except InvalidGateway:
        return None  # it is not used


def _report(findings: list[Finding], as_json: bool) -> None:
    counts = Counter(each.level.value for each in findings)
    if as_json:
        for each in findings:
            print_json(each.to_dict())
        print_json({"summary": {level.value: counts[level.value] for level in Level}})
        return
    for gateway in dict.fromkeys(each.gateway for each in findings):
        echo(gateway or "this machine")
        for each in findings:
            if each.gateway == gateway:
                echo(f"  {each.level.value:<8}{each.check:<12}{printable(each.message)}")
                if each.advice:
                    echo(f"{'':22}-> {printable(each.advice)}")
    echo(", ".join(f"{counts[level.value]} {level.value}" for level in Level))
