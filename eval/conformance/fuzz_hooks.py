"""Hooks of schemathesis: half of the generated requests get the names of things that exist, or none would go far.

Loaded by schemathesis itself; `FUZZ_SEEDS` holds the names, as JSON.
"""

import json
import os
import zlib
from typing import Any

import schemathesis

SEEDS: dict[str, Any] = json.loads(os.environ.get("FUZZ_SEEDS", "{}"))
# What generated bodies rarely have, by the path.
USABLE: dict[str, dict[str, Any]] = {
    "/v1/responses": {"input": "Hello"},
    "/v1/responses/input_tokens": {"input": "Hello"},
    "/v1/embeddings": {"model": SEEDS.get("embedding_model"), "input": ["Hello"]},
    "/v1/completions": {"prompt": "Hello"},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hello"}]},
    "/v1/uploads": {"mime_type": "text/plain", "bytes": 5},
    "/v1/batches": {"endpoint": "/v1/chat/completions", "completion_window": "24h"},
    "/v1/vector_stores/{vector_store_id}/search": {"query": "pump"},
    "/v1/vector_stores/{vector_store_id}/file_batches": {"file_ids": [SEEDS.get("file_id")]},
}


def _is_chosen(value: object) -> bool:
    """Choose half of the values, the same ones at each repetition, or failures could not be reproduced."""
    return zlib.crc32(repr(value).encode()) % 2 == 0


@schemathesis.hook
def map_path_parameters(context: schemathesis.HookContext, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    """Put ids of objects that exist into addresses, but not to delete them: later requests need them."""
    deletes = context.operation is not None and context.operation.method.lower() == "delete"
    if not path_parameters or deletes or not _is_chosen(path_parameters):
        return path_parameters
    return {name: SEEDS.get(name, value) for name, value in path_parameters.items()}


@schemathesis.hook
def map_body(context: schemathesis.HookContext, body: Any) -> Any:
    """Put what is there, and what goes further than generated text, into bodies."""
    path = "" if context.operation is None else context.operation.path
    if not isinstance(body, dict) or not _is_chosen(body):
        return body
    known = {name: value for name, value in SEEDS.items() if name in body}
    return {**body, **known, **USABLE.get(path, {})}


@schemathesis.hook
def before_load_schema(context: schemathesis.HookContext, raw_schema: dict[str, Any]) -> None:
    """Leave out the schemas of event streams: OpenAI's are of the data of an event, schemathesis means the event."""
    for item in raw_schema["paths"].values():
        for operation in item.values():
            for response in operation["responses"].values():
                response.get("content", {}).get("text/event-stream", {}).pop("schema", None)
