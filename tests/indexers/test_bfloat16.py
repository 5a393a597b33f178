"""A model that computes in bfloat16 has the vectors of one that does not, or is not used so."""

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from indexers import bfloat16
from indexers.sentence_embedder import SentenceEmbedder, packaged_folder

TEXTS = ["Cats sleep.", "A ketch has two masts. " * 40, "日本語", "How long?", "x" * 300]


@pytest.fixture
def model() -> SentenceTransformer:
    """The packaged model as sentence-transformers loads it, in single precision."""
    return SentenceTransformer(str(packaged_folder()), device="cpu", local_files_only=True)


def rows_of(model: SentenceTransformer) -> np.ndarray:
    return model.encode(TEXTS, normalize_embeddings=True)


def test_vectors_stay_the_same(model: SentenceTransformer) -> None:
    """Every vector, of texts other than those that are tried, points where the one in single precision does."""
    single = rows_of(model)

    assert bfloat16.convert(model)
    assert rows_of(model).dtype == np.float32
    assert np.sum(single * rows_of(model), axis=1).min() > 0.9999
    # Not the very same: it did compute otherwise.
    assert np.abs(single - rows_of(model)).max() > 1e-6


def test_only_processors_with_units_for_it_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor has the units and their tiles; a GPU is not asked."""
    cpu = torch.device("cpu")
    for known, taken in (
        ({"amx_bf16": True, "amx_tile": True}, True),
        ({"amx_bf16": True, "amx_tile": False}, False),
        ({"avx512_bf16": True}, False),
        ({}, False),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda known=known: known)
        assert bfloat16.is_multiplied(cpu) is taken
        assert not bfloat16.is_multiplied(torch.device("cuda"))


def test_embedder_is_the_same_model_either_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without bfloat16 an embedder has one name and, to within rounding, one vector for a text."""
    rows, names = [], set()
    for is_multiplied in (True, False):
        monkeypatch.setattr(bfloat16, "is_multiplied", lambda _, answer=is_multiplied: answer)
        embedder = SentenceEmbedder()
        names.add(embedder.model_id)
        rows.append(embedder.embed_passages(TEXTS))

    assert len(names) == 1
    assert np.sum(rows[0] * rows[1], axis=1).min() > 0.9999
    np.testing.assert_allclose(rows[0], rows[1], atol=3e-3)


@pytest.mark.parametrize("fault", ["other vectors", "an error"])
def test_model_whose_vectors_change_is_left_as_it_is(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where bfloat16 gives other vectors, or does not run, the model that is used computes in single precision."""

    def convert(linear: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        if fault == "an error":
            return given
        return (torch.flip(given[0], [-1]).to(torch.bfloat16),)

    monkeypatch.setattr(bfloat16, "is_multiplied", lambda _: False)
    expected = SentenceEmbedder().embed_passages(TEXTS)
    monkeypatch.setattr(bfloat16, "is_multiplied", lambda _: True)
    # Unconverted numbers meet converted weights, or the numbers are other ones.
    monkeypatch.setattr(bfloat16, "_in_bfloat16", convert)

    np.testing.assert_array_equal(SentenceEmbedder().embed_passages(TEXTS), expected)
