"""Our parts for LangChain pass LangChain's own standard tests, against a live server."""

import math
import uuid
from collections.abc import Iterator

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_tests.integration_tests import (
    EmbeddingsIntegrationTests,
    RetrieversIntegrationTests,
    VectorStoreIntegrationTests,
)
from langchain_tests.unit_tests import EmbeddingsUnitTests

from rag_server.integrations.langchain import RagServerEmbeddings, RagServerReranker, RagServerRetriever, RagServerVectorStore


class _OfTheServer:
    @pytest.fixture(autouse=True)
    def _connection(self, server) -> None:
        self.connection = {"base_url": server.base_url, "api_key": server.key}


class _OfEmbeddings(_OfTheServer):
    @property
    def embeddings_class(self) -> type[Embeddings]:
        return RagServerEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, object]:
        return self.connection


class TestEmbeddings(_OfEmbeddings, EmbeddingsIntegrationTests):
    """LangChain's integration tests of embeddings."""


class TestEmbeddingsUnit(_OfEmbeddings, EmbeddingsUnitTests):
    """LangChain's unit tests of embeddings."""


class TestVectorStore(_OfTheServer, VectorStoreIntegrationTests):
    """LangChain's integration tests of vector stores; none is left out."""

    @pytest.fixture
    def vectorstore(self, _connection: None) -> Iterator[RagServerVectorStore]:
        store = RagServerVectorStore(**self.connection, collection=f"standard-{uuid.uuid4()}")
        yield store
        store.delete_collection()


class TestRetriever(_OfTheServer, RetrieversIntegrationTests):
    """LangChain's integration tests of retrievers."""

    @property
    def retriever_constructor(self) -> type[RagServerRetriever]:
        return RagServerRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, object]:
        return {**self.connection, "collection": "handbook"}

    @property
    def retriever_query_example(self) -> str:
        return "When does the ferry leave?"


@pytest.fixture
def store(server) -> Iterator[RagServerVectorStore]:
    store = RagServerVectorStore(base_url=server.base_url, api_key=server.key, collection=f"own-{uuid.uuid4()}")
    yield store
    store.delete_collection()


def test_the_retriever_says_where_a_passage_stands(server) -> None:
    retriever = RagServerRetriever(base_url=server.base_url, api_key=server.key, collection="handbook", k=1)

    (document,) = retriever.invoke("When was the lighthouse built?")

    assert "1859" in document.page_content
    assert document.metadata["filename"] == "lighthouse.md"
    assert document.metadata["url"].startswith(f"{server.base_url}/passages/")
    assert 0 <= document.metadata["score"] <= 1


def test_a_filter_limits_the_search(store: RagServerVectorStore) -> None:
    store.add_texts(["the old pier", "the new pier"], [{"year": 1900}, {"year": 2000}], ids=["old", "new"])

    found = store.similarity_search("pier", filter={"type": "lt", "key": "year", "value": 1950})

    assert [document.id for document in found] == ["old"]


def test_scores_fall_and_lie_between_0_and_1(store: RagServerVectorStore) -> None:
    store.add_texts(["herring are caught at night", "the library opens at nine"])

    scores = [score for _, score in store.similarity_search_with_relevance_scores("when are herring caught?", k=2)]

    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)


def test_a_long_document_is_found_by_passage_and_returned_whole(store: RagServerVectorStore) -> None:
    """Its id leads to the whole text, whatever part of it a search has found."""
    text = (
        "\n\n".join(f"Paragraph {number}. " + "The tide comes and goes. " * 40 for number in range(20)) + "The wreck lies here."
    )
    store.add_texts([text], ids=["a/long one?"])

    passage = store.similarity_search("where is the wreck?", k=1)[0]

    assert passage.id == "a/long one?"
    assert len(passage.page_content) < len(text)
    assert [document.page_content for document in store.get_by_ids(["a/long one?"])] == [text]


def test_metadata_that_the_server_cannot_keep_are_refused(store: RagServerVectorStore) -> None:
    with pytest.raises(ValueError, match="document_id"):
        store.add_texts(["x"], [{"document_id": "5"}])


def test_from_documents_takes_only_the_servers_own_embeddings(server) -> None:
    """A foreign model's vectors would not be used, which must not go unnoticed."""
    from langchain_core.embeddings import DeterministicFakeEmbedding

    with pytest.raises(TypeError, match="its own model"):
        RagServerVectorStore.from_documents(
            [Document(page_content="x")], DeterministicFakeEmbedding(size=8), base_url=server.base_url, collection="never"
        )


def test_the_embeddings_are_those_of_the_collections(server) -> None:
    """The same text has the same vector each time, of length one."""
    embeddings = RagServerEmbeddings(base_url=server.base_url, api_key=server.key)

    first, second = embeddings.embed_documents(["the ferry", "the ferry"])

    assert first == pytest.approx(second, abs=1e-6)
    assert math.hypot(*first) == pytest.approx(1.0, abs=1e-3)


def test_the_reranker_orders_documents_and_keeps_their_metadata(server) -> None:
    """`none` leaves the order as it is, so that what is left of two documents is known."""
    documents = [Document(page_content="first", metadata={"n": 1}), Document(page_content="second", metadata={"n": 2})]
    reranker = RagServerReranker(base_url=server.base_url, api_key=server.key, model="none", top_n=1)

    (best,) = reranker.compress_documents(documents, "anything")

    assert (best.page_content, best.metadata["n"]) == ("first", 1)
    assert best.metadata["relevance_score"] == 1.0
    assert "relevance_score" not in documents[0].metadata
