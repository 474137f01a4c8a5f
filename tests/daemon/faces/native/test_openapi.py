"""Tests for :mod:`txapns.daemon.faces.native.openapi`."""

from __future__ import annotations

import json

from msgspec import Struct
from twisted.trial.unittest import SynchronousTestCase

from txapns._serving.http import Answer
from txapns._serving.operations import Operation, parameter
from txapns.daemon.faces.native.openapi import document

__all__ = ["DocumentTests"]


class _Question(Struct):
    """A question."""

    text: str


class _Reply(Struct):
    """A reply."""

    question: _Question


class _Doubt(Struct):
    """A doubt."""


class DocumentTests(SynchronousTestCase):
    """The document made from a table."""

    def setUp(self) -> None:
        """Describe two operations of one resource."""
        path, limit = "/{name}/questions", parameter("limit", "query", "How many.", type="integer")
        ask = Operation(
            "POST", path, Answer, "ask", "Ask.", {200: ("It.", (_Reply, _Doubt))}, (400, 503), _Question, (limit,)
        )
        forget = Operation("DELETE", path, Answer, "forget", "Forget.", {204: ("Forgotten.", ())})
        name = parameter("name", "path", "Who.", type="string")
        self.document = json.loads(
            document([ask, forget], {"name": name, "id": name}, {_Question: {"properties": {"text": {"maxLength": 9}}}})
        )

    def test_paths(self) -> None:
        """The operations of a resource are together, with the parameters that its path names."""
        [(path, resource)] = self.document["paths"].items()
        self.assertEqual((path, set(resource)), ("/{name}/questions", {"parameters", "post", "delete"}))
        self.assertEqual([each["name"] for each in resource["parameters"]], ["name"])
        self.assertEqual(resource["parameters"][0]["required"], True)
        self.assertEqual([each["name"] for each in resource["post"]["parameters"]], ["limit"])

    def test_bodies(self) -> None:
        """Bodies refer to the schemas of their structures, by names without an underscore."""
        asked, forgotten = (self.document["paths"]["/{name}/questions"][each] for each in ("post", "delete"))
        body = asked["requestBody"]["content"]["application/json"]["schema"]
        self.assertEqual(body, {"$ref": "#/components/schemas/Question"})
        either = asked["responses"]["200"]["content"]["application/json"]["schema"]
        self.assertEqual(either, {"anyOf": [{"$ref": f"#/components/schemas/{each}"} for each in ("Reply", "Doubt")]})
        self.assertEqual(forgotten["responses"], {"204": {"description": "Forgotten."}})

    def test_schemas(self) -> None:
        """What the types do not say is added to the schemas, and nothing that they say is lost."""
        schemas = self.document["components"]["schemas"]
        self.assertEqual(set(schemas), {"Question", "Reply", "Doubt", "ErrorBody", "Error"})
        self.assertEqual(schemas["Question"]["properties"]["text"], {"type": "string", "maxLength": 9})

    def test_errors(self) -> None:
        """Errors have one body; those that can be tried again tell when."""
        responses = self.document["paths"]["/{name}/questions"]["post"]["responses"]
        bodies = [responses[each]["content"]["application/json"]["schema"]["$ref"] for each in ("400", "503")]
        self.assertEqual(bodies, ["#/components/schemas/ErrorBody"] * 2)
        self.assertEqual(["headers" in responses[each] for each in ("400", "503")], [False, True])
