"""What OpenAI's types leave out of its description, and what this server adds to its objects, by the name of the schema."""

from collections.abc import Mapping
from typing import Any

from openai.types.chat.chat_completion_message import Annotation

from rag_server.api.description import own, own_answers
from rag_server.api.description.schemas import REFERENCE
from rag_server.protocols import Json


def _filters(*names: str) -> Json:
    return {"type": "array", "items": {"anyOf": [{"$ref": f"{REFERENCE}{name}"} for name in names]}}


# Properties that this server adds.
ADDITIONS: dict[str, dict[str, Any]] = {
    "ChatCompletion": {"rag": own_answers.Answer},
    "ChatCompletionChunk": {"rag": own_answers.Answer},
    "ChoiceDelta": {"annotations": list[own.FileCitation | Annotation]},
    "VectorStoreFile": {"rag": own.IndexedFile},
    "VectorStoreSearchResponse": {"rag": own.ResultPlace},
}
# Properties that the types leave out, or leave open.
_ANNOTATIONS = {
    "anyOf": [
        {"type": "array", "items": {"anyOf": [{"$ref": f"{REFERENCE}Annotation"}, {"$ref": f"{REFERENCE}FileCitation"}]}},
        {"type": "null"},
    ]
}
DESCRIBED: dict[str, dict[str, Json]] = {
    "ResponseFunctionCallArgumentsDoneEvent": {"name": {"type": "string"}},
    # The messages of a stored completion are those of everyone.
    "ChatCompletionMessage": {"annotations": _ANNOTATIONS},
    "ChatCompletionStoreMessage": {
        "annotations": _ANNOTATIONS,
        "role": {"type": "string", "enum": ["assistant", "user", "system", "developer", "tool", "function"]},
    },
    # As base64, when asked for.
    "Embedding": {"embedding": {"anyOf": [{"type": "array", "items": {"type": "number"}}, {"type": "string"}]}},
    "CompoundFilter.CompoundFilter": {
        "filters": _filters("ComparisonFilter.ComparisonFilter", "CompoundFilter.CompoundFilter")
    },
    "SharedParams.CompoundFilter.CompoundFilter": {
        "filters": _filters("SharedParams.ComparisonFilter.ComparisonFilter", "SharedParams.CompoundFilter.CompoundFilter")
    },
}
# Values that the types leave out: a file for evaluations is taken, and shown as one.
VALUES = {("FileObject", "purpose"): ("evals",)}
# Properties that the types have as arguments of a call, and that go into the address.
IN_ADDRESS = {"ItemCreateParams": ("include",), "FileUpdateParams": ("vector_store_id",)}
# Parameters that a route reads itself.
PARAMETERS: dict[str, list[Json]] = {
    "listChatCompletions": [
        {
            "name": "metadata",
            "in": "query",
            "required": False,
            "style": "deepObject",
            "explode": True,
            "schema": {"type": "object", "additionalProperties": {"type": "string"}},
        }
    ]
}
# Properties that are always there; the types do not tell what may be null from what may be missing.
ALWAYS: dict[str, tuple[str, ...]] = {
    "ChatCompletionMessage": ("content", "refusal"),
    "ChatCompletionStoreMessage": ("content", "refusal"),
    "ChatCompletion.Choice": ("logprobs",),
    "ChoiceLogprobs": ("content", "refusal"),
    "ChatCompletionChunk.Choice": ("finish_reason",),
    "ChatCompletionTokenLogprob": ("bytes",),
    "TopLogprob": ("bytes",),
    "CompletionChoice": ("logprobs",),
    "VectorStore": ("last_active_at", "metadata"),
    "VectorStoreFile": ("last_error",),
    "VectorStoreSearchResponse": ("attributes",),
    "Response": ("error", "incomplete_details", "instructions"),
    "ResponseOutputText": ("logprobs",),
    "FunctionTool": ("parameters", "strict"),
    "ResponseErrorEvent": ("code", "param"),
    "ResponseFunctionCallArgumentsDoneEvent": ("name",),
    "ResponseOutputTextAnnotationAddedEvent": ("annotation",),
}


def supplement(components: dict[str, Json], additions: Mapping[str, Json]) -> None:
    """Complete the named schemas in place; `additions` are the schemas of ADDITIONS, by `name.property`."""
    for name, properties in ADDITIONS.items():
        for added in properties:
            components[name]["properties"][added] = additions[f"{name}.{added}"]
    for name, described in DESCRIBED.items():
        components[name]["properties"] |= described
    for (name, found), values in VALUES.items():
        components[name]["properties"][found]["enum"] += values
    for name, left_out in IN_ADDRESS.items():
        for found in left_out:
            components[name]["properties"].pop(found)
        components[name]["required"] = [word for word in components[name].get("required", ()) if word not in left_out]
    for name, always in ALWAYS.items():
        components[name]["required"] = sorted({*components[name].get("required", ()), *always})
