"""Lays the published wire types over the description that FastAPI makes of the routes."""

from collections.abc import Callable, Iterator
from typing import Any

from rag_server.api.description import own
from rag_server.api.description.links import links
from rag_server.api.description.operations import OPERATIONS, Operation
from rag_server.api.description.own_bodies import Narrowing, rename_own_schemas
from rag_server.api.description.refusals import REFUSALS
from rag_server.api.description.schemas import REFERENCE, named_schemas, used
from rag_server.api.description.supplements import ADDITIONS, PARAMETERS, supplement
from rag_server.protocols import Json

JSON = "application/json"
EVENTS = "text/event-stream"
BEARER = {"type": "http", "scheme": "bearer", "description": "An API key; `rag-server keys create` makes one."}


def describe(generated: Json, *, is_public: Callable[[str], bool]) -> Json:
    """Return the whole description.

    Of `generated`, which FastAPI makes, stay the operations, their parameters, and of their bodies what the wire types do not
    have. `is_public` says which paths need no key.
    """
    schemas, components = named_schemas(dict(_types()))
    supplement(components, schemas)
    generated = rename_own_schemas(generated, components)
    components |= generated.get("components", {}).get("schemas", {})
    wire = {(operation.method, operation.path): operation for operation in OPERATIONS}
    paths = generated["paths"]
    served = frozenset(wire[method, path].id for path, item in paths.items() for method in item if (method, path) in wire)
    for path, item in paths.items():
        for method, operation in item.items():
            if (method, path) in wire:
                _lay_over(operation, wire[method, path], schemas, components, served)
            operation["responses"] = {**operation["responses"], **_ERRORS}
            operation["responses"].pop("422", None)
            operation["security"] = [] if is_public(path) else [{"key": []}]
    described: Json = {**generated, "openapi": "3.1.0", "paths": paths}
    described["components"] = {"schemas": used(paths, components), "securitySchemes": {"key": BEARER}}
    return described


_ERRORS: Json = {
    status: {"description": text, "content": {JSON: {"schema": {"$ref": f"{REFERENCE}ErrorResponse"}}}}
    for status, text in (("4XX", "The request is refused."), ("5XX", "The server cannot answer now."))
}


def _types() -> Iterator[tuple[str, Any]]:
    yield "ErrorResponse", own.ErrorResponse
    for operation in OPERATIONS:
        parts = {part: getattr(operation, part) for part in ("request", "response", "stream", "unavailable")}
        yield from ((f"{operation.id}.{part}", kind) for part, kind in parts.items() if kind is not None)
    for name, properties in ADDITIONS.items():
        yield from ((f"{name}.{added}", kind) for added, kind in properties.items())


def _lay_over(operation: Json, wire: Operation, schemas: Json, components: Json, served: frozenset[str]) -> None:
    operation["operationId"] = wire.id
    operation["tags"] = [wire.group]
    if wire.id in PARAMETERS:
        operation["parameters"] = [*operation.get("parameters", ()), *PARAMETERS[wire.id]]
    refused = list(REFUSALS.get(wire.id, ()))
    if wire.request is not None:
        narrowing = Narrowing(components)
        schema = narrowing.narrowed(schemas[f"{wire.id}.request"], _own_body(operation))
        refused += [f"`{name}`" for name in narrowing.unknown]
        content = {wire.request_type: {"schema": schema}}
        operation["requestBody"] = {"required": True, "content": content}
    if refused:
        listed = "\n".join(f"- {words}" for words in refused)
        operation["description"] = f"{operation.get('description', '')}\n\nRefused, though OpenAI's types allow it:\n\n{listed}"
        operation["x-refused"] = refused
    content = {wire.answer_type: {"schema": schemas[f"{wire.id}.response"]}}
    if wire.stream is not None:
        content[EVENTS] = {"schema": schemas[f"{wire.id}.stream"]}
    operation["responses"] = {"200": {"description": "What was asked for.", "content": content}}
    if wire.unavailable is not None:
        content = {JSON: {"schema": schemas[f"{wire.id}.unavailable"]}}
        operation["responses"]["503"] = {"description": "Not now.", "content": content}
    if following := links(wire.id, served):
        operation["responses"]["200"]["links"] = following


def _own_body(operation: Json) -> Json:
    content = operation.get("requestBody", {}).get("content", {})
    schema: Json = content.get(JSON, {}).get("schema", {})
    return schema
