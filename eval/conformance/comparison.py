"""What of one description another one has, property by property."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from eval.conformance.descriptions import DescribedOperation, operations, pointed_at
from eval.conformance.shapes import Member, Place, Shape, shapes
from rag_server.protocols import Json

Direction = Literal["request", "response"]
DIRECTIONS: tuple[Direction, ...] = ("request", "response")
# An integer is a number, and what takes numbers takes it.
ACCEPTS = {"integer": {"integer", "number"}}


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that can be served or not: an operation, a parameter, a property, a value of an enumeration."""

    kind: Literal["operation", "parameter", "property", "value"]
    direction: Direction
    name: str


@dataclass(slots=True)
class Comparison:
    """The items of one group. An item is met at every place of its schema; what is wrong at one place is wrong.

    Below a property without a counterpart nothing can be told about the schema, so it is `unseen` there: the gap counts once,
    where it is. An item that is seen nowhere is missing.
    """

    group: str
    seen: dict[Item, set[str]] = field(default_factory=dict)
    unseen: set[Item] = field(default_factory=set)

    def record(self, item: Item, faults: Iterable[str] = (), *, is_seen: bool = True) -> None:
        """Note an item and what is wrong with it here."""
        if is_seen:
            self.seen.setdefault(item, set()).update(faults)
        else:
            self.unseen.add(item)

    @property
    def items(self) -> set[Item]:
        """Return all items."""
        return self.seen.keys() | self.unseen

    @property
    def missing(self) -> dict[Item, list[str]]:
        """Return the items that are not served, with the reasons."""
        faulty = {item: sorted(faults) for item, faults in self.seen.items() if faults}
        return faulty | {item: ["nowhere described"] for item in self.unseen - self.seen.keys()}

    @property
    def share(self) -> float:
        """Return the share of items that are served, 0 to 1."""
        return 1 - len(self.missing) / len(self.items)


def compare(theirs: Json, ours: Json, groups: Sequence[str]) -> list[Comparison]:
    """Compare each group's operations of `theirs` with those of `ours`."""
    our_operations = {operation.key: operation for operation in operations(ours)}
    compared = []
    for group in groups:
        comparison = Comparison(group)
        walk = _Walk(theirs, ours, comparison)
        for operation in operations(theirs):
            if operation.group == group:
                walk.operation(operation, our_operations.get(operation.key))
        compared.append(comparison)
    return compared


class _Walk:
    """Goes through a group of both descriptions side by side."""

    def __init__(self, theirs: Json, ours: Json, comparison: Comparison) -> None:
        self._theirs = theirs
        self._ours = ours
        self._into = comparison
        # A schema is gone through once for each counterpart that it meets.
        self._met: dict[tuple[str, ...], list[str]] = {}

    def operation(self, theirs: DescribedOperation, ours: DescribedOperation | None) -> None:
        """Compare two operations; None is one that is missing, with all that belongs to it."""
        name = f"{theirs.method.upper()} {theirs.path}"
        place = Place(theirs.id or name)
        self._parameters(theirs, ours, place)
        faults = [] if ours else ["there is no such endpoint"]
        for direction in DIRECTIONS:
            found = _contents(self._theirs, theirs.body, direction)
            own = {} if ours is None else _contents(self._ours, ours.body, direction)
            for media_type, schema in found.items():
                counterpart = own.get(media_type) or _content_of_a_file(schema, own)
                counterparts = [] if counterpart is None else [Member(counterpart, Place("body"))]
                if ours is not None and not counterparts:
                    faults.append(f"no {media_type} in the {direction}")
                faults += self._schema(Member(schema, place), counterparts, direction)
        self._into.record(Item("operation", "request", name), faults)

    def _parameters(self, theirs: DescribedOperation, ours: DescribedOperation | None, place: Place) -> None:
        own = {} if ours is None else dict(_parameters(self._ours, ours.body["parameters"]))
        in_path = [parameter for (where, _), parameter in own.items() if where == "path"]
        for (where, name), parameter in _parameters(self._theirs, theirs.body["parameters"]):
            # Those of a path are told by their order: their names are not sent.
            mine = (in_path.pop(0) if in_path else None) if where == "path" else own.get((where, name))
            at = place.step(f"{where}:{name}")
            member = Member(parameter.get("schema", {}), at, bool(parameter.get("required")))
            counterparts = [] if mine is None else [Member(mine.get("schema", {}), at, bool(mine.get("required")))]
            self._member(Item("parameter", "request", str(at)), member, counterparts, is_seen=ours is not None)

    def _member(self, item: Item, member: Member, counterparts: list[Member], *, is_seen: bool = True) -> None:
        """Compare a property or parameter with those of its name."""
        faults = [] if counterparts else [f"there is no such {item.kind}"]
        if counterparts:
            faults += self._type_faults(item, member, counterparts)
            if item.direction == "request" and not member.is_required and all(mine.is_required for mine in counterparts):
                faults.append("required here, not in OpenAI's")
            if item.direction == "response" and member.is_required and not all(mine.is_required for mine in counterparts):
                faults.append("always there in OpenAI's, not here")
        faults += self._schema(member, counterparts, item.direction)
        self._into.record(item, faults, is_seen=is_seen)

    def _schema(self, theirs: Member, ours: list[Member], direction: Direction) -> list[str]:
        """Compare a schema with those that may stand at its place; return which of its variants have no counterpart."""
        met = (direction, str(theirs.place), _written(theirs), *sorted({_written(member) for member in ours}))
        if met in self._met:
            return self._met[met]
        lacking = self._met[met] = []
        alternatives = shapes(self._theirs, theirs)
        counterparts = [shape for member in ours for shape in shapes(self._ours, member)]
        are_suggestions = any(shape.types == {"string"} and shape.values is None for shape in alternatives)
        for shape in alternatives:
            matching = _nearest(shape, [other for other in counterparts if self._match(shape, other)])
            if counterparts and not matching and shape.properties:
                lacking.append(f"no variant {shape.place}")
            if not (are_suggestions and shape.types == {"string"}):
                self._values(shape, matching, direction)
            self._parts(shape, matching, direction)
        return lacking

    def _parts(self, shape: Shape, matching: list[Shape], direction: Direction) -> None:
        for name, member in shape.properties.items():
            having = [other.properties[name] for other in matching if name in other.properties]
            item = Item("property", direction, str(member.place))
            self._member(item, member, having, is_seen=bool(matching))
        for part in ("items", "entries"):
            member = getattr(shape, part)
            if member is not None:
                own = [found for other in matching if (found := getattr(other, part)) is not None]
                self._schema(member, own, direction)

    def _values(self, shape: Shape, matching: list[Shape], direction: Direction) -> None:
        for value in shape.values or ():
            is_named = any(value in (other.values or ()) for other in matching)
            item = Item("value", direction, f"{shape.place} = {value!r}")
            self._into.record(item, [] if is_named else ["there is no such value"], is_seen=bool(matching))

    def _type_faults(self, item: Item, theirs: Member, ours: list[Member]) -> list[str]:
        wanted = _types(shapes(self._theirs, theirs))
        given = _types([shape for member in ours for shape in shapes(self._ours, member)])
        if not given or not ours:
            return []
        if item.direction == "response" or item.kind == "parameter":
            # What is never null keeps the promise; an address knows no null.
            wanted = wanted - {"null"}
        lacking = sorted(kind for kind in wanted if not ACCEPTS.get(kind, {kind}) & given)
        return [f"type {kind} is not among {', '.join(sorted(given))}" for kind in lacking]

    def _match(self, shape: Shape, other: Shape) -> bool:
        """Return whether two shapes mean the same variant: types that meet, and no lists of values that do not."""
        if shape.types and other.types and not any(ACCEPTS.get(kind, {kind}) & other.types for kind in shape.types):
            return False
        for name in shape.properties.keys() & other.properties.keys():
            wanted = _listed(self._theirs, shape.properties[name])
            given = _listed(self._ours, other.properties[name])
            if wanted is not None and given is not None and not wanted & given:
                return False
        return True


def _nearest(shape: Shape, matching: list[Shape]) -> list[Shape]:
    """Return the variants that share most properties; where no constant tells variants apart, their properties do."""
    shared = [len(shape.properties.keys() & other.properties.keys()) for other in matching]
    return [other for other, count in zip(matching, shared, strict=True) if count == max(shared)]


def _written(member: Member) -> str:
    return json.dumps(member.schema, sort_keys=True)


def _listed(description: Json, member: Member) -> set[Any] | None:
    """Return the values that a schema lists, None if any of its shapes lists none."""
    found = [shape.values for shape in shapes(description, member) if shape.types != {"null"}]
    return None if not found or None in found else {value for values in found for value in values or ()}


def _types(found: Iterable[Shape]) -> set[str]:
    """Return the types that shapes allow; nothing said is anything, and compared with nothing."""
    types: set[str] = set()
    for shape in found:
        if not shape.types and shape.values is None:
            return set()
        types |= shape.types or {_type_of(value) for value in shape.values or ()}
    return types


def _type_of(value: object) -> str:
    names = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}
    return names.get(type(value), "object")


def _content_of_a_file(schema: Json, own: dict[str, Json]) -> Json | None:
    """Return any string for a string: OpenAI describes the bytes of a file as JSON, and sends them as they are."""
    return next((other for other in own.values() if schema.get("type") == other.get("type") == "string"), None)


def _parameters(description: Json, listed: Sequence[Json]) -> Iterable[tuple[tuple[str, str], Json]]:
    for entry in listed:
        parameter = pointed_at(description, entry["$ref"]) if "$ref" in entry else entry
        yield (parameter["in"], parameter["name"].removesuffix("[]")), parameter


def _contents(description: Json, body: Json, direction: Direction) -> dict[str, Json]:
    """Return the schemas of a request's body or of the answers that mean success, by media type."""
    if direction == "request":
        holders = [body["requestBody"]] if "requestBody" in body else []
    else:
        holders = [answer for status, answer in body["responses"].items() if str(status).startswith("2")]
    found: dict[str, Json] = {}
    for holder in holders:
        resolved = pointed_at(description, holder["$ref"]) if "$ref" in holder else holder
        for media_type, content in resolved.get("content", {}).items():
            if content.get("schema"):
                found[media_type] = content["schema"]
    return found
