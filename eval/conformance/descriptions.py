"""Descriptions in OpenAPI 3.1: OpenAI's own, read from the data folder, and the operations of any."""

import gzip
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from rag_server.protocols import Json

METHODS = ("get", "post", "put", "patch", "delete")
# The groups that this server serves, by OpenAI's tags.
GROUPS = (
    "Chat",
    "Completions",
    "Embeddings",
    "Models",
    "Files",
    "Uploads",
    "Vector stores",
    "Responses",
    "Conversations",
    "Batch",
)
BETA = "?beta=true"


@dataclass(frozen=True, slots=True)
class DescribedOperation:
    """One operation of a description; `path` is without /v1."""

    method: str
    path: str
    id: str
    group: str | None
    body: Json

    @property
    def key(self) -> tuple[str, str]:
        """What it is called by: the names of path parameters are not part of it."""
        return self.method, re.sub(r"{[^}]*}", "{}", self.path)


def read_openai_description(folder: Path) -> Json:
    """Read OpenAI's description.

    Raises:
        FileNotFoundError: It is not in the folder; the message says where it is wanted.
    """
    path = folder / "openai" / "openapi.yaml.gz"
    if not path.is_file():
        raise FileNotFoundError(f"OpenAI's description is not at {path}: name the folder of the data in RAG_EVAL_DATA")
    description: Json = yaml.load(gzip.decompress(path.read_bytes()), yaml.CSafeLoader)
    return description


def operations(description: Json) -> Iterator[DescribedOperation]:
    """Yield the operations; those of `?beta=true` paths, which describe the same endpoints again, are left out."""
    for path, item in description["paths"].items():
        if path.endswith(BETA):
            continue
        shared = item.get("parameters", [])
        for method in METHODS:
            if method not in item:
                continue
            body = item[method]
            plain = path.removeprefix("/v1")
            group = next(iter(body.get("tags", ())), None)
            parameters = [*shared, *body.get("parameters", [])]
            yield DescribedOperation(method, plain, body.get("operationId", ""), group, {**body, "parameters": parameters})


def pointed_at(description: Json, reference: str) -> Json:
    """Return what a local reference points at.

    Raises:
        KeyError: Nothing is there.
    """
    found = description
    for part in reference.removeprefix("#/").split("/"):
        found = found[part.replace("~1", "/").replace("~0", "~")]
    return found
