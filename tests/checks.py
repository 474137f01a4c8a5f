"""What holds for every batch, whatever the servers did to it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping
from unittest import TestCase

from txapns.result import Batch
from txapns.simulator.servers import Simulator

__all__ = ["check_batch"]


def check_batch(case: TestCase, batch: Batch, tokens: Mapping[Hashable, str], simulator: Simulator) -> None:
    """
    Hold a batch against what the servers recorded.

    Each token has one outcome; what counts as accepted was taken exactly once, what counts as failed was refused for
    the reason given and never taken, what is unsent was not taken, and what is uncertain was taken once or not at all.

    :param case: the test.
    :param batch: the outcome.
    :param tokens: what was sent: for each identifier a token in hexadecimal, all of them different.
    :param simulator: the servers, which remember each notification.
    """
    named = [*batch.failed, *batch.unsent, *batch.uncertain]
    case.assertEqual(batch.total, len(tokens))
    case.assertEqual(len(named), len(set(named)), "an identifier with two outcomes")
    case.assertLessEqual(set(named), set(tokens), "an identifier that was never given")
    said: defaultdict[bytes, list[str | None]] = defaultdict(list)
    for reception in simulator.devices.received:
        said[reception.token].append(reception.reason)
    for identifier, token in tokens.items():
        answers = said[bytes.fromhex(token)]
        taken = answers.count(None)
        if identifier in batch.failed:
            found = (taken, answers[-1:])
            case.assertEqual(found, (0, [batch.failed[identifier].reason]), f"{identifier} failed: {answers}")
        elif identifier in batch.unsent:
            case.assertEqual(taken, 0, f"{identifier} is unsent: {answers}")
        elif identifier in batch.uncertain:
            case.assertLessEqual(taken, 1, f"{identifier} is uncertain: {answers}")
        else:
            case.assertEqual(taken, 1, f"{identifier} was accepted: {answers}")
