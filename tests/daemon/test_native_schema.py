"""Tests that :mod:`txapns.daemon.faces.native` does what its OpenAPI document says, made from the document."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.fakes import key_of

__all__ = ["SchemaTests"]

PROJECT = Path(__file__).parent.parent.parent
KEY = {"Authorization": f"Bearer {key_of('all')}"}


@pytest.mark.loopback
@pytest.mark.slow
class SchemaTests(SynchronousTestCase):
    """Requests that the document describes, and such as it does not allow, against a process that serves the face."""

    def setUp(self) -> None:
        """Start the process, and read the document."""
        command = [sys.executable, "-m", "tests.daemon.serve_native"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PROJECT)
        assert process.stdout is not None
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)
        self.addCleanup(process.stdout.close)
        self.session = requests.Session()  # schemathesis closes none of its own
        self.addCleanup(self.session.close)
        address = process.stdout.readline().strip()
        self.schema = schemathesis.openapi.from_url(f"{address}/v1/openapi.json", headers=KEY)

    def test_operations(self) -> None:
        """Whatever is asked, the answer is one that the document has for it."""
        operations = [each.ok() for each in self.schema.get_all_operations()]
        described = set(self.schema.raw_schema["paths"]) - {"/v1/openapi.json"}  # which is where it was read from
        self.assertEqual({each.path for each in operations}, described)
        for operation in operations:
            good = self.ask(operation, schemathesis.GenerationMode.POSITIVE)
            bad = self.ask(operation, schemathesis.GenerationMode.NEGATIVE)
            self.assertLessEqual(bad - {405}, {400, 401, 404, 413}, operation.path)
            if "{app}" in operation.path:
                self.assertLessEqual(good, {200, 202, 409}, operation.path)  # a key may have been used before

    def ask(self, operation: Any, mode: schemathesis.GenerationMode) -> set[int]:
        """Try one operation; returns the statuses of the answers."""
        statuses = set()

        # Always the same requests: the document is what changes.
        @settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
        @given(operation.as_strategy(generation_mode=mode))
        def one(case: Any) -> None:
            if mode is schemathesis.GenerationMode.POSITIVE and "app" in case.path_parameters:
                case.path_parameters["app"] = "chess"  # or none would be known
            statuses.add(case.call_and_validate(headers=KEY, session=self.session).status_code)

        one()
        return statuses
