"""Drives every endpoint of a live server and checks each answer against OpenAI's description."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import httpx

from eval.conformance import dialogue_exchanges, exchanges
from eval.conformance.descriptions import operations
from eval.conformance.driver import Driver
from eval.conformance.validation import Validator
from rag_server.protocols import Json

GROUPS: dict[str, Callable[[Driver], None]] = {
    **exchanges.GROUPS,
    "Responses": dialogue_exchanges.responses,
    "Conversations": dialogue_exchanges.conversations,
}
# Where this server differs knowingly: the operation and the fault, and why.
DEVIATIONS: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"^\w+ \.(first|last)_id: None is not of type 'string'"),
        "an empty list has no first and no last id: null, as OpenAI's own server answers",
    ),
    (
        re.compile(r"^\w*[cC]hatCompletion\w* .*\.annotations\[\].*(url_citation|file_citation)"),
        "a chat completion carries file citations beside OpenAI's URL citations",
    ),
    (
        re.compile(r"^getChatCompletionMessages \.data\[\]\.role: '(user|system|developer|tool)' is not one of"),
        "the messages of a stored chat completion are those of every role; OpenAI describes the assistant's only",
    ),
    (
        re.compile(r"^createCompletion \.(choices\[\]\.finish_reason|usage): None is not"),
        "OpenAI does not describe the chunks of a streamed text completion: before the end they have no reason and no usage",
    ),
    (
        re.compile(r"^searchVectorStore .*: Additional properties are not allowed \('rag' was unexpected\)"),
        "a search and its results carry this server's own `rag`, where OpenAI describes closed objects",
    ),
    (
        re.compile(r"^createEmbedding \.data\[\]\.embedding: '.*is not of type 'array'", re.DOTALL),
        "OpenAI describes embeddings as arrays only, though encoding_format has base64",
    ),
    (
        re.compile(r"^\w+Batch(es)? (\.data\[\])?\.(\w+_at|\w+_file_id|errors|model): None is not of type"),
        "what a batch does not have yet is null, as in the answers of OpenAI's own server and in its examples",
    ),
    (
        re.compile(r"^\w+Batch(es)? (\.data\[\])?\.errors\.data\[\]\.(line|param): None is not of type"),
        "an error of a batch that is not of one line, or of one field, has null there, as in OpenAI's own server",
    ),
)


@dataclass(slots=True)
class Endpoint:
    """What one endpoint answered: how often, with which statuses, and what was wrong."""

    name: str
    group: str
    statuses: list[int] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    deviations: set[str] = field(default_factory=set)

    @property
    def verdict(self) -> str:
        """Return `ok` or what is wrong."""
        if not self.statuses:
            return "not there"
        return "; ".join(dict.fromkeys(self.faults)) or "ok"


def check_live(client: httpx.Client, description: Json, groups: Sequence[str]) -> list[Endpoint]:
    """Return one result per operation of the groups."""
    validator = Validator(description)
    found = {
        (operation.method, operation.path): Endpoint(f"{operation.method.upper()} {operation.path}", operation.group or "")
        for operation in operations(description)
        if operation.group in groups
    }
    for group in groups:
        driver = Driver(client)
        GROUPS[group](driver)
        for answer in driver.answers:
            operation = validator.operation(answer.method, answer.path)
            endpoint = None if operation is None else found.get((operation.method, operation.path))
            if operation is None or endpoint is None or _is_absent(answer.status, answer.content):
                continue
            endpoint.statuses.append(answer.status)
            if answer.status >= 500:
                endpoint.faults.append(f"answered {answer.status}")
            for fault in validator.faults(answer):
                reason = next((reason for pattern, reason in DEVIATIONS if pattern.search(f"{operation.id} {fault}")), None)
                if reason is None:
                    endpoint.faults.append(fault)
                else:
                    endpoint.deviations.add(reason)
    return list(found.values())


def _is_absent(status: int, content: bytes) -> bool:
    """Return whether the answer says that there is no such route, rather than no such object."""
    return status in (404, 405) and (b"there is no GET /" in content or b"there is no POST /" in content or status == 405)
