"""How commands tell the findings of :mod:`txapns.devices`: a line for each, or JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from txapns.command.streams import echo
from txapns.command.tables import print_json, printable
from txapns.devices import Finding, Grade, Severity

__all__ = ["in_words", "print_findings", "serious", "tally"]


def print_findings(source: str, findings: Sequence[Finding], as_json: bool) -> None:
    """
    Write what was found in one push.

    :param source: where the push is from.
    :param findings: what was found; if nothing, only JSON says so.
    """
    if as_json:
        print_json({"source": source, "findings": [finding.to_dict() for finding in findings]})
        return
    for finding in findings:
        echo(printable(f"{source}: {in_words(finding)}"))


def in_words(finding: Finding) -> str:
    """Write a finding: its severity, where it is, the sentence, its code, and the source of the fact."""
    where = f"{finding.path}: " if finding.path else ""
    grade = "" if finding.grade is Grade.DOCUMENTED else f"{finding.grade.label}: "
    return f"{finding.severity.value}: {where}{finding.message} [{finding.code}; {grade}{finding.source}]"


def serious(findings: Iterable[Finding]) -> bool:
    """Tell whether something is worse than a hint."""
    return any(finding.severity is not Severity.HINT for finding in findings)


def tally(findings: Iterable[Finding]) -> str:
    """Count findings by their severity."""
    counts = Counter(finding.severity for finding in findings)
    return ", ".join(f"{counts[each]} {each.value}{'' if counts[each] == 1 else 's'}" for each in Severity)
