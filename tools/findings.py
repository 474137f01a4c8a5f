#!/usr/bin/env python3
"""
The reference of all findings, made of the rules themselves.

usage: python tools/findings.py > docs/findings.rst

The number of rules goes to standard error.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from itertools import groupby

from txapns.devices import Grade, Severity
from txapns.devices.rules import RULES, Rule
from txapns.devices.rules.refusal import Refusal

__all__ = ["reference"]

_HEAD = """\
Findings
========

..
   Made by tools/findings.py; change the rules in txapns/devices/rules instead.

There are {count} rules for what is wrong with a push, or odd. ``txapns lint``, :code:`txapns.lint()` and the inbox of
the simulator tell what they find, and nothing is kept from being sent.

- An *error*: Apple refuses the push. {error} rules.
- A *warning*: the device ignores the push, or part of it, or changes what it shows. {warning} rules.
- A *hint*: it works, and may not be what was meant. {hint} rules.

Apple documents less than one would like. So each rule says how its fact is known: it is *documented* by Apple;
*reported* by several of its users, or in a *single report*; or it is *unknown*: Apple does not say, or sources
disagree. What follows is the title of Apple's page, or the name of a report: ``owner/project#number`` is an issue on
GitHub.

An ellipsis stands for the value that was found. After the message of an error stands Apple's answer, or, where Apple
does not say which one it is, that of the simulator. Where a rule needs more than the push to look at, this is said in
parentheses.
"""
_NEEDS = {
    "device": "the device",
    "credential": "the credential",
    "environment": "the environment",
    "now": "the time",
    "token": "the token",
}


def _title(rule: Rule) -> str:
    """Find the title of the section of a rule: what the docstring of its module says the rules are on."""
    text = (sys.modules[rule.check.__module__].__doc__ or "").strip().removeprefix("Rules on ")
    title = text.partition(":")[0].partition(",")[0].rstrip(".")
    return title[0].upper() + title[1:]


def _facts(rule: Rule) -> str:
    """Say for which pushes a rule is, and what it needs."""
    kinds = ", ".join(rule.types) or "all"
    needs = f" ({' and '.join(_NEEDS[each] for each in rule.needs)})" if rule.needs else ""
    return kinds + needs


def _rows(rules: Iterable[Rule]) -> Iterator[str]:
    yield "\n.. list-table::\n   :header-rows: 1\n   :widths: 24 12 18 46\n"
    yield "   * - Code\n     - Severity\n     - Pushes\n     - Message, and how the fact is known"
    for rule in rules:
        yield f"   * - ``{rule.code}``\n     - {rule.severity.value}\n     - {_facts(rule)}"
        answer = f" ({rule.answer.status} {rule.answer.reason})" if isinstance(rule, Refusal) else ""
        yield f"     - {rule.message.replace('{value}', '…')}{answer}\n\n       *{rule.grade.label}:* {rule.source}"


def reference() -> str:
    """Write the page."""
    rules = list(RULES.values())
    counts = {each.value: sum(rule.severity is each for rule in rules) for each in Severity}
    lines = [_HEAD.format(count=len(rules), **counts)]
    for title, group in groupby(rules, _title):
        lines += [title, "-" * len(title), *_rows(group), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(reference())
    grades = ", ".join(f"{sum(rule.grade is each for rule in RULES.values())} {each.value}" for each in Grade)
    sys.stderr.write(f"{len(RULES)} rules: {grades}\n")
