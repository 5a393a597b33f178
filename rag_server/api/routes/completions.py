"""POST /v1/completions: a prompt continued by the engine, or answered from vector stores."""

from fastapi import APIRouter, Response

from rag_server.api.answers import json_answer
from rag_server.api.asking import rag_request, vector_stores_of
from rag_server.api.deps import AccessDep, PassageUrlDep, ServicesDep
from rag_server.api.schemas_chat import MAX_TEXT_CHOICES, CompletionBody
from rag_server.api.sse import event_stream
from rag_server.api.text_answers import TextAnswers, chat_body_of
from rag_server.errors import InvalidRequestError

router = APIRouter()


@router.post("/v1/completions")
async def create_completion(
    body: CompletionBody, services: ServicesDep, access: AccessDep, passage_url: PassageUrlDep
) -> Response:
    """Continue prompts; or answer the prompt as a question, when the model or `rag` names vector stores."""
    _check_choices(body)
    stores = await vector_stores_of(body.model, body.rag, services, access)
    if stores:
        asked = rag_request(
            chat_body_of(body),
            model=body.model,
            rag=body.rag,
            stores=stores,
            services=services,
            access=access,
            passage_url=passage_url,
        )
        pipeline = await services.pipeline()
        prepared = await pipeline.prepare(asked)
        if body.stream:
            return await event_stream(TextAnswers().stream(pipeline.stream(prepared)))
        return await json_answer(TextAnswers().whole(pipeline.complete(prepared)))
    engine_body = body.engine_body()
    if body.stream:
        return await event_stream(services.engine.stream_complete(engine_body))
    return await json_answer(services.engine.complete(engine_body))


def _check_choices(body: CompletionBody) -> None:
    is_one = not isinstance(body.prompt, list) or isinstance(body.prompt[0], int)
    num_prompts = 1 if is_one else len(body.prompt)
    each = max(body.n or 1, body.best_of or 1)
    if num_prompts * each > MAX_TEXT_CHOICES:
        raise InvalidRequestError(
            f"{num_prompts} prompts with {each} answers each are more than {MAX_TEXT_CHOICES} together; send fewer at a time",
            "prompt",
        )
