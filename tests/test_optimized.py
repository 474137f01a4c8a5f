"""``python -O`` leaves ``assert`` out: nothing that the package does may depend on one."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests import PROJECT

__all__ = ["AssertTests", "OptimizedTests"]


#: What is run without assertions: what decides about outcomes, and who may do what.
TESTS = [
    f"tests/{name}.py"
    for name in (
        "wire/test_unconfirmed",
        "daemon/faces/test_callers",
        "daemon/test_keys",
        "daemon/faces/native/test_face",
        "daemon/faces/native/test_notifications",
        "daemon/sending/test_settling",
    )
]


def is_for_types(test: ast.expr) -> bool:
    """Whether an assertion only tells a type checker what is known: that something is there, or of which type."""
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        return all(map(is_for_types, test.values))
    if isinstance(test, ast.Call):
        return isinstance(test.func, ast.Name) and test.func.id == "isinstance" and is_plain(test.args[0])
    if not isinstance(test, ast.Compare):
        return False
    right = test.comparators[0]
    is_there = isinstance(test.ops[0], ast.IsNot) and isinstance(right, ast.Constant) and right.value is None
    return is_there and is_plain(test.left)


def is_plain(expression: ast.expr) -> bool:
    """Whether this is a name or an attribute of one, so that looking at it does nothing."""
    return isinstance(expression, ast.Name) or (isinstance(expression, ast.Attribute) and is_plain(expression.value))


def assertions() -> Iterator[tuple[Path, ast.Assert]]:
    """Find all assertions in the package."""
    for path in sorted((PROJECT / "txapns").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Assert):
                yield path, node


class AssertTests(SynchronousTestCase):
    """The assertions that there are."""

    def test_for_types(self) -> None:
        """Each only tells a type checker what is known already, and has no words for anybody else."""
        wrong = [
            f"{path.relative_to(PROJECT)}:{node.lineno}"
            for path, node in assertions()
            if node.msg is not None or not is_for_types(node.test)
        ]
        self.assertEqual(wrong, [])

    def test_others(self) -> None:
        """One that compares or does something else is found."""
        for text in ("a == b", "a", "a is None", "f() is not None", "isinstance(f(), int)", "a is not None or b"):
            self.assertFalse(is_for_types(ast.parse(text, mode="eval").body), text)


@pytest.mark.campaign
class OptimizedTests(SynchronousTestCase):
    """The package without its assertions."""

    def test_the_same(self) -> None:
        """A part of these tests passes under ``python -O``."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        options = ["-q", "-p", "no:cacheprovider"]
        options += ["--basetemp", str(Path(self.mktemp()).absolute()), "-W", "ignore::pytest.PytestConfigWarning"]
        done = subprocess.run(
            [sys.executable, "-O", "-m", "pytest", *options, *TESTS],
            cwd=PROJECT,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
        )
        self.assertEqual(done.returncode, 0, done.stdout[-5_000:] + done.stderr[-1_000:])
