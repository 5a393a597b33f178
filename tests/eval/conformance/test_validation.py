"""Live answers are checked against the schema of their operation."""

import json
from typing import Any

from eval.conformance.validation import Answer, Validator

THING = {
    "type": "object",
    "required": ["id"],
    "properties": {"id": {"type": "string"}, "note": {"type": "string", "nullable": True}, "inner": {"$recursiveRef": "#"}},
}
EITHER = {"oneOf": [{"type": "object", "required": ["delta"]}, {"type": "object", "required": ["delta", "end"]}]}


def answered(schema: dict[str, Any], media_type: str = "application/json") -> dict[str, Any]:
    return {"responses": {"200": {"content": {media_type: {"schema": schema}}}}}


VALIDATOR = Validator(
    {
        "paths": {
            "/things/{id}": {"get": answered({"$ref": "#/components/schemas/Thing"})},
            "/things/all": {"get": answered({"type": "array"})},
            "/models/{model}": {"get": answered({"$ref": "#/components/schemas/Thing"})},
            "/streams": {"post": answered(EITHER, "text/event-stream")},
        },
        "components": {
            "schemas": {"Thing": THING, "ErrorResponse": {"type": "object", "required": ["error"]}},
        },
    }
)


def faults(path: str, body: Any, *, method: str = "GET", status: int = 200) -> list[str]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    media_type = "text/event-stream" if isinstance(body, bytes) else "application/json"
    return VALIDATOR.faults(Answer(method, path, status, media_type, content))


def test_faults_name_their_place() -> None:
    assert faults("/v1/things/1", {"id": "a", "note": None, "inner": {"id": "b"}}) == []
    assert faults("/v1/things/1", {"id": "a", "inner": {"id": 3}}) == [".inner.id: 3 is not of type 'string'"]


def test_a_path_of_its_own_goes_before_one_with_an_id() -> None:
    assert faults("/v1/things/all", []) == []
    assert faults("/v1/things/other", []) != []


def test_the_id_of_a_model_may_hold_a_slash() -> None:
    assert faults("/v1/models/rag/docs", {"id": "rag/docs"}) == []
    assert faults("/v1/things/a/b", {"id": "a"}) == ["the operation is not described"]


def test_errors_are_checked_as_errors() -> None:
    assert faults("/v1/things/1", {"error": {}}, status=404) == []
    assert faults("/v1/things/1", {"detail": "x"}, status=404) == ["body: 'error' is a required property"]


def test_every_event_of_a_stream_is_checked() -> None:
    """An event that fits two alternatives fits; the end mark is no event."""
    good = b'data: {"delta": 1, "end": true}\n\ndata: [DONE]\n\n'
    bad = b'data: {"delta": 1}\n\nevent: x\ndata: {"other": 1}\n\n'

    assert faults("/v1/streams", good, method="POST") == []
    assert faults("/v1/streams", bad, method="POST") == ["body: {'other': 1} is not valid under any of the given schemas"]
