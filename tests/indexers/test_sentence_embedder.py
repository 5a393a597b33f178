"""The embedding model against sentence-transformers itself."""

from pathlib import Path

import numpy as np
import pytest

from indexers.sentence_embedder import SentenceEmbedder
from rag_server.errors import ConfigError
from rag_server.protocols import Embedder

TEXTS = ["Cats sleep.", "A ketch has two masts.", "日本語", ""]


def test_rows_are_the_models_unit_vectors(embedder: Embedder) -> None:
    """One unit row per text, equal to what the model gives by itself."""
    rows = embedder.embed_passages(TEXTS)
    expected = embedder._model.encode(TEXTS, normalize_embeddings=True)

    assert rows.shape == (4, embedder.dimension) == (4, 384)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(rows, expected, atol=1e-5)
    np.testing.assert_allclose(embedder.embed_queries(TEXTS), expected, atol=1e-5)


def test_token_spans_are_the_tokenizers(embedder: Embedder) -> None:
    """As many spans as the model reads tokens, special ones left out, each where its token stands."""
    text = "Unbelievable cats sleep, don't they?"
    spans = embedder.token_spans(text)
    tokens = embedder._model.tokenizer.tokenize(text)

    assert [text[start:end].lower() for start, end in spans] == [token.removeprefix("##") for token in tokens]
    assert len(embedder.token_spans("word " * 1000)) == 1000
    assert embedder.max_tokens == 254


def test_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    """A folder without a model is refused with the setting's name."""
    with pytest.raises(ConfigError, match="RAG_EMBEDDER__MODEL"):
        SentenceEmbedder(str(tmp_path))
