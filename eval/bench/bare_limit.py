"""What indexing is measured beside: sentence-transformers and FAISS with nothing around them."""

from collections.abc import Sequence

import faiss
import numpy as np
from sentence_transformers import SentenceTransformer

from indexers.sentence_embedder import packaged_folder

# What sentence-transformers takes unasked.
BATCH_SIZE = 32


class BareLimit:
    """Embeds passages with the packaged model and adds them to an index in memory; texts are not even kept."""

    def __init__(self) -> None:
        self._model = SentenceTransformer(str(packaged_folder()), local_files_only=True)
        self._index = faiss.IndexFlatIP(self._model.get_embedding_dimension())

    def index(self, passages: Sequence[str]) -> None:
        """Embed the passages, which it sorts by length, and add them."""
        rows = self._model.encode(
            list(passages), batch_size=BATCH_SIZE, normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False
        )
        self._index.add(np.ascontiguousarray(rows, dtype=np.float32))
