"""Turns a request for an answer into one for the pipeline: which vector stores it names, and how they are searched."""

from rag_server.answer import PassageUrl
from rag_server.api.options import options_with
from rag_server.api.schemas import MAX_QUERY_CHARACTERS, RagBody
from rag_server.coalescing import all_of
from rag_server.errors import InvalidRequestError, ModelNotFoundError, NotFoundError, PromptTooLongError
from rag_server.filters import parse_filter
from rag_server.pipeline import RagRequest
from rag_server.prompt import question_of
from rag_server.protocols import Json
from rag_server.services import Services
from rag_server.types import Access, VectorStore

# Of the models that answer from a vector store, before its name.
RAG_PREFIX = "rag/"


async def vector_stores_of(model: str, rag: RagBody | None, services: Services, access: Access) -> tuple[VectorStore, ...]:
    """Return the vector stores that a request names in `rag` or by its model, none for a plain engine model.

    Raises:
        ModelNotFoundError: There is no vector store for that model.
        NotFoundError: One that `rag` names does not exist.
        InvalidRequestError: `rag` names none, and the model neither; or one is expired.
    """
    if rag is not None and rag.vector_store_ids:
        names = dict.fromkeys(rag.vector_store_ids)
        return tuple(await all_of(services.vector_store(name, access) for name in names))
    if not model.startswith(RAG_PREFIX):
        if rag is not None:
            raise InvalidRequestError("name at least one vector store, or use a model rag/<name>", "rag.vector_store_ids")
        return ()
    try:
        return (await services.vector_store(model.removeprefix(RAG_PREFIX), access),)
    except NotFoundError as error:
        raise ModelNotFoundError(f"there is no model {model!r}: {error}") from None


def rag_request(
    chat_body: Json,
    *,
    model: str,
    rag: RagBody | None,
    stores: tuple[VectorStore, ...],
    services: Services,
    access: Access,
    passage_url: PassageUrl,
    trace: bool = False,
) -> RagRequest:
    """Return the request to the pipeline.

    Raises:
        InvalidRequestError: The conversation holds no question, one that is too long to be searched for, or a filter is faulty.
    """
    question = question_of(chat_body["messages"])
    if len(question) > MAX_QUERY_CHARACTERS:
        raise PromptTooLongError(f"the question has more than {MAX_QUERY_CHARACTERS:,} characters; shorten it", "messages")
    return RagRequest(
        body=chat_body,
        model_name=model,
        engine_model=None if model.startswith(RAG_PREFIX) else model,
        vector_stores=stores,
        options=options_with(services.default_options, rag),
        passage_url=passage_url,
        access=access,
        filter=None if rag is None or rag.filters is None else parse_filter(rag.filters),
        trace=trace,
    )
