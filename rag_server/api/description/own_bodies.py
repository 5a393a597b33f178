"""The bodies that the routes read themselves: what they add to OpenAI's, demand of it, and bound."""

import json

from rag_server.api.description.schemas import REFERENCE
from rag_server.protocols import Json

# What bounds a value without changing its type.
BOUNDS = (
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "pattern",
    "propertyNames",
)


def rename_own_schemas(generated: Json, taken: Json) -> Json:
    """Return FastAPI's description with other names for those of its schemas whose names are `taken`."""
    written = json.dumps(generated)
    for name in generated.get("components", {}).get("schemas", {}):
        if name in taken:
            written = written.replace(f'"{REFERENCE}{name}"', f'"{REFERENCE}Own{name}"').replace(
                f'"{name}": ', f'"Own{name}": '
            )
    renamed: Json = json.loads(written)
    return renamed


class Narrowing:
    """Completes OpenAI's schema of a request by the body that a route reads; `unknown` are the fields that it refuses.

    The fields that only this server knows are added, what it demands is demanded, and its bounds count where both have the
    type. Of several variants those belong together that have the same type, objects by the constant in their `type`.
    """

    def __init__(self, components: dict[str, Json]) -> None:
        self._components = components
        self.unknown: list[str] = []

    def narrowed(self, wire: Json, own: Json, at: str = "") -> Json:
        """Return the schema; it is `wire` itself where `own` says nothing more. `at` is the name of the field."""
        inner, other = self._resolved(wire), self._resolved(own)
        ours = _variants(other)
        if len(_variants(inner)) > 1 or len(ours) > 1:
            variants = [self._variant(variant, ours, at) for variant in _variants(inner)]
            unchanged = all(new is old for new, old in zip(variants, _variants(inner), strict=True))
            return wire if unchanged else {"anyOf": variants} if len(variants) > 1 else variants[0]
        if inner.get("type") is None or inner.get("type") != other.get("type"):
            return wire
        found = {word: other[word] for word in BOUNDS if word in other and word not in inner}
        if inner["type"] == "object":
            found |= self._object(inner, other, at)
        if "items" in inner and "items" in other:
            items = self.narrowed(inner["items"], other["items"], f"{at}[]")
            found |= {} if items is inner["items"] else {"items": items}
        return {**inner, **found} if found else wire

    def _object(self, wire: Json, own: Json, at: str) -> Json:
        found: Json = {}
        properties = wire.get("properties", {})
        if properties and "properties" in own:
            known = {
                name: self.narrowed(schema, own["properties"][name], _inside(at, name))
                for name, schema in properties.items()
                if name in own["properties"]
            }
            added = {name: schema for name, schema in own["properties"].items() if name not in properties}
            found["properties"] = {**properties, **known, **added}
            found["required"] = sorted({*wire.get("required", ()), *own.get("required", ())})
            if own.get("additionalProperties") is False:
                found["additionalProperties"] = False
                self.unknown += sorted(_inside(at, name) for name in properties if name not in own["properties"])
        entries, others = wire.get("additionalProperties"), own.get("additionalProperties")
        if isinstance(entries, dict) and isinstance(others, dict):
            found["additionalProperties"] = self.narrowed(entries, others, f"{at}.*")
        return found

    def _variant(self, wire: Json, ours: list[Json], at: str) -> Json:
        matching = [own for own in ours if self._kind(own) == self._kind(wire)]
        return self.narrowed(wire, matching[0], at) if len(matching) == 1 else wire

    def _kind(self, schema: Json) -> tuple[str | None, str | None]:
        resolved = self._resolved(schema)
        return resolved.get("type"), resolved.get("properties", {}).get("type", {}).get("const")

    def _resolved(self, schema: Json) -> Json:
        reference = schema.get("$ref")
        return schema if reference is None else self._components[reference.removeprefix(REFERENCE)]


def _variants(schema: Json) -> list[Json]:
    found: list[Json] = schema.get("anyOf") or schema.get("oneOf") or [schema]
    return found


def _inside(at: str, name: str) -> str:
    return f"{at}.{name}" if at else name
