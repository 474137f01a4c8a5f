"""Tests for :mod:`txapns.daemon.operations.app_actions`; those of the admin endpoint submit the forms."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase
from twisted.web.template import flattenString

from txapns.daemon.operations.app_actions import actions
from txapns.daemon.operations.cells import Cell
from txapns.daemon.operations.health import AppOverview, Condition
from txapns.daemon.sending.context import AppState

__all__ = ["ActionTests"]


class ActionTests(SynchronousTestCase):
    """What can be done."""

    def section(
        self, condition: Condition = "working", dead: int = 0, *, rotates: bool = True, sides: Sequence[str] = ()
    ) -> str:
        """Write the section."""
        app = AppOverview("chess", condition, "", None, None, None, None, 0, None, AppState("chess"), dead)
        credentials = dict.fromkeys(sides or ("",), Cell("ABC123DEFG", note="key"))
        found = flattenString(None, actions(app, credentials, rotates=rotates))
        return self.successResultOf(found).decode()

    def test_buttons(self) -> None:
        """There is a button for what can be done now."""
        self.assertIn(">Pause<", self.section())
        self.assertIn(">Resume<", self.section("paused"))
        self.assertNotIn("dead letters", self.section())
        self.assertIn("At most 10,000 at a time", self.section(dead=1))

    def test_rotation(self) -> None:
        """The form says which credential it replaces, and each of its fields has a label."""
        form = self.section()
        self.assertIn("It replaces this one: ABC123DEFG (key).", form)
        for name in ("file", "pasted", "key_id", "team_id", "passphrase"):
            self.assertIn(f'<label for="{name}">', form)
        self.assertNotIn("<select", form)
        self.assertNotIn("<form", self.section(rotates=False).partition("is in the configuration")[2])

    def test_sides(self) -> None:
        """Of an app with two sides, the form asks which credential is replaced."""
        form = self.section(sides=("production", "sandbox"))
        self.assertIn('<label for="environment">', form)
        for side in ("production", "sandbox"):
            self.assertIn(f'<option value="{side}">{side}: ABC123DEFG (key)</option>', form)
