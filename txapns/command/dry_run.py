"""What ``txapns send --dry-run`` does in place of sending: it looks at the notification and at each token."""

from __future__ import annotations

import time
from typing import Any

import click
from twisted.internet.defer import Deferred

from txapns._linting import lint_with
from txapns._running import run
from txapns._session.tokens import device_of
from txapns.command.findings import print_findings, serious, tally
from txapns.command.outcomes import list_outcomes
from txapns.command.streams import echo
from txapns.command.tables import print_json
from txapns.command.token_file import TokenSource, no_tokens, tokens_from
from txapns.credentials import Credential
from txapns.errors import InvalidToken
from txapns.notification import Notification
from txapns.result import Unsent

__all__ = ["try_out"]


def try_out(notification: Notification, credential: Credential | None, tokens: TokenSource, as_json: bool) -> int:
    """
    Say what is wrong with a notification and with tokens, and send nothing.

    :param credential: what it would be sent with; ``None`` if that is not known.
    :param tokens: the tokens, or the file of them.
    :returns: the exit status.
    """

    async def work(reactor: Any, stop: Deferred[None]) -> tuple[int, list[Unsent], OSError | None]:
        file = tokens_from(reactor, tokens)
        stop.addCallback(lambda _: file.end())
        invalid: list[Unsent] = []
        try:
            async for number, token in file:
                try:
                    device_of(token)
                except InvalidToken as error:
                    invalid.append(Unsent(number, token, error, notification))
        except OSError as error:
            return file.given, invalid, error
        return file.given, invalid, None

    given, invalid, fault = run(work)
    if not given and fault is None:
        raise no_tokens(tokens)
    findings = lint_with(notification, credential, time.time())
    print_findings("notification", findings, as_json)
    list_outcomes(invalid, as_json)
    if as_json:
        print_json({"summary": {"tokens": given, "unsent": len(invalid)}})
    else:
        unsent = f", and {len(invalid)} could not" if invalid else ""
        echo(f"{tally(findings)}; {given - len(invalid)} could be sent{unsent}")
    if fault is not None:
        click.echo(f"Error: the tokens could not be read to the end: {fault}", err=True)
    return 1 if invalid or fault is not None or serious(findings) else 0
