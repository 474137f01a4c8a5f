"""Tests for :mod:`txapns.daemon.operations.management`; those of the admin endpoint say what comes of it."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.admin_world import AdminWorld
from tests.daemon.dispatch_world import AUTHORITY
from txapns.credentials import ProviderToken
from txapns.daemon.errors import Malformed
from txapns.daemon.operations.management import ACTIONS, Management
from txapns.daemon.values import Caller, Side, State
from txapns.simulator import Response

__all__ = ["ManagementTests"]


class ManagementTests(SynchronousTestCase):
    """What can be done with an app."""

    def setUp(self) -> None:
        """There is a daemon with one app."""
        self.world = AdminWorld()
        self.addCleanup(self.world.close)
        self.management = Management(self.world.apps, self.world.outcome_log, self.world.dispatcher.wake)

    def perform(self, action: str, **form: bytes) -> None:
        """Do something."""
        doing = self.management.perform(action, "chess", Caller("ann"), form)
        self.world.result(Deferred.fromCoroutine(doing))

    def test_actions(self) -> None:
        """Each action can be done, also where there is nothing to do; others are refused."""
        filled_in = {"purge": {"sure": b"yes"}, "rotate": {"file": AUTHORITY.client_pem()}}
        for action in ACTIONS:
            self.perform(action, **filled_in.get(action, {}))
        for action in ("explode", "purge", "rotate"):
            with self.assertRaises(Malformed):
                self.perform(action)

    def test_rotated(self) -> None:
        """Another credential is in use at once, and what waited is sent with it."""
        self.world.simulator.http2_fault = lambda server, request, response: Response(403, "InvalidProviderToken")
        [waiting] = self.world.accept()
        self.world.advance(5.0)
        self.world.simulator.http2_fault = None
        before = self.world.apps.get("chess").credential.fingerprint
        self.perform("rotate", pasted=AUTHORITY.p8, key_id=b"ABC123DEFG", team_id=b" DEF123GHIJ\r\n")
        credential = self.world.apps.get("chess").credential
        assert isinstance(credential, ProviderToken)
        self.assertNotEqual(credential.fingerprint, before)
        self.assertEqual((credential.key_id, credential.team_id), ("ABC123DEFG", "DEF123GHIJ"))
        self.world.drain()
        self.assertEqual(self.world.outcome(waiting).state, State.ACCEPTED)

    def test_sides(self) -> None:
        """Of an app with two sides, the credential of one is replaced."""
        app = self.world.apps.get("chess")
        key = {"file": AUTHORITY.p8, "key_id": b"ABC123DEFG", "team_id": b"DEF123GHIJ"}
        for environment in (b"sandbox", b"moon"):
            with self.assertRaises(Malformed):
                self.perform("rotate", environment=environment, **key)
        app = self.world.add_app("chess", sandbox=Side(app.gateway, app.credential))
        self.perform("rotate", environment=b"sandbox", **key)
        production, sandbox = self.world.apps.get("chess").credentials.values()
        self.assertIs(production, app.credential)
        self.assertIsInstance(sandbox, ProviderToken)

    def test_not_rotated(self) -> None:
        """A credential that cannot be used replaces nothing, and the error has nothing secret."""
        before = self.world.apps.get("chess")
        pem = AUTHORITY.client_pem(passphrase=b"correct horse")
        forms = (
            {"file": b"hush"},
            {"file": pem, "passphrase": b"hush"},
            {"file": AUTHORITY.p8, "key_id": b"ABC123DEFG"},
        )
        for form in forms:
            with self.assertRaises(Malformed) as caught:
                self.perform("rotate", **form)
            self.assertNotIn("hush", f"{caught.exception!r}")
        self.assertIs(self.world.apps.get("chess"), before)
