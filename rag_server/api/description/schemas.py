"""Types as named schemas of the description."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import TypeAdapter

from rag_server.protocols import Json

REFERENCE = "#/components/schemas/"
# Prose of the types speaks of OpenAI's products; titles repeat names.
PROSE = ("title", "description")
# ListOf[Model] is ListOf_Model_ to pydantic.
_GENERIC = re.compile(r"^([A-Za-z]+)_([A-Za-z]+)_$")


def named_schemas(types: Mapping[str, Any]) -> tuple[dict[str, Json], dict[str, Json]]:
    """Return the schema of each type under its key, and the named schemas that they refer to."""
    adapters = [(key, "validation", TypeAdapter[Any](kind)) for key, kind in types.items()]
    found, definitions = TypeAdapter.json_schemas(adapters, ref_template=f"{REFERENCE}{{model}}")  # type: ignore[arg-type]
    components = definitions.get("$defs", {})
    names = _short_names(components)
    schemas = {key: _tidy(schema, names) for (key, _), schema in found.items()}
    return schemas, {names[name]: _tidy(schema, names) for name, schema in components.items()}


def _short_names(names: Iterable[str]) -> dict[str, str]:
    """Return for each name its class, with as many of the modules before it as tell it from the others."""
    short: dict[str, str] = {}
    for name in names:
        *modules, last = [part for part in name.split("__") if part]
        wanted = _GENERIC.sub(r"\1.\2", last)
        while modules and (wanted == last or wanted in short.values()):
            wanted = f"{''.join(word.title() for word in modules.pop().split('_'))}.{wanted}"
        short[name] = wanted
    return short


def _tidy(schema: Any, names: Mapping[str, str], *, is_properties: bool = False) -> Any:
    """Return a schema without prose, with short names, and without lists of model names where any text will do."""
    if isinstance(schema, list):
        return [_tidy(part, names) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if is_properties:
        return {name: _tidy(part, names) for name, part in schema.items()}
    if "$ref" in schema:
        return {"$ref": REFERENCE + names[schema["$ref"].removeprefix(REFERENCE)]}
    # What is left out is not the same as what is null, so null is nobody's default.
    kept = {word: part for word, part in schema.items() if word not in PROSE and (word, part) != ("default", None)}
    tidy = {word: _tidy(part, names, is_properties=word == "properties") for word, part in kept.items()}
    if "anyOf" in tidy:
        tidy["anyOf"] = _without_suggestions(tidy["anyOf"])
        if len(tidy) == 1 and len(tidy["anyOf"]) == 1:
            return tidy["anyOf"][0]
    return tidy


def _without_suggestions(alternatives: list[Json]) -> list[Json]:
    if {"type": "string"} not in alternatives:
        return alternatives
    return [part for part in alternatives if not (part.get("type") == "string" and ("enum" in part or "const" in part))]


def used(part: Any, components: Mapping[str, Json]) -> dict[str, Json]:
    """Return the named schemas that a part of the description needs, those that they need among them."""
    found: dict[str, Json] = {}
    waiting = [part]
    while waiting:
        for name in _references(waiting.pop()):
            if name not in found:
                found[name] = components[name]
                waiting.append(components[name])
    return dict(sorted(found.items()))


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, list):
        for inner in part:
            yield from _references(inner)
    elif isinstance(part, dict):
        reference = part.get("$ref")
        if isinstance(reference, str):
            yield reference.removeprefix(REFERENCE)
        for inner in part.values():
            yield from _references(inner)
