"""Tests for the OpenAPI document of :mod:`txapns.simulator.web.api`."""

from __future__ import annotations

import json
import re
from typing import Any

from jsonschema_rs import Draft202012Validator

from tests.simulator.web.web_case import WebCase

__all__ = ["DocumentTests"]

A = "aa" * 32


class DocumentTests(WebCase):
    """``/openapi.json``."""

    def setUp(self) -> None:
        """Get the document."""
        super().setUp()
        self.document = self.get("/openapi.json")

    def check(self, method: str, path: str, resource: str, body: Any = None) -> None:
        """Compare an answer with what the document says of it."""
        response = self.ask(method, path, body)
        described = self.document["paths"][resource][method.lower()]["responses"][str(response.status)]
        schema = {**described["content"]["application/json"]["schema"], "components": self.document["components"]}
        Draft202012Validator(schema).validate(response.json)

    def test_references(self) -> None:
        """Every schema that is named is there, and each is a schema."""
        schemas = self.document["components"]["schemas"]
        named = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(self.document)))
        self.assertEqual(named, schemas.keys())
        for schema in schemas.values():
            Draft202012Validator({**schema, "components": self.document["components"]})  # raises if it is none

    def test_answers(self) -> None:
        """What is answered is as described."""
        headers = {"apns-topic": "com.example.app", "apns-push-type": "alert"}
        push = {"token": A, "headers": headers, "payload": {"aps": {"alert": "Hi"}}}
        for method, path, body in (
            ("POST", "/v1/push", push),
            ("POST", "/v1/push", {}),
            ("POST", "/v1/lint", push),
            ("POST", "/v1/lint", {"headers": 3}),
            ("POST", "/v1/strings", {"strings": {}}),
            ("GET", "/v1/received", None),
            ("GET", "/v1/simulator", None),
            ("POST", "/v1/answers", {"status": 500, "chance": 0.5}),
            ("POST", "/v1/answers", {}),
            ("GET", "/v1/answers", None),
            ("DELETE", "/v1/answers", None),
            ("GET", "/v1/devices", None),
            ("DELETE", "/v1/received", None),
            ("GET", "/openapi.json", None),
        ):
            self.check(method, path, path, body)
        for body in ({"badge": 1}, {"badge": "1"}):
            self.check("PUT", f"/v1/devices/{A}", "/v1/devices/{token}", body)
        self.check("DELETE", "/v1/answers/5", "/v1/answers/{number}")
