"""A running server as LangChain's Embeddings, VectorStore, BaseRetriever and BaseDocumentCompressor, over HTTP.

It needs langchain-core and openai, and nothing of the server. `base_url` is that of any OpenAI client, such as
http://127.0.0.1:8000/v1; a server without keys takes any `api_key`. The openai package's errors are raised as they come.
"""

import json
import uuid
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any
from urllib.parse import quote

from langchain_core.callbacks import CallbackManagerForRetrieverRun, Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import VectorStore
from openai import NotFoundError, OpenAI
from openai.types import VectorStoreSearchResponse
from pydantic import PrivateAttr, SecretStr

NO_KEY = "none"
# What the server says of a result beside the attributes that the file was given.
ID_ATTRIBUTE = "langchain_id"
RESERVED = frozenset({ID_ATTRIBUTE, "document_id"})
FILES_PER_BATCH = 500
POLL_MS = 200
MAX_FILENAME_CHARACTERS = 150


class IndexingError(Exception):
    """Documents could not be indexed; the message says which and why."""


class RagServerEmbeddings(Embeddings):
    """Vectors of the server's embedding model, or of another one that it lists."""

    def __init__(self, *, base_url: str, api_key: str = NO_KEY, model: str = "default") -> None:
        self.model = model
        self._client = OpenAI(base_url=base_url, api_key=api_key)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return one vector per text."""
        if not texts:
            return []
        return [item.embedding for item in self._client.embeddings.create(model=self.model, input=texts).data]

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of a query."""
        return self.embed_documents([text])[0]


class RagServerVectorStore(VectorStore):
    """One collection of the server, made when the first document is added.

    Each document is a file of its own, and its metadata are the file's attributes: at most 15, each a string, a number or a
    boolean. A search finds passages, so that of a long document several parts, with the same id, may come back.
    """

    def __init__(self, *, base_url: str, api_key: str = NO_KEY, collection: str, rag: dict[str, Any] | None = None) -> None:
        """Name the collection; `rag` are the server's options for searches, such as {"rerank": "cross_encoder"}."""
        self.collection = collection
        self._rag = rag
        self._client = OpenAI(base_url=base_url, api_key=api_key)

    def add_texts(
        self, texts: Iterable[str], metadatas: list[dict[str, Any]] | None = None, *, ids: list[str] | None = None, **_: Any
    ) -> list[str]:
        """Index texts and wait until they are found; one whose id is there already replaces it. Return the ids.

        Raises:
            ValueError: The lists differ in length, or metadata have a name that the server uses itself.
            IndexingError: The server could not index a text.
        """
        given = list(texts)
        named = [id_ or str(uuid.uuid4()) for id_ in (ids if ids is not None else [None] * len(given))]
        attributes = metadatas if metadatas is not None else [{}] * len(given)
        if not len(given) == len(named) == len(attributes):
            raise ValueError(f"{len(given)} texts with {len(named)} ids and {len(attributes)} metadatas")
        for metadata in attributes:
            if taken := RESERVED & metadata.keys():
                raise ValueError(f"metadata may not be called {', '.join(sorted(taken))}")
        # Of two texts with one id the last counts, as if they had been added one after the other.
        latest = {id_: (text, metadata) for id_, text, metadata in zip(named, given, attributes, strict=True)}
        replaced = [self._file_ids(id_) for id_ in latest] if ids is not None else []
        rows = [(id_, text, metadata) for id_, (text, metadata) in latest.items()]
        for start in range(0, len(rows), FILES_PER_BATCH):
            self._index(rows[start : start + FILES_PER_BATCH])
        for file_ids in replaced:
            self._remove(file_ids)
        return named

    def delete(self, ids: list[str] | None = None, **_: Any) -> bool:
        """Remove the documents with these ids; None removes the whole collection. An id that is not there is no error."""
        if ids is None:
            self.delete_collection()
            return True
        for id_ in ids:
            self._remove(self._file_ids(id_))
        return True

    def delete_collection(self) -> None:
        """Remove the collection, and the files that were made for its documents."""
        try:
            files = list(self._client.vector_stores.files.list(self.collection, limit=100))
            self._client.vector_stores.delete(self.collection)
        except NotFoundError:
            return
        for file in files:
            if ID_ATTRIBUTE in (file.attributes or {}):
                self._client.files.delete(file.id)

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Return the whole documents with these ids; those that are not there are left out."""
        return [document for id_ in ids for document in self._documents(id_)]

    def similarity_search(
        self,
        query: str,
        k: int = 4,
        filter: dict[str, Any] | None = None,  # noqa: A002 - LangChain's name
        **_: Any,
    ) -> list[Document]:
        """Return the `k` best passages; `filter` is one of OpenAI's, such as {"type": "eq", "key": "year", "value": 2024}."""
        return [document for document, _ in self.similarity_search_with_score(query, k, filter=filter)]

    def similarity_search_with_score(
        self,
        query: str,
        k: int = 4,
        filter: dict[str, Any] | None = None,  # noqa: A002 - LangChain's name
        **_: Any,
    ) -> list[tuple[Document, float]]:
        """Return the `k` best passages, each with its score between 0 and 1, of which more is better."""
        try:
            results = _search(self._client, self.collection, query, k, filter, self._rag)
        except NotFoundError:
            return []
        return [(_added_document(result, result.content[0].text), result.score) for result in results]

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings | None = None,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **connection: Any,
    ) -> "RagServerVectorStore":
        """Index texts into a collection; `connection` are the arguments of the class.

        Raises:
            TypeError: `embedding` is not this server's; a collection has the vectors of the server's model.
        """
        if not (embedding is None or isinstance(embedding, RagServerEmbeddings)):
            raise TypeError("the server embeds with its own model: give RagServerEmbeddings, or None")
        store = cls(**connection)
        store.add_texts(texts, metadatas, ids=ids)
        return store

    def _select_relevance_score_fn(self) -> Any:
        return lambda score: score

    @cached_property
    def _vector_store_id(self) -> str:
        try:
            return self._client.vector_stores.retrieve(self.collection).id
        except NotFoundError:
            return self._client.vector_stores.create(name=self.collection).id

    def _index(self, rows: Sequence[tuple[str, str, dict[str, Any]]]) -> None:
        """Upload the documents and wait until the batch of them is indexed."""
        files = []
        for id_, text, metadata in rows:
            # A row with a text is taken as it is: a file of text might look like something else.
            content = json.dumps({"_id": id_, "text": text}, ensure_ascii=False).encode()
            name = f"{quote(id_, safe='')[:MAX_FILENAME_CHARACTERS]}.jsonl"
            upload = self._client.files.create(file=(name, content), purpose="assistants")
            files.append({"file_id": upload.id, "attributes": {**metadata, ID_ATTRIBUTE: id_}})
        batches = self._client.vector_stores.file_batches
        batch = batches.create_and_poll(self._vector_store_id, files=files, poll_interval_ms=POLL_MS)  # type: ignore[arg-type]
        if batch.file_counts.completed != len(files):
            listed = batches.list_files(batch.id, vector_store_id=self._vector_store_id)
            reasons = {file.last_error.message for file in listed if file.last_error is not None}
            raise IndexingError(f"{len(files) - batch.file_counts.completed} documents: {'; '.join(sorted(reasons))}")

    def _remove(self, file_ids: Iterable[str]) -> None:
        for file_id in file_ids:
            self._client.vector_stores.files.delete(file_id, vector_store_id=self.collection)
            self._client.files.delete(file_id)

    def _file_ids(self, id_: str) -> list[str]:
        return list(dict.fromkeys(result.file_id for result in self._with_id(id_)))

    def _documents(self, id_: str) -> list[Document]:
        results = {result.file_id: result for result in self._with_id(id_)}
        contents = self._client.vector_stores.files
        return [
            _added_document(result, contents.content(file_id, vector_store_id=self.collection).data[0].text or "")
            for file_id, result in results.items()
        ]

    def _with_id(self, id_: str) -> Sequence[VectorStoreSearchResponse]:
        """Return passages of the documents with that id; a search by vectors finds everything that a filter lets through."""
        only = {"type": "eq", "key": ID_ATTRIBUTE, "value": id_}
        try:
            return _search(self._client, self.collection, id_, 1, only, {"retrieve": "dense", "rerank": "none"})
        except NotFoundError:
            return []


class RagServerRetriever(BaseRetriever):
    """The passages of a collection, however it was indexed, by the server's whole search."""

    base_url: str
    api_key: SecretStr = SecretStr(NO_KEY)
    collection: str
    k: int = 10
    filters: dict[str, Any] | None = None
    rag: dict[str, Any] | None = None
    _client: OpenAI = PrivateAttr()

    def model_post_init(self, _: Any) -> None:
        """Connect, once."""
        self._client = OpenAI(base_url=self.base_url, api_key=self.api_key.get_secret_value())

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        results = _search(self._client, self.collection, query, k or self.k, self.filters, self.rag)
        return [_found_document(result) for result in results]


class RagServerReranker(BaseDocumentCompressor):
    """Documents from anywhere, in the order of one of the server's rerankers, the `top_n` best of them."""

    base_url: str
    api_key: SecretStr = SecretStr(NO_KEY)
    model: str = "default"
    top_n: int | None = None
    _client: OpenAI = PrivateAttr()

    def model_post_init(self, _: Any) -> None:
        """Connect, once."""
        self._client = OpenAI(base_url=self.base_url, api_key=self.api_key.get_secret_value())

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """Return the documents, the best first, each with `relevance_score` in its metadata."""
        if not documents:
            return []
        body = {
            "model": self.model,
            "query": query,
            "documents": [document.page_content for document in documents],
            "top_n": self.top_n,
            "return_documents": False,
        }
        answer: Any = self._client.post("/rerank", body=body, cast_to=object)
        return [_scored(documents[result["index"]], result["relevance_score"]) for result in answer["results"]]


def _search(
    client: OpenAI, collection: str, query: str, k: int, filters: dict[str, Any] | None, rag: dict[str, Any] | None
) -> list[VectorStoreSearchResponse]:
    wanted: dict[str, Any] = {"filters": filters} if filters is not None else {}
    extra = {"rag": rag} if rag is not None else None
    return client.vector_stores.search(collection, query=query, max_num_results=k, extra_body=extra, **wanted).data


def _added_document(result: VectorStoreSearchResponse, text: str) -> Document:
    """Return a document with the id and the metadata that it was added with."""
    attributes = dict(result.attributes or {})
    metadata = {name: value for name, value in attributes.items() if name not in RESERVED}
    return Document(id=str(attributes.get(ID_ATTRIBUTE, attributes.get("document_id"))), page_content=text, metadata=metadata)


def _found_document(result: VectorStoreSearchResponse) -> Document:
    """Return a passage with its file's attributes, where it stands, and the address that shows it."""
    rag: dict[str, Any] = (result.model_extra or {}).get("rag", {})
    metadata: dict[str, Any] = dict(result.attributes or {})
    metadata |= {name: rag[name] for name in ("title", "start", "end", "url") if name in rag}
    metadata |= {"file_id": result.file_id, "filename": result.filename, "score": result.score}
    id_ = str(rag["passage_id"]) if "passage_id" in rag else None
    return Document(id=id_, page_content=result.content[0].text, metadata=metadata)


def _scored(document: Document, score: float) -> Document:
    return document.model_copy(update={"metadata": {**document.metadata, "relevance_score": score}})
