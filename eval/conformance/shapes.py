"""A schema as the list of shapes that a value may have: references followed, allOf merged, anyOf and oneOf spread out."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from eval.conformance.descriptions import pointed_at
from rag_server.protocols import Json


@dataclass(frozen=True, slots=True)
class Place:
    """Where a property is described: the nearest named schema (or operation), and the path inside it."""

    owner: str
    path: str = ""

    def step(self, part: str) -> "Place":
        """Return the place one property, item or value deeper."""
        return Place(self.owner, f"{self.path}.{part}" if self.path and part[0] not in "[*" else f"{self.path}{part}")

    def __str__(self) -> str:
        return f"{self.owner}.{self.path}" if self.path else self.owner


@dataclass(frozen=True, slots=True)
class Member:
    """A part of a shape: its schema and where that is described."""

    schema: Json
    place: Place
    is_required: bool = False


@dataclass(frozen=True, slots=True)
class Shape:
    """One way that a value may look. No `types` means any; `values` is None when they are not listed."""

    place: Place
    types: frozenset[str] = frozenset()
    values: tuple[Any, ...] | None = None
    properties: dict[str, Member] = field(default_factory=dict)
    items: Member | None = None
    entries: Member | None = None

    def merged(self, other: "Shape") -> "Shape | None":
        """Return the shape that is both, or None if nothing is."""
        types = self.types & other.types if self.types and other.types else self.types or other.types
        if self.types and other.types and not types:
            return None
        properties = dict(self.properties)
        for name, member in other.properties.items():
            had = properties.get(name)
            is_required = member.is_required or (had is not None and had.is_required)
            schema = member.schema if had is None else {"allOf": [had.schema, member.schema]}
            properties[name] = Member(schema, member.place if had is None else had.place, is_required)
        values = self.values if other.values is None else other.values
        return Shape(self.place, types, values, properties, self.items or other.items, self.entries or other.entries)


def shapes(description: Json, member: Member) -> list[Shape]:
    """Return the shapes of a schema; a schema that is an alternative of itself adds nothing."""
    return list(_shapes(description, member.schema, member.place, ()))


def _shapes(description: Json, schema: Json, place: Place, seen: tuple[str, ...]) -> Iterator[Shape]:
    reference = schema.get("$ref") or _recursive(schema, place)
    if reference is not None:
        if reference not in seen:
            named = Place(reference.rsplit("/", 1)[-1])
            found = _shapes(description, pointed_at(description, reference), named, (*seen, reference))
            required = set(schema.get("required", ()))
            yield from (_with_required(shape, required) for shape in found)
        return
    yield from _nullable(schema, place)
    parts = [list(_shapes(description, part, place, seen)) for part in schema.get("allOf", ())]
    parts += [
        [shape for part in schema[word] for shape in _shapes(description, part, place, seen)]
        for word in ("anyOf", "oneOf")
        if word in schema
    ]
    required = set(schema.get("required", ()))
    for combination in itertools.product(*parts):
        shape: Shape | None = _own(schema, place)
        for part in combination:
            shape = None if shape is None else part.merged(shape)
        if shape is not None:
            yield _with_required(shape, required)


def _recursive(schema: Json, place: Place) -> str | None:
    """Return the reference of `$recursiveRef`, which points at the named schema that it stands in."""
    return f"#/components/schemas/{place.owner}" if "$recursiveRef" in schema else None


def _nullable(schema: Json, place: Place) -> Iterator[Shape]:
    if schema.get("nullable"):
        yield Shape(place, frozenset({"null"}))


def _with_required(shape: Shape, names: set[str]) -> Shape:
    if not names & shape.properties.keys():
        return shape
    properties = {
        name: Member(member.schema, member.place, member.is_required or name in names)
        for name, member in shape.properties.items()
    }
    return Shape(shape.place, shape.types, shape.values, properties, shape.items, shape.entries)


def _own(schema: Json, place: Place) -> Shape:
    """Return what a schema says itself, beside its parts."""
    required = set(schema.get("required", ()))
    properties = {name: Member(part, place.step(name), name in required) for name, part in schema.get("properties", {}).items()}
    kinds = schema.get("type", ())
    types = frozenset([kinds] if isinstance(kinds, str) else kinds)
    if not types and properties:
        types = frozenset({"object"})
    values = tuple(schema["enum"]) if "enum" in schema else (schema["const"],) if "const" in schema else None
    items, entries = schema.get("items"), schema.get("additionalProperties")
    return Shape(
        place,
        types,
        values,
        properties,
        Member(items, place.step("[]")) if isinstance(items, dict) else None,
        Member(entries, place.step("*")) if isinstance(entries, dict) and entries else None,
    )
