"""A BM25 index (tantivy) over the chunks of one vector store, on disk, shared by every process that uses the data directory."""

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
import tantivy

from rag_server.errors import StoreError
from rag_server.types import Cursor, Hit, LogPage

log = structlog.get_logger()

ANALYZER = "words"
# A run of letters and digits is a word; scripts that put no space between words are indexed by character.
UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
WORD = rf"[{UNSPACED}]|[[\p{{L}}\p{{N}}\p{{M}}]--[{UNSPACED}]]+"
MAX_WORD_BYTES = 100
# Enough for any question; bounds the work that a hostile one can cause.
MAX_QUERY_TERMS = 256
WRITER_HEAP_BYTES = 50_000_000
LOCK_TIMEOUT_S = 60.0


class TantivyIndex:
    """BM25 with English stemming. Every method may be called from any thread."""

    def __init__(self, folder: Path) -> None:
        """Open the index in `folder`; one that cannot be opened is made anew, so that the log is replayed."""
        self._folder = folder
        self._lock = threading.Lock()
        self._analyzer = _analyzer()
        self._schema = _schema()
        self._index = self._open()
        self.cursor = self._read_cursor()

    def apply(self, page: LogPage) -> None:
        """Add and remove what the page says; a page that another process applied before changes nothing."""
        with self._lock, self._writer() as writer:
            self._index.reload()
            self.cursor = self._read_cursor()
            if page.cursor.chunk_id <= self.cursor.chunk_id and page.cursor.deletion_id <= self.cursor.deletion_id:
                return
            for chunk in page.added:
                if chunk.id > self.cursor.chunk_id:
                    document = tantivy.Document()
                    document.add_unsigned("chunk_id", chunk.id)
                    document.add_text("words", f"{chunk.title}\n{chunk.text}")
                    writer.add_document(document)
            # By query: deleting by term silently matches nothing in an unsigned field.
            writer.delete_documents_by_query(
                tantivy.Query.term_set_query(self._schema, "chunk_id", list(page.deleted_chunk_ids))
            )
            self._write_cursor(writer, page.cursor)
            writer.commit()
            self._index.reload()
            self.cursor = page.cursor

    def search(self, text: str, k: int) -> list[Hit]:
        """Return up to `k` chunks that share a word with `text`, best BM25 score first; any text is a valid query."""
        terms = list(dict.fromkeys(self._analyzer.analyze(text)))[:MAX_QUERY_TERMS]
        if not terms:
            return []
        should = [(tantivy.Occur.Should, tantivy.Query.term_query(self._schema, "words", term)) for term in terms]
        searcher = self._index.searcher()
        found = searcher.search(tantivy.Query.boolean_query(should), limit=k)
        ids = searcher.fast_field_values("chunk_id", [address for _, address in found.hits])
        return [Hit(int(id_), float(score or 0)) for (score, _), id_ in zip(found.hits, ids, strict=True) if id_ is not None]

    def save(self) -> None:
        """Do nothing: `apply` is durable when it returns."""

    def _open(self) -> tantivy.Index:
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            index = tantivy.Index(self._schema, path=str(self._folder))
            index.register_tokenizer(ANALYZER, self._analyzer)
            index.searcher()
        except (ValueError, OSError) as error:
            log.warning("lexical index is damaged and will be rebuilt", folder=str(self._folder), reason=str(error))
            shutil.rmtree(self._folder)
            self._folder.mkdir(parents=True)
            index = tantivy.Index(self._schema, path=str(self._folder))
            index.register_tokenizer(ANALYZER, self._analyzer)
        return index

    @contextmanager
    def _writer(self) -> Iterator[tantivy.IndexWriter]:
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        while True:
            try:
                writer = self._index.writer(heap_size=WRITER_HEAP_BYTES, num_threads=1)
                break
            except ValueError as error:
                if "LockBusy" not in str(error) or time.monotonic() > deadline:
                    raise StoreError(f"cannot write the lexical index in {self._folder}: {error}") from error
                time.sleep(0.05)
        try:
            yield writer
        finally:
            writer.wait_merging_threads()

    def _read_cursor(self) -> Cursor:
        """Return the cursor that was committed together with the documents."""
        searcher = self._index.searcher()
        query = tantivy.Query.term_query(self._schema, "is_cursor", True)
        found = searcher.search(query, limit=1).hits
        if not found:
            return Cursor()
        document = searcher.doc(found[0][1])
        return Cursor(document["cursor_chunk_id"][0], document["cursor_deletion_id"][0])

    def _write_cursor(self, writer: tantivy.IndexWriter, cursor: Cursor) -> None:
        writer.delete_documents_by_query(tantivy.Query.term_query(self._schema, "is_cursor", True))
        document = tantivy.Document()
        document.add_boolean("is_cursor", True)
        document.add_unsigned("cursor_chunk_id", cursor.chunk_id)
        document.add_unsigned("cursor_deletion_id", cursor.deletion_id)
        writer.add_document(document)


def _analyzer() -> tantivy.TextAnalyzer:
    return (
        tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.regex(WORD))
        .filter(tantivy.Filter.remove_long(MAX_WORD_BYTES))
        .filter(tantivy.Filter.lowercase())
        .filter(tantivy.Filter.ascii_fold())
        .filter(tantivy.Filter.stemmer("English"))
        .build()
    )


def _schema() -> tantivy.Schema:
    builder = tantivy.SchemaBuilder()
    builder.add_unsigned_field("chunk_id", indexed=True, fast=True)
    builder.add_text_field("words", tokenizer_name=ANALYZER, index_option="freq")
    builder.add_boolean_field("is_cursor", indexed=True)
    builder.add_unsigned_field("cursor_chunk_id", stored=True)
    builder.add_unsigned_field("cursor_deletion_id", stored=True)
    return builder.build()
