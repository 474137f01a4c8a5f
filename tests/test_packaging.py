"""Tests for what decides whether an installed copy is complete."""

from __future__ import annotations

import sys

from twisted.trial.unittest import SynchronousTestCase

from tests import PROJECT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["PackagingTests"]


class PackagingTests(SynchronousTestCase):
    """The project's files against its metadata."""

    def test_every_package_is_listed(self) -> None:
        """A package that is not listed in pyproject.toml would be missing from the wheel."""
        metadata = tomllib.loads((PROJECT / "pyproject.toml").read_text())
        initialisers = (PROJECT / "txapns").rglob("__init__.py")
        packages = [".".join(path.parent.relative_to(PROJECT).parts) for path in initialisers]
        self.assertEqual(metadata["tool"]["setuptools"]["packages"], sorted([*packages, "twisted.plugins"]))

    def test_plugin_directory_is_no_package(self) -> None:
        """An ``__init__.py`` beside the plugin would hide Twisted itself."""
        self.assertEqual(list((PROJECT / "twisted").rglob("__init__.py")), [])

    def test_typed(self) -> None:
        """Type checkers read our annotations only where ``py.typed`` is."""
        self.assertTrue((PROJECT / "txapns" / "py.typed").exists())

    def test_metadata_has_one_home(self) -> None:
        """``setup.py`` is two lines, for tools that still ask for it; all else is in pyproject.toml."""
        self.assertEqual((PROJECT / "setup.py").read_text(), "from setuptools import setup\nsetup()\n")
