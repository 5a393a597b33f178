"""The cohere package's rerank against a live server."""

import cohere
import pytest

DOCUMENTS = ["The ferry leaves at seven.", "The lighthouse was built in 1859.", "A ticket costs ninety crowns."]


def test_documents_are_ranked(server) -> None:
    client = cohere.ClientV2(api_key=server.key, base_url=server.url)

    answer = client.rerank(model="none", query="When was it built?", documents=DOCUMENTS, top_n=2)

    assert [(result.index, result.relevance_score) for result in answer.results] == [(0, 1.0), (1, 0.5)]
    assert answer.meta.billed_units.search_units == 1


async def test_the_asynchronous_client_ranks(server) -> None:
    async with cohere.AsyncClientV2(api_key=server.key, base_url=server.url) as client:
        answer = await client.rerank(model="none", query="When was it built?", documents=DOCUMENTS, max_tokens_per_doc=5)

    assert [result.index for result in answer.results] == [0, 1, 2]


def test_typed_errors(server) -> None:
    with pytest.raises(cohere.UnauthorizedError):
        cohere.ClientV2(api_key="rag-wrong", base_url=server.url).rerank(model="none", query="x", documents=["y"])
    client = cohere.ClientV2(api_key=server.key, base_url=server.url)
    with pytest.raises(cohere.NotFoundError):
        client.rerank(model="no-such-reranker", query="x", documents=["y"])
    with pytest.raises(cohere.BadRequestError):
        client.rerank(model="none", query="x", documents=[])
