"""Checks that hold for every batch, and a way to run a command within a test."""

from __future__ import annotations

import gc
import warnings
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from typing import Any
from unittest import TestCase

from click.testing import CliRunner, Result

from txapns.command import main as cli
from txapns.result import Batch
from txapns.simulator.servers import Simulator

__all__ = ["check_answers", "check_batch", "invoke"]


def check_batch(case: TestCase, batch: Batch, tokens: Mapping[Hashable, str], simulator: Simulator) -> None:
    """
    Compare a batch with what the simulator recorded; see :func:`check_answers`.

    :param case: the test.
    :param batch: the outcome.
    :param tokens: what was sent: for each identifier a token in hexadecimal, all of them different.
    :param simulator: the servers, which record each notification.
    """
    received = simulator.inbox.received
    check_answers(case, batch, tokens, [(reception.token, reception.reason) for reception in received])


def check_answers(
    case: TestCase, batch: Batch, tokens: Mapping[Hashable, str], answers: Iterable[tuple[bytes, str | None]]
) -> None:
    """
    Compare a batch with what the servers recorded.

    Each token has one outcome. What counts as accepted was accepted exactly once; what counts as failed was rejected
    for that reason and never accepted; what is unsent was not accepted; what is uncertain was accepted once or not at
    all.

    :param case: the test.
    :param batch: the outcome.
    :param tokens: what was sent: for each identifier a token in hexadecimal, all of them different.
    :param answers: what the servers processed, in order: the token, and why it was rejected, or ``None``.
    """
    named = [*batch.failed, *batch.unsent, *batch.uncertain]
    case.assertEqual(batch.total, len(tokens))
    case.assertEqual(len(named), len(set(named)), "an identifier with two outcomes")
    case.assertLessEqual(set(named), set(tokens), "an identifier that was never given")
    said: defaultdict[bytes, list[str | None]] = defaultdict(list)
    for token, reason in answers:
        said[token].append(reason)
    for identifier, token in tokens.items():
        found = said[bytes.fromhex(token)]
        taken = found.count(None)
        if identifier in batch.failed:
            expected = (0, [batch.failed[identifier].reason])
            case.assertEqual((taken, found[-1:]), expected, f"{identifier} failed: {found}")
        elif identifier in batch.unsent:
            case.assertEqual(taken, 0, f"{identifier} is unsent: {found}")
        elif identifier in batch.uncertain:
            case.assertLessEqual(taken, 1, f"{identifier} is uncertain: {found}")
        else:
            case.assertEqual(taken, 1, f"{identifier} was accepted: {found}")


def invoke(*arguments: object, **options: Any) -> Result:
    """
    Run the command in this process.

    :param arguments: its arguments.
    :param options: as for click's ``CliRunner.invoke``.
    :returns: what came of it.
    """
    result = CliRunner().invoke(cli.main, [*map(str, arguments)], **options)
    # Where a later option is at fault, click leaves files open that earlier ones named. That is of no consequence for a
    # command, which ends; here it would be a warning in some later test.
    result.exc_info = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    return result
