"""The openai package's clients: as they are, and strict, refusing an answer that does not fit their types.

What OpenAI itself sends does not fit everywhere: embeddings in base64, parts of text completions without a finish_reason,
stored messages of users. Nor do our `file_citation` annotations in chat completions, which have only `url_citation` there.
"""

from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from openai import AsyncOpenAI, OpenAI


@pytest.fixture
def lenient_client(server) -> Iterator[OpenAI]:
    with OpenAI(base_url=server.base_url, api_key=server.key, max_retries=0) as client:
        yield client


@pytest.fixture
def client(server) -> Iterator[OpenAI]:
    with OpenAI(base_url=server.base_url, api_key=server.key, max_retries=0, _strict_response_validation=True) as client:
        yield client


@pytest.fixture
async def async_client(server) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=server.base_url, api_key=server.key, max_retries=0) as client:
        yield client


@pytest.fixture
def make_store(client: OpenAI) -> Iterator[Callable[..., str]]:
    """Make a vector store that is gone after the test; return its id."""
    made: list[str] = []

    def make(name: str, **fields: object) -> str:
        made.append(client.vector_stores.create(name=name, **fields).id)
        return made[-1]

    yield make
    for store_id in made:
        client.vector_stores.delete(store_id)
