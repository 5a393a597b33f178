"""Checks live answers against a description: which operation an answer is of, and what its schema finds wrong."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from eval.conformance.descriptions import DescribedOperation, operations, pointed_at
from rag_server.protocols import Json

EVENTS = "text/event-stream"
DONE = "[DONE]"
MAX_MESSAGE_CHARACTERS = 200
# A description is a document of its own, at an address that only has to differ from others.
BASE = "urn:description"


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered to a request."""

    method: str
    path: str
    status: int
    media_type: str
    content: bytes

    def documents(self) -> Iterator[Any]:
        """Yield the JSON of the answer: one, or one per event of a stream."""
        if self.media_type != EVENTS:
            yield json.loads(self.content)
            return
        for line in self.content.decode().splitlines():
            data = line.removeprefix("data:").strip()
            if line.startswith("data:") and data != DONE:
                yield json.loads(data)


class Validator:
    """Knows a description's operations and schemas."""

    def __init__(self, description: Json, *, error_schema: str = "ErrorResponse") -> None:
        components = {name: _as_json_schema(schema, name) for name, schema in description["components"]["schemas"].items()}
        resource = Resource.from_contents({**description, "components": {"schemas": components}}, DRAFT202012)
        self._registry: Registry[Any] = Registry().with_resource(BASE, resource)
        self._description = description
        self._error_schema = {"$ref": f"#/components/schemas/{error_schema}"}
        self._operations = [(_pattern(operation), operation) for operation in operations(description)]
        self._validators: dict[str, Draft202012Validator] = {}

    def operation(self, method: str, path: str) -> DescribedOperation | None:
        """Return the operation of a request, None if none is described."""
        plain = path.partition("?")[0].removeprefix("/v1")
        found = [
            (pattern.groups, operation)
            for pattern, operation in self._operations
            if operation.method == method.lower() and pattern.fullmatch(plain)
        ]
        # /files/batch is a path of its own before it is a file of that name.
        return min(found, key=lambda pair: pair[0])[1] if found else None

    def faults(self, answer: Answer) -> list[str]:
        """Return what is wrong with an answer, each with its place."""
        operation = self.operation(answer.method, answer.path)
        if operation is None:
            return ["the operation is not described"]
        schema = self._error_schema if answer.status >= 400 else self._schema(operation, answer)
        if schema is None:
            return []
        try:
            documents = list(answer.documents())
        except ValueError as error:
            return [f"no JSON: {error}"]
        return sorted({fault for document in documents for fault in self._check(schema, document)})

    def _schema(self, operation: DescribedOperation, answer: Answer) -> Json | None:
        """Return the schema of a success; a stream without one is chunks of what is answered without streaming."""
        for status, response in operation.body["responses"].items():
            resolved = pointed_at(self._description, response["$ref"]) if "$ref" in response else response
            if str(status).startswith("2"):
                content = resolved.get("content", {})
                wanted = answer.media_type if answer.media_type in content else "application/json"
                schema: Json | None = content.get(wanted, {}).get("schema")
                is_data = answer.media_type in ("application/json", EVENTS)
                return schema if is_data else None
        return None

    def _check(self, schema: Json, document: Any) -> Iterator[str]:
        written = json.dumps(schema, sort_keys=True)
        if written not in self._validators:
            absolute = json.loads(written.replace('"#/', f'"{BASE}#/'))
            self._validators[written] = Draft202012Validator(_as_json_schema(absolute, ""), registry=self._registry)
        for error in self._validators[written].iter_errors(document):
            worst = best_match([error])
            place = "".join("[]" if isinstance(part, int) else f".{part}" for part in worst.absolute_path)
            message = worst.message
            if len(message) > MAX_MESSAGE_CHARACTERS:
                # The value comes first, and what is wrong with it last.
                half = MAX_MESSAGE_CHARACTERS // 2
                message = f"{message[:half]}…{message[-half:]}"
            yield f"{place or 'body'}: {message}"


def _pattern(operation: DescribedOperation) -> re.Pattern[str]:
    parts = re.split(r"{[^}]*}", operation.path)
    # The id of a model may hold a slash.
    name = "(.+)" if operation.path == "/models/{model}" else "([^/]+)"
    return re.compile(name.join(re.escape(part) for part in parts))


def _as_json_schema(schema: Any, owner: str) -> Any:
    """Return a schema of OpenAPI as one of JSON Schema 2020-12.

    `nullable` becomes a type. `oneOf` becomes `anyOf`: alternatives are told apart by more than their schemas, and one object
    often fits several. `$recursiveRef`, which 2020-12 has no more, points at the named schema that it stands in.
    """
    if isinstance(schema, list):
        return [_as_json_schema(part, owner) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$recursiveRef" in schema:
        return {"$ref": f"#/components/schemas/{owner}"}
    converted = {
        {"oneOf": "anyOf"}.get(word, word): _as_json_schema(part, owner)
        for word, part in schema.items()
        if word not in ("nullable", "discriminator", "example", "$recursiveAnchor")
    }
    return {"anyOf": [converted, {"type": "null"}]} if schema.get("nullable") is True else converted
