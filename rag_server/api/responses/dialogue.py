"""What an engine is to read for a response: the input, what came before it, and as much of that as fits."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from rag_server.api.asking import RAG_PREFIX
from rag_server.api.responses.bodies import DialogueBody
from rag_server.api.responses.items import stored_items
from rag_server.api.responses.messages import ReadFile, chat_messages
from rag_server.errors import InvalidRequestError, PromptTooLongError
from rag_server.factory import answerer_of
from rag_server.fitting import largest_that_fits
from rag_server.protocols import Engine, Json
from rag_server.services import Services
from rag_server.types import Access

# They go to the engine in the body of the request.
MAX_FILE_BYTES = 32 * 1024**2


@dataclass(frozen=True, slots=True)
class Dialogue:
    """The items of the input as they are kept, and all messages up to and with them."""

    input_items: list[Json]
    messages: list[Json]


async def read_dialogue(body: DialogueBody, services: Services, access: Access) -> Dialogue:
    """Return what the engine is to read.

    Raises:
        InvalidRequestError: The input is faulty, there is none, or both a response and a conversation would come before it.
        NotFoundError: The conversation, or a file of the input, is not there.
    """
    if body.previous_response_id is not None and body.conversation is not None:
        raise InvalidRequestError(
            "a response follows another one or is in a conversation: leave out previous_response_id or conversation",
            "previous_response_id",
        )
    input_items = await asyncio.to_thread(_input_items, body, services, access)
    history = await asyncio.to_thread(_history, body, services, access)
    messages = await chat_messages(body.instructions, [*history, *input_items], _reader(services, access))
    if not any(message["role"] != "system" for message in messages) and not input_items:
        raise InvalidRequestError("there is nothing to answer: give `input`", "input")
    return Dialogue(input_items, messages)


async def engine_model_of(model: str | None, services: Services) -> str:
    """Return the engine's name of the model that a request names; of a vector store it is what answers from those."""
    if model is not None and not model.startswith(RAG_PREFIX):
        return model
    answerer = None if model is None else answerer_of(services.settings)
    return answerer or await services.engine.default_model()


async def latest_that_fit(messages: Sequence[Json], engine: Engine, model: str, answer_tokens: int) -> list[Json]:
    """Return the messages without as many of the oldest turns as it takes for the engine to have room for the rest.

    A turn is what a user says, with all that follows it; what systems say at the beginning always stays.

    Raises:
        PromptTooLongError: Not even the last turn fits.
    """
    starts = [index for index, message in enumerate(messages) if message["role"] == "user"] or [0]
    head = [message for message in messages[: starts[0]] if message["role"] == "system"]
    max_tokens = await engine.context_length(model) - answer_tokens

    def latest(num_turns: int) -> list[Json]:
        return list(messages) if num_turns > len(starts) else [*head, *messages[starts[-num_turns] :]]

    async def fits(num_turns: int) -> bool:
        return await engine.count_tokens(model, latest(num_turns)) <= max_tokens

    # One more than the turns is everything, with what stands before the first of them.
    num_turns = await largest_that_fits(len(starts) + 1, fits, lower=1)
    if num_turns is None:
        raise PromptTooLongError(
            f"the last turn alone is longer than the {max_tokens} tokens that the engine has room for; shorten it", "input"
        )
    return latest(num_turns)


def _input_items(body: DialogueBody, services: Services, access: Access) -> list[Json]:
    return stored_items(body.input or (), partial(services.store.responses.find_items, access=access), param="input")


def _history(body: DialogueBody, services: Services, access: Access) -> list[Json]:
    if body.previous_response_id is not None:
        return services.store.responses.history(body.previous_response_id, access)
    if body.conversation is not None:
        return services.store.conversations.items(body.conversation.id, access)
    return []


def _reader(services: Services, access: Access) -> ReadFile:
    def read(file_id: str) -> tuple[str, bytes]:
        upload = services.store.uploads.get(file_id, access)
        if upload.bytes > MAX_FILE_BYTES:
            raise InvalidRequestError(
                f"the file {file_id!r} is larger than the {MAX_FILE_BYTES:,} bytes that an input takes", "input"
            )
        return upload.filename, b"".join(services.store.uploads.content(file_id))

    async def read_file(file_id: str) -> tuple[str, bytes]:
        return await asyncio.to_thread(read, file_id)

    return read_file
