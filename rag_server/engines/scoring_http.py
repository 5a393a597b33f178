"""The client for endpoints that score passages: vLLM's /rerank, which Jina's API and others share."""

from collections.abc import Callable, Sequence

from pydantic import BaseModel, Field, FiniteFloat, ValidationError

from rag_server.engines.http_client import EngineHttpClient
from rag_server.engines.replicas import Replicas
from rag_server.errors import EngineProtocolError
from rag_server.protocols import Json


class ScoringHttpEngine:
    """A scoring model at a base URL; the URL is asked for at each request, since a restarted child has a new one."""

    def __init__(
        self, base_url: Callable[[], str], *, model: str, api_key: str | None = None, timeout_s: float = 600.0
    ) -> None:
        """Connect to nothing yet.

        Args:
            base_url: Returns the address that `/rerank` is added to, or several with commas between them.
            model: The model's name at the endpoint.
            api_key: Sent as a bearer token.
            timeout_s: Longest wait for an answer, in seconds.
        """
        self._http = EngineHttpClient(Replicas(base_url, name="scorer"), api_key=api_key, timeout_s=timeout_s)
        self._model = model

    async def aclose(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    async def score(self, query: str, texts: Sequence[str]) -> tuple[list[float], int]:
        """Return one score per text, and the number of tokens that were read, 0 where the endpoint does not tell.

        Raises:
            EngineUnavailableError: The endpoint is unreachable, slow or overloaded, and further tries did not help.
            EngineRequestError: It refuses, as with 400 when the texts are too long for the model's context.
            EngineProtocolError: Its answer is not one finite score for each text.
        """
        body = {"model": self._model, "query": query, "documents": list(texts)}
        answer = _parse(await self._http.request("POST", "/rerank", body))
        scores = {result.index: result.relevance_score for result in answer.results}
        if len(answer.results) != len(texts) or set(scores) != set(range(len(texts))):
            raise EngineProtocolError(
                f"the scoring endpoint answered {len(answer.results)} scores, of {len(scores)} texts, to {len(texts)} texts"
            )
        return [scores[index] for index in range(len(texts))], answer.usage.total_tokens


class _Result(BaseModel):
    index: int = Field(strict=True)
    relevance_score: FiniteFloat


class _Usage(BaseModel):
    total_tokens: int = Field(0, ge=0)


class _Answer(BaseModel):
    results: list[_Result]
    usage: _Usage = _Usage()


def _parse(answer: Json) -> _Answer:
    try:
        return _Answer.model_validate(answer)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"])
        raise EngineProtocolError(f"the scoring endpoint's answer is malformed: {place}: {fault['msg']}") from None
