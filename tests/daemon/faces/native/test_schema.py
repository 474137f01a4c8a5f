"""
Tests that :mod:`txapns.daemon.faces.native.face` does what its OpenAPI document says, made from the document.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any
from urllib.parse import quote

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from twisted.trial.unittest import SynchronousTestCase

from tests import PROJECT
from tests.daemon.fakes import key_of
from tests.processes import started
from txapns.simulator import Authority

__all__ = ["SchemaTests"]

KEY = {"Authorization": f"Bearer {key_of('all')}"}
CREDENTIAL = {"key": Authority().p8.decode(), "key_id": "KEY", "team_id": "TEAM"}


@pytest.mark.loopback
@pytest.mark.campaign
class SchemaTests(SynchronousTestCase):
    """Requests that the document describes, and such as it does not allow, against a process that serves the face."""

    def setUp(self) -> None:
        """Start the process, and read the document."""
        command = [sys.executable, "-m", "tests.daemon.serve_native"]
        process = started(self, command, stdout=subprocess.PIPE, text=True, cwd=PROJECT)
        assert process.stdout is not None
        self.session = requests.Session()  # schemathesis closes none of its own
        self.addCleanup(self.session.close)
        address = self.address = process.stdout.readline().strip()
        # What changes apps is asked to change another than the rest is about.
        news = self.session.put(f"{address}/v1/apps/news", json={"credential": CREDENTIAL}, headers=KEY)
        self.assertEqual(news.status_code, 201)
        self.schema = schemathesis.openapi.from_url(f"{address}/v1/openapi.json", headers=KEY)

    def test_operations(self) -> None:
        """Whatever is asked, the answer is one that the document has for it."""
        self.ask_all(5)

    @pytest.mark.campaign
    def test_longer(self) -> None:
        """The same, with more requests for each operation."""
        self.ask_all(20)

    def ask_all(self, count: int) -> None:
        """Make so many requests of each kind for each operation."""
        operations = [each.ok() for each in self.schema.get_all_operations()]
        described = set(self.schema.raw_schema["paths"]) - {"/v1/openapi.json"}  # which is where it was read from
        self.assertEqual({each.path for each in operations}, described)
        for operation in operations:
            good = self.ask(operation, schemathesis.GenerationMode.POSITIVE, count)
            bad = self.ask(operation, schemathesis.GenerationMode.NEGATIVE, count)
            harmless = {405} if "{" in operation.path else {405, 200}  # where nothing is given, nothing is wrong
            # For an odd channel or push type, Apple is asked.
            self.assertLessEqual(bad - harmless, {400, 401, 404, 413, 422}, operation.path)
            if "{app}" in operation.path:
                again = {404} if operation.method == "delete" else {409}  # a key may have been used before
                self.assertLessEqual(good, {200, 201, 202, 204} | again, operation.path)

    def ask(self, operation: Any, mode: schemathesis.GenerationMode, count: int) -> set[int]:
        """Try one operation so many times; returns the statuses of the answers."""
        statuses = set()

        # Always the same requests: the document is what changes.
        @settings(max_examples=count, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
        @given(operation.as_strategy(generation_mode=mode))
        def one(case: Any) -> None:
            if mode is schemathesis.GenerationMode.POSITIVE and "app" in case.path_parameters:
                self.repair(case)
            statuses.add(case.call_and_validate(headers=KEY, session=self.session).status_code)

        one()
        return statuses

    def repair(self, case: Any) -> None:
        """Put what no schema can describe in its place: the name of an app there is, and what works."""
        path = case.operation.path
        changes = path in ("/v1/apps/{app}", "/v1/apps/{app}/credential", "/v1/apps/{app}/sandbox/credential")
        case.path_parameters["app"] = "news" if changes else "chess"
        if "/channels" in path:
            case.query.pop("environment", None)  # the app has only one side
        if "channel" in case.path_parameters:
            made = self.session.post(f"{self.address}/v1/apps/chess/channels", json={}, headers=KEY)
            case.path_parameters["channel"] = quote(made.json()["channel"], safe="")
        if path.endswith("/channels") and case.method == "POST":
            case.body["push_type"] = "LiveActivity"
        given = (
            case.body if isinstance(case.body, dict) else {}
        )  # where nothing is given, schemathesis has a value for that
        for each in [*given.get("notifications", ()), *given.get("broadcasts", ())]:
            each.pop("environment", None)
        if path.endswith(("/notifications", "/broadcasts")) and "not_before" in case.body:
            case.body["not_before"] = 0.5  # neither too far ahead, nor after an expiration
        if path.endswith("/credential"):
            case.body = CREDENTIAL
        elif case.method == "PUT":
            case.body.update(credential=CREDENTIAL, gateway="production", trust_root=None)
            if case.body.pop("sandbox", None) is not None:
                case.body.update(environment="auto", sandbox={"credential": CREDENTIAL})
