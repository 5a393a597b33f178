"""Embeddings over HTTP: the very vectors of the embedding model, in every form that OpenAI has for them."""

import base64
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from rag_server.protocols import Embedder
from rag_server.types import Vectors
from tests.live import Live, live_server

TEXTS = ["Cats sleep for sixteen hours a day.", "A ketch has two masts.", "zwölf Boxkämpfer 🥊", " leading space"]
MODEL = "all-MiniLM-L6-v2"
# Where the processor computes in bfloat16, a vector is rounded otherwise in other company.
ROUNDING = 3e-3


class Prompted:
    """An embedding model that treats queries otherwise, and says whether its vectors may be cut."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self.gate = threading.Event()
        self.gate.set()
        self.num_batches = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._embedder, name)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return self._embedder.embed_queries([f"query: {text}" for text in texts])

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        self.num_batches += 1
        self.gate.wait(10)
        return self._embedder.embed_passages(texts)

    def shortens_to(self, dimension: int) -> bool:
        return dimension in (64, 128)


@pytest.fixture(scope="module")
def model(embedder: Embedder) -> Prompted:
    return Prompted(embedder)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, model: Prompted) -> Iterator[Live]:
    """One server that every test shares."""
    with live_server(tmp_path_factory.mktemp("embeddings"), model) as server:
        yield server


def embed(live: Live, given: Any, **fields: Any) -> httpx.Response:
    return live.client.post("/v1/embeddings", json={"model": MODEL, "input": given, **fields})


def vectors(response: httpx.Response) -> np.ndarray:
    """The vectors of an answer, whose objects must be in the order of the input."""
    assert response.status_code == 200, response.text
    data = response.json()["data"]
    assert [(found["object"], found["index"]) for found in data] == [("embedding", index) for index in range(len(data))]
    rows = [
        np.frombuffer(base64.b64decode(found["embedding"]), dtype="<f4")
        if isinstance(found["embedding"], str)
        else np.array(found["embedding"])
        for found in data
    ]
    return np.stack(rows)


@pytest.mark.parametrize("encoding", [None, "float", "base64"])
@pytest.mark.parametrize("name", [MODEL, "default"])
def test_vectors_are_those_of_the_model(live: Live, embedder: Embedder, encoding: str | None, name: str) -> None:
    """Either encoding gives, to within rounding, what the model computes directly."""
    response = embed(live, TEXTS, model=name, encoding_format=encoding, user="u")

    answer = response.json()
    num_tokens = sum(len(embedder.token_spans(text)) for text in TEXTS)
    np.testing.assert_allclose(vectors(response), embedder.embed_passages(TEXTS), atol=ROUNDING)
    assert isinstance(answer["data"][0]["embedding"], str) == (encoding == "base64")
    assert (answer["object"], answer["model"]) == ("list", MODEL)
    assert answer["usage"] == {"prompt_tokens": num_tokens, "total_tokens": num_tokens}


def test_encodings_are_equal_to_the_bit(live: Live) -> None:
    """Both encodings are of the same 32-bit floats, in little-endian order."""
    as_float, as_base64 = (vectors(embed(live, TEXTS[0], encoding_format=name)) for name in ("float", "base64"))

    assert as_base64.dtype == np.dtype("<f4")
    assert as_float.astype(np.float32).tobytes() == as_base64.tobytes()


def test_many_texts_keep_their_order(live: Live, embedder: Embedder) -> None:
    """Texts of mixed lengths over several batches come back each in its own place."""
    texts = [f"text {number} " + "word " * (number * 37 % 50) for number in range(100)]

    found = vectors(embed(live, texts))

    np.testing.assert_allclose(found, embedder.embed_passages(texts), atol=ROUNDING)


def test_token_ids_are_the_models_own(live: Live, embedder: Embedder) -> None:
    """Ids of the model's vocabulary mean the text that they are of, one list or several, with special tokens or without."""
    tokenizer = embedder._tokenizer
    text = "Cats sleep unquestionably long."
    plain = tokenizer.encode(text, add_special_tokens=False).ids
    special = tokenizer.encode(text, add_special_tokens=True).ids
    expected = embedder.embed_passages([text])[0]

    assert len(special) == len(plain) + 2
    for given in (plain, [plain], [special, plain]):
        for row in vectors(embed(live, given)):
            np.testing.assert_allclose(row, expected, atol=ROUNDING)


def test_queries_are_embedded_as_queries(live: Live, embedder: Embedder) -> None:
    """`rag.input_type` chooses how a model treats a text; without it, texts are passages."""
    query = vectors(embed(live, TEXTS[0], rag={"input_type": "query"}))[0]
    passage = vectors(embed(live, TEXTS[0], rag={"input_type": "passage"}))[0]

    np.testing.assert_allclose(query, embedder.embed_passages([f"query: {TEXTS[0]}"])[0], atol=ROUNDING)
    np.testing.assert_allclose(passage, embedder.embed_passages([TEXTS[0]])[0], atol=ROUNDING)


def test_dimensions_are_cut_where_the_model_allows_it(live: Live, embedder: Embedder) -> None:
    """The first columns come back with unit length; a model that was not trained for it is not cut."""
    whole = embedder.embed_passages(TEXTS)

    cut = vectors(embed(live, TEXTS, dimensions=64))
    equal = vectors(embed(live, TEXTS, dimensions=384))
    refused = embed(live, TEXTS, dimensions=65)

    np.testing.assert_allclose(cut, whole[:, :64] / np.linalg.norm(whole[:, :64], axis=1, keepdims=True), atol=ROUNDING)
    np.testing.assert_allclose(equal, whole, atol=ROUNDING)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "dimensions")


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("", "input 0"),
        (["a", " \n"], "input 1"),
        (["a", "b", "word " * 300], "input 2 has 300 tokens"),
        (["a", "x" * 100_001], "input 1"),
        ([[5, 6], [30_522]], "input 1"),
        ([[101, 102]], "input 0"),
        ([5, -1], "token ids"),
        ([], "empty"),
        ([[]], "text 0"),
        (["a", 5], "text 1"),
        (["a", [5]], "text 1"),
        ([[5], "a"], "text 1"),
        ([[5], [True]], "text 1"),
        ([1.5], "text 0"),
        (["a"] * 2049, "2048"),
        ([[5]] * 2049, "2048"),
        ([5] * 1_000_001, "1,000,000"),
        (None, "must be"),
        ({"text": "a"}, "must be"),
        (5, "must be"),
    ],
)
def test_faulty_input_is_named(live: Live, given: Any, named: str) -> None:
    """What cannot be embedded whole is 400 and names the place; nothing is cut silently."""
    response = embed(live, given)

    error = response.json()["error"]
    assert (response.status_code, error["param"], error["type"]) == (400, "input", "invalid_request_error")
    assert named in error["message"]


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"encoding_format": "hex"}, 400, "encoding_format"),
        ({"dimensions": 0}, 400, "dimensions"),
        ({"dimensions": "64"}, 400, "dimensions"),
        ({"user": 5}, 400, "user"),
        ({"rag": {"input_type": "x"}}, 400, "rag.input_type"),
        ({"truncate": True}, 400, "truncate"),
        ({"model": "none"}, 404, None),
        ({"model": None}, 400, "model"),
    ],
)
def test_faulty_field_is_named(live: Live, fields: dict, status: int, param: str | None) -> None:
    """Fields of a wrong type, and those that OpenAI has not, are refused by name."""
    response = embed(live, "a", **fields)

    assert (response.status_code, response.json()["error"]["param"]) == (status, param)


def test_models_of_the_engine_are_the_engines(live: Live) -> None:
    """A model that the engine lists is asked there, with every field as it came."""
    request = {
        "model": "scripted",
        "input": ["a", "b"],
        "dimensions": 4,
        "encoding_format": "float",
        "truncate_prompt_tokens": 9,
    }

    response = live.client.post("/v1/embeddings", json=request)

    assert response.status_code == 200
    assert len(response.json()["data"][1]["embedding"]) == 4
    assert any(request == httpx.Response(200, content=body).json() for body in live.engine.sent if body)


async def test_official_clients_get_the_vectors(live: Live, embedder: Embedder) -> None:
    """OpenAI's clients ask for base64 unless told otherwise, and get the same numbers either way."""
    expected = embedder.embed_passages(TEXTS)
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="none") as client:
        whole = client.embeddings.create(model=MODEL, input=TEXTS)
    async with openai.AsyncOpenAI(base_url=f"{live.url}/v1", api_key="none") as client:
        floats = await client.embeddings.create(model=MODEL, input=TEXTS, encoding_format="float")

    for answer in (whole, floats):
        np.testing.assert_allclose([found.embedding for found in answer.data], expected, atol=ROUNDING)


def test_client_that_goes_away_ends_the_work(live: Live, model: Prompted) -> None:
    """Of many batches those that have not begun when the client goes are never computed."""
    model.num_batches = 0
    model.gate.clear()
    try:
        with pytest.raises(httpx.ReadTimeout):
            live.client.post("/v1/embeddings", json={"model": MODEL, "input": ["a b c"] * 640}, timeout=1.0)
        while 'rag_queue_running{queue="search"} 0.0' not in live.client.get("/metrics").text:
            time.sleep(0.01)
    finally:
        model.gate.set()
    # A batch that is computed in another one's place would be counted by now.
    embed(live, "a", rag={"input_type": "query"})

    assert model.num_batches == 1
