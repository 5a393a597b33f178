"""What one description has of another: worked examples."""

from typing import Any

from eval.conformance.comparison import Comparison, compare

GROUP = "Things"


def described(
    request: dict[str, Any] | None = None,
    answer: dict[str, Any] | None = None,
    *,
    path: str = "/things",
    parameters: list[dict[str, Any]] | None = None,
    **schemas: Any,
) -> dict[str, Any]:
    """A description with one operation."""
    operation: dict[str, Any] = {"operationId": "makeThing", "tags": [GROUP], "parameters": parameters or []}
    if request is not None:
        operation["requestBody"] = {"content": {"application/json": {"schema": request}}}
    operation["responses"] = {"200": {"content": {"application/json": {"schema": answer}} if answer else {}}}
    return {"paths": {path: {"post": operation}}, "components": {"schemas": schemas}}


def compared(theirs: dict[str, Any], ours: dict[str, Any]) -> Comparison:
    (one,) = compare(theirs, ours, [GROUP])
    return one


def missing(theirs: dict[str, Any], ours: dict[str, Any]) -> dict[str, list[str]]:
    return {item.name: faults for item, faults in compared(theirs, ours).missing.items()}


def an_object(*required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


STRING, INTEGER, NUMBER, NULL = {"type": "string"}, {"type": "integer"}, {"type": "number"}, {"type": "null"}


def test_a_description_serves_itself_wholly() -> None:
    tree = an_object(name=STRING, children={"type": "array", "items": {"$ref": "#/components/schemas/Tree"}})
    one = described({"$ref": "#/components/schemas/Tree"}, {"$ref": "#/components/schemas/Tree"}, Tree=tree)

    found = compared(one, one)

    assert found.share == 1
    # The operation, and both properties of the named schema in either direction.
    assert len(found.items) == 1 + 2 * 2


def test_what_is_missing_is_named() -> None:
    theirs = described(an_object(name=STRING, kind={"type": "string", "enum": ["a", "b"]}), an_object(id=STRING))
    ours = described(an_object(kind={"type": "string", "enum": ["a"]}), an_object(other=STRING))

    assert missing(theirs, ours) == {
        "makeThing.name": ["there is no such property"],
        "makeThing.kind = 'b'": ["there is no such value"],
        "makeThing.id": ["there is no such property"],
    }


def test_a_missing_endpoint_counts_with_all_that_belongs_to_it() -> None:
    theirs = described(an_object(name=STRING, inner=an_object(depth=INTEGER)), an_object(id=STRING))

    found = compared(theirs, {"paths": {}})

    assert found.share == 0
    assert len(found.missing) == 1 + 3 + 1


def test_the_names_of_path_parameters_and_the_prefix_do_not_matter() -> None:
    def parameter(name: str) -> list[dict[str, Any]]:
        return [{"in": "path", "name": name, "required": True, "schema": STRING}]

    theirs = described(path="/things/{id}", parameters=parameter("id"))
    ours = described(path="/v1/things/{thing_id}", parameters=parameter("thing_id"))

    assert missing(theirs, ours) == {}


def test_types_must_cover_those_of_openai() -> None:
    theirs = described(an_object(limit={"anyOf": [INTEGER, STRING]}, size=INTEGER), an_object(note={"anyOf": [STRING, NULL]}))
    ours = described(an_object(limit=INTEGER, size=NUMBER), an_object(note=STRING))

    assert missing(theirs, ours) == {"makeThing.limit": ["type string is not among integer"]}


def test_required_goes_one_way_in_requests_and_the_other_in_answers() -> None:
    theirs = described(an_object("a", a=STRING, b=STRING), an_object("a", a=STRING, b=STRING))
    ours = described(an_object("b", a=STRING, b=STRING), an_object("b", a=STRING, b=STRING))

    found = compared(theirs, ours).missing

    assert {(item.direction, item.name): faults for item, faults in found.items()} == {
        ("request", "makeThing.b"): ["required here, not in OpenAI's"],
        ("response", "makeThing.a"): ["always there in OpenAI's, not here"],
    }


def test_variants_are_told_apart_by_their_constants() -> None:
    """A property of one tool does not count as served because another tool has it."""
    search = an_object(type={"const": "search"}, query=STRING)
    run = an_object(type={"enum": ["run"]}, code=STRING, query=STRING)
    theirs = described(an_object(tool={"oneOf": [search, run]}))
    ours = described(an_object(tool={"anyOf": [search, an_object(type={"const": "run"}, code=STRING)]}))

    assert missing(theirs, ours) == {"makeThing.tool.query": ["there is no such property"]}


def test_a_variant_that_is_not_there_is_one_gap_where_it_is() -> None:
    """The schema is described elsewhere, so its own properties are served."""
    schemas = {"Cat": an_object(type={"const": "cat"}, lives=INTEGER), "Dog": an_object(type={"const": "dog"}, bark=STRING)}
    cat, dog = ({"$ref": f"#/components/schemas/{name}"} for name in schemas)
    theirs = described(an_object(one={"oneOf": [cat, dog]}, other={"oneOf": [cat, dog]}), **schemas)
    ours = described(an_object(one={"oneOf": [cat, dog]}, other=cat), **schemas)

    assert missing(theirs, ours) == {"makeThing.other": ["no variant Dog"]}


def test_values_beside_free_text_are_suggestions() -> None:
    theirs = described(an_object(model={"anyOf": [STRING, {"type": "string", "enum": ["gpt-9"]}]}))

    assert missing(theirs, described(an_object(model=STRING))) == {}


def test_paths_of_the_beta_are_not_counted_twice() -> None:
    theirs = described(an_object(a=STRING))
    theirs["paths"]["/things?beta=true"] = described(an_object(b=STRING))["paths"]["/things"]

    assert missing(theirs, described(an_object(a=STRING))) == {}


def test_the_parts_of_allof_are_one_object() -> None:
    base = an_object("id", id=STRING)
    theirs = described(answer={"allOf": [{"$ref": "#/components/schemas/Base"}, an_object(name=STRING)]}, Base=base)

    assert missing(theirs, described(answer=an_object("id", id=STRING, name=STRING))) == {}
    assert missing(theirs, described(answer=an_object(name=STRING))) == {"Base.id": ["there is no such property"]}
