"""A BM25 index (tantivy) over the chunks of one vector store, on disk, shared by every process that uses the data directory."""

import contextlib
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import structlog
import tantivy

from indexers import lexical_seal
from indexers.snapshot_files import locked, store_errors
from rag_server.types import ChunkIds, Cursor, Hit, LogPage

log = structlog.get_logger()

ANALYZER = "words"
# A run of letters and digits is a word; scripts that put no space between words are indexed by character.
UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
WORD = rf"[{UNSPACED}]|[[\p{{L}}\p{{N}}\p{{M}}]--[{UNSPACED}]]+"
MAX_WORD_BYTES = 100
# Enough for any question; bounds the work that a hostile one can cause.
MAX_QUERY_TERMS = 256
WRITER_HEAP_BYTES = 50_000_000
# A query that names the allowed chunks takes about 10 ms for so many; more are filtered out of what is found.
MAX_NAMED_IDS = 10_000


class TantivyIndex:
    """BM25 with English stemming. Every method may be called from any thread."""

    def __init__(self, folder: Path) -> None:
        """Open the index in `folder`; one that is damaged is made anew, so that the log is replayed.

        Raises:
            StoreError: There is no index yet and the folder cannot be written.
        """
        self._folder = folder
        self._lock_file = folder.with_name(f"{folder.name}.lock")
        self._lock = threading.Lock()
        self._analyzer = _analyzer()
        self._schema = _schema()
        self._index = self._open()
        self.cursor = self._read_cursor()

    def apply(self, page: LogPage) -> None:
        """Add and remove what the page says; a page that another process applied before changes nothing.

        Raises:
            StoreError: The disk is full or the folder cannot be written; the index is as it was.
        """
        with self._lock, self._exclusive():
            if not self._committed_is_ours_or_newer() or _reaches(self.cursor, page.cursor):
                return
            with self._writer() as writer:
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

    def reset(self) -> None:
        """Forget everything, so that the log is replayed from its beginning, unless another process has just done so.

        Raises:
            StoreError: The disk is full or the folder cannot be written.
        """
        with self._lock, self._exclusive():
            before = self.cursor
            if not self._committed_is_ours_or_newer() or self.cursor != before:
                return
            with self._writer() as writer:
                writer.delete_all_documents()
                writer.commit()
            self._index.reload()
            self.cursor = Cursor()

    @property
    def newest(self) -> int:
        """The greatest chunk id that was applied and can be found, 0 if there is none."""
        searcher = self._index.searcher()
        # Another process may have added more since; those are beyond our own cursor.
        applied = tantivy.Query.range_query(
            self._schema, "chunk_id", tantivy.FieldType.Unsigned, 1, max(1, self.cursor.chunk_id)
        )
        found = searcher.search(applied, limit=1, order_by_field="chunk_id", count=False).hits
        return int(found[0][0]) if found else 0

    def search(self, text: str, k: int, *, allowed: ChunkIds | None = None) -> list[Hit]:
        """Return up to `k` chunks (of `allowed`) that share a word with `text`, best BM25 score first.

        Any text is a valid query. Scores count the words of all chunks, whichever are allowed.
        """
        terms = list(dict.fromkeys(self._analyzer.analyze(text)))[:MAX_QUERY_TERMS]
        if not terms or (allowed is not None and len(allowed) == 0):
            return []
        should = [(tantivy.Occur.Should, tantivy.Query.term_query(self._schema, "words", term)) for term in terms]
        query = tantivy.Query.boolean_query(should)
        searcher = self._index.searcher()
        if allowed is None:
            return _found(searcher, query, k)
        if len(allowed) > MAX_NAMED_IDS:
            return _found_among(searcher, query, k, allowed)
        named = tantivy.Query.term_set_query(self._schema, "chunk_id", allowed.tolist())
        without_score = tantivy.Query.const_score_query(named, 0.0)
        both = [(tantivy.Occur.Must, query), (tantivy.Occur.Must, without_score)]
        return _found(searcher, tantivy.Query.boolean_query(both), k)

    def save(self) -> None:
        """Do nothing: `apply` is durable when it returns."""

    def _open(self) -> tantivy.Index:
        with contextlib.ExitStack() as stack:
            # Where no lock can be made, nobody can write either.
            with contextlib.suppress(OSError):
                stack.enter_context(locked(self._lock_file))
            try:
                with store_errors("lexical index", self._folder):
                    lexical_seal.check(self._folder)
                return self._open_unchecked()
            except (ValueError, OSError, KeyError, TypeError) as error:
                reason = f"{type(error).__name__}: {error}"
                log.warning("lexical index is damaged and will be rebuilt", folder=str(self._folder), reason=reason)
            with store_errors("lexical index", self._folder):
                shutil.rmtree(self._folder, ignore_errors=True)
                return self._open_unchecked()

    def _open_unchecked(self) -> tantivy.Index:
        self._folder.mkdir(parents=True, exist_ok=True)
        index = tantivy.Index(self._schema, path=str(self._folder))
        index.register_tokenizer(ANALYZER, self._analyzer)
        index.searcher()
        return index

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Keep other processes from writing; tantivy reports a disk that is full or read-only as ValueError."""
        with store_errors("lexical index", self._folder), locked(self._lock_file):
            try:
                yield
            except ValueError as error:
                raise OSError(str(error)) from error

    @contextlib.contextmanager
    def _writer(self) -> Iterator[tantivy.IndexWriter]:
        lexical_seal.break_seal(self._folder)
        writer = self._index.writer(heap_size=WRITER_HEAP_BYTES, num_threads=1)
        try:
            yield writer
        finally:
            writer.wait_merging_threads()
        lexical_seal.seal(self._folder)

    def _committed_is_ours_or_newer(self) -> bool:
        """Take over what other processes committed. False means that one began anew: the page at hand may be too far on."""
        self._index.reload()
        before, self.cursor = self.cursor, self._read_cursor()
        return _reaches(self.cursor, before)

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


def _reaches(cursor: Cursor, other: Cursor) -> bool:
    return cursor.chunk_id >= other.chunk_id and cursor.deletion_id >= other.deletion_id


def _found(searcher: tantivy.Searcher, query: tantivy.Query, k: int) -> list[Hit]:
    found = searcher.search(query, limit=k, count=False)
    ids = searcher.fast_field_values("chunk_id", [address for _, address in found.hits])
    return [Hit(int(id_), float(score or 0)) for (score, _), id_ in zip(found.hits, ids, strict=True) if id_ is not None]


def _found_among(searcher: tantivy.Searcher, query: tantivy.Query, k: int, allowed: ChunkIds) -> list[Hit]:
    """Return the `k` best of `allowed`, by looking further and further down the ranking of all."""
    share = min(1.0, len(allowed) / max(1, searcher.num_docs))
    limit = max(k, round(2 * k / share))
    while True:
        hits = _found(searcher, query, limit)
        is_allowed = np.isin([hit.chunk_id for hit in hits], allowed)
        chosen = [hit for hit, keep in zip(hits, is_allowed, strict=True) if keep]
        if len(chosen) >= k or len(hits) < limit:
            return chosen[:k]
        limit *= 4


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
