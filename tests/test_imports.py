"""Tests that the package is ordered: what imports what, and what is public."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from importlib.util import find_spec

from twisted.trial.unittest import SynchronousTestCase

import txapns
from tests import PROJECT
from tools.layers import SOURCES, draw, imports_of, layer_of, layers, tree_of

__all__ = ["DocumentationTests", "LayerTests", "PublicNamesTests", "SizeTests"]

#: What cannot be imported, because it needs what is not installed.
MISSING = set() if find_spec("sygnal") else {"txapns.sygnal"}
PUBLIC = [name for name in SOURCES if "._" not in name and name not in MISSING]


def defined_in(tree: ast.Module) -> dict[str, ast.stmt]:
    """Find what a module defines itself, by name."""
    found: dict[str, ast.stmt] = {}
    for statement in tree.body:
        if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found[statement.name] = statement
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            for target in targets:
                found.update({name.id: statement for name in ast.walk(target) if isinstance(name, ast.Name)})
    return found


def is_offered(name: str, statement: ast.stmt) -> bool:
    """Whether it is a public class or function."""
    return not name.startswith("_") and isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)


def documented(module: str, name: str) -> bool:
    """Tell whether a definition has a docstring, or, where it is a value, a comment that serves as one."""
    tree = tree_of(module)
    statement = defined_in(tree)[name]
    if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return bool(ast.get_docstring(statement))
    following = tree.body[tree.body.index(statement) + 1 :][:1]
    if following and isinstance(following[0], ast.Expr) and isinstance(following[0].value, ast.Constant):
        return True
    above = SOURCES[module].read_text(encoding="utf-8").splitlines()[: statement.lineno - 1]
    while above and re.match(r"[A-Z_]+ = ", above[-1]):
        above.pop()  # one comment may be for several values
    return bool(above) and above[-1].startswith("#:")


class LayerTests(SynchronousTestCase):
    """The layers in docs/architecture.rst."""

    def setUp(self) -> None:
        """Read them."""
        self.listed = {name: number for number, (_, names) in enumerate(layers()) for name in names}

    def test_complete(self) -> None:
        """Every module is in a layer, and what is listed is there."""
        for module in SOURCES:
            layer_of(module, self.listed)
        self.assertEqual(self.listed.keys() - SOURCES.keys(), set())

    def test_down(self) -> None:
        """A module imports only from its own layer and those below."""
        number = {module: layer_of(module, self.listed) for module in SOURCES}
        up = {
            f"{module} imports {other}"
            for module in SOURCES
            for other in imports_of(tree_of(module))
            if number[other] > number[module]
        }
        self.assertEqual(up, set())

    def test_no_circle(self) -> None:
        """No module imports itself by way of others."""
        try:
            tuple(TopologicalSorter({module: imports_of(tree_of(module)) for module in SOURCES}).static_order())
        except CycleError as error:
            self.fail(" imports ".join(reversed(error.args[1])))

    def test_every_kind_of_import(self) -> None:
        """Imports are found in every form, also within functions and for type checkers."""
        source = """
import txapns.errors
import txapns._network.tls as tls, os
from txapns import reasons, Batch
from txapns.wire.frames import ErrorPacket
if TYPE_CHECKING:
    from txapns.client import APNSClient
def later():
    from txapns._session.pool import Pool
"""
        names = ("errors", "_network.tls", "reasons", "wire.frames", "client", "_session.pool")
        expected = {"txapns", *(f"txapns.{name}" for name in names)}
        self.assertEqual(imports_of(ast.parse(source)), expected)

    def test_picture(self) -> None:
        """The picture shows the imports there are."""
        picture = (PROJECT / "docs/layers.svg").read_text(encoding="utf-8")
        self.assertTrue(draw() == picture, "run: python tools/layers.py > docs/layers.svg")


class SizeTests(SynchronousTestCase):
    """What fits on a screen."""

    def test_modules(self) -> None:
        """No module is longer than 600 lines."""
        long = {name for name, path in SOURCES.items() if len(path.read_text(encoding="utf-8").splitlines()) > 600}
        self.assertEqual(long, set())

    def test_functions(self) -> None:
        """No function is longer than 50 lines."""
        long = {
            f"{module}.{node.name}"
            for module in SOURCES
            for node in ast.walk(tree_of(module))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (node.end_lineno or 0) - node.lineno >= 50
        }
        self.assertEqual(long, set())


class PublicNamesTests(SynchronousTestCase):
    """``__all__``."""

    def test_modules(self) -> None:
        """It lists all public classes and functions that a module defines, and nothing that it does not define."""
        for name in PUBLIC:
            if SOURCES[name].name == "__init__.py":
                continue
            public = set(getattr(importlib.import_module(name), "__all__", ()))
            defined = defined_in(tree_of(name))
            offered = {each for each, statement in defined.items() if is_offered(each, statement)}
            self.assertEqual(offered - public, set(), f"{name}: missing in __all__")
            self.assertEqual(public - set(defined), set(), f"{name}: in __all__, but not defined")

    def test_packages(self) -> None:
        """That of a package lists all that it imports to be found there."""
        for name in PUBLIC:
            if SOURCES[name].name != "__init__.py":
                continue
            package = importlib.import_module(name)
            imported = {
                alias.asname or alias.name
                for statement in ast.walk(tree_of(name))
                if isinstance(statement, ast.ImportFrom) and statement.module not in ("importlib", "typing")
                for alias in statement.names
            }
            version = {"__version__"} if name == "txapns" else set()
            self.assertEqual(set(getattr(package, "__all__", ())), imported | version, name)

    def test_imported_late(self) -> None:
        """A name of ``txapns`` that is imported when it is asked for comes from where type checkers see it."""
        for_checkers = next(each for each in tree_of("txapns").body if isinstance(each, ast.If))
        seen = {
            name.name: statement.module
            for statement in for_checkers.body
            if isinstance(statement, ast.ImportFrom)
            for name in statement.names
        }
        self.assertEqual(txapns._MODULES, seen)
        for name, module in txapns._MODULES.items():
            self.assertIs(getattr(txapns, name), getattr(importlib.import_module(module), name))
        self.assertLessEqual(set(txapns.__all__), set(dir(txapns)))
        self.assertRaises(AttributeError, getattr, txapns, "Apnsclient")

    def test_not_imported(self) -> None:
        """Programs that import ``txapns`` or ``txapns.aio`` wait for Twisted when they make a client, not before."""
        program = """
import sys
import txapns
from txapns.aio import APNSClient, Batch, Session
from txapns import Accepted, Notification, Reason
print(sorted({name.partition(".")[0] for name in sys.modules} & {"twisted", "zope", "OpenSSL", "cryptography"}))
txapns.APNSClient
print("twisted.internet.reactor" in sys.modules, "txapns.feedback_poller" in sys.modules)
"""
        printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        self.assertEqual(printed, "[]\nFalse False\n")

    def test_no_name_twice(self) -> None:
        """No name is listed twice."""
        for name in PUBLIC:
            public = list(getattr(importlib.import_module(name), "__all__", ()))
            self.assertEqual(len(public), len(set(public)), name)


class DocumentationTests(SynchronousTestCase):
    """Docstrings."""

    def test_modules(self) -> None:
        """Every module begins with one."""
        for name in SOURCES:
            self.assertTrue(ast.get_docstring(tree_of(name)), name)

    def test_public_names(self) -> None:
        """Every name in ``__all__`` has one, or is a value with a comment that begins with ``#:``."""
        for name in PUBLIC:
            if SOURCES[name].name != "__init__.py":
                for each in importlib.import_module(name).__all__:
                    self.assertTrue(documented(name, each), f"{name}.{each}")

    def test_methods(self) -> None:
        """So has every public method and property of the classes that ``txapns`` offers."""
        for name in txapns.__all__:
            offered = getattr(txapns, name)
            if inspect.isclass(offered) and offered.__module__.startswith("txapns"):
                for each, member in vars(offered).items():
                    function = getattr(member, "__func__", getattr(member, "fget", member))
                    if inspect.isfunction(function) and not each.startswith("_"):
                        self.assertTrue(function.__doc__, f"{name}.{each}")
