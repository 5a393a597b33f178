"""The sections of documents: kept as they were found, told by the places of chunks where they were not kept."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from rag_server.factory import Store
from rag_server.store.reading import MAX_STRETCH_CHARACTERS
from rag_server.store.sections import sections_at, sections_of_chunks
from rag_server.store.verification import verify
from rag_server.types import Access, NewFile, Page, Section, StoredFile, VectorStore
from tests.stores import MODEL, embedded, rows

Open = Callable[[], Store]
BOOK = (
    Section(0, "page", 1.0),
    Section(0, "heading", "Cats", 1),
    Section(5, "page", 2.0),
    Section(7, "heading", "Food", 2),
    Section(9, "page", 3.0),
)


@pytest.fixture
def store(open_store: Open) -> Store:
    return open_store()


@pytest.fixture
def docs(store: Store) -> VectorStore:
    return store.vector_stores.create("docs", Access(), MODEL)


def put(store: Store, docs: VectorStore, *sentences: str, name: str = "a.md", sections: tuple[Section, ...] = ()) -> StoredFile:
    """A file of one document with these sections and a chunk per sentence."""
    file = store.files.begin(docs, NewFile(f"/papers/{name}", name, 1))
    one = embedded(name, *sentences)
    store.documents.put(docs, file, [replace(one, document=replace(one.document, sections=sections))], bytes_read=1)
    return file


def test_sections_come_back_as_they_were_found(store: Store, docs: VectorStore) -> None:
    """Labels keep their types, and starts inside of chunks are not moved to where chunks start."""
    put(store, docs, "Cats sleep. ", "They eat.", sections=BOOK)

    assert store.passages.stretch(1, Access()).sections == BOOK


def test_stretch_has_its_own_sections_and_those_that_it_starts_in(store: Store, docs: VectorStore) -> None:
    """Of each kind the last before the stretch; what starts at its end is not in it."""
    put(store, docs, "Cats sleep. ", "They eat.", sections=BOOK)

    assert store.passages.stretch(1, Access(), start=6, end=9).sections == (BOOK[1], BOOK[2], BOOK[3])
    assert store.passages.stretch(1, Access(), start=9, end=10).sections == (BOOK[3], BOOK[4])
    assert sections_at([BOOK[3]], 0, 7) == ()


def test_sections_go_with_their_document(store: Store, docs: VectorStore) -> None:
    """Replaced with it and deleted with it; nothing is left that refers to nothing."""
    put(store, docs, "Cats sleep. ", "They eat.", sections=BOOK)
    file = put(store, docs, "Cats sleep.", sections=BOOK[:1])
    assert rows(store, "SELECT count(*) FROM document_sections") == [(1,)]

    store.files.delete(docs, file)

    assert rows(store, "SELECT count(*) FROM document_sections") == [(0,)]
    verify(store.database)


def test_places_of_chunks_tell_where_sections_are() -> None:
    """A section is told wherever a chunk stands in another one than the chunk before; of headings the last of their path."""
    chunks = [
        (0, {"page": 1.0, "heading": "Cats"}),
        (10, {"page": 1.0, "heading": "Cats > Food"}),
        (20, {"page": 2.0, "heading": "Cats > Food"}),
        (30, {"page": 2.0}),
        (40, {"page": 2.0, "heading": "Cats > Food"}),
    ]

    assert sections_of_chunks(chunks) == [
        Section(0, "page", 1.0),
        Section(0, "heading", "Cats", 1),
        Section(10, "heading", "Food", 2),
        Section(20, "page", 2.0),
        Section(40, "heading", "Food", 2),
    ]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (None, None, (1_050_000, 1_450_000)),
        (0, None, (0, 400_000)),
        (None, 300_000, (0, 300_000)),
        (None, 1_000_000, (600_000, 1_000_000)),
        (5, 6, (5, 6)),
        (5, 5, (5, 5)),
        (100, 2_000_000, (100, 400_100)),
        (2_499_990, 9_999_999, (2_499_990, 2_500_000)),
        (2**31 - 1, None, (2_500_000, 2_500_000)),
    ],
)
def test_stretch_of_a_long_text_is_bounded(
    store: Store, docs: VectorStore, start: int | None, end: int | None, expected: tuple[int, int]
) -> None:
    """As asked for, within the text and MAX_STRETCH_CHARACTERS; unasked, what stands on both sides of the passage."""
    letters = "abcdefghijklmnopqrstuvwxyz" * 100_000
    text = letters[:2_500_000]
    put(store, docs, text[:1_200_000], text[1_200_000:1_300_000], text[1_300_000:])

    found = store.passages.stretch(2, Access(), start=start, end=end)

    assert (found.start, found.end, found.characters) == (*expected, 2_500_000)
    assert found.text == text[expected[0] : expected[1]]
    assert len(found.text) <= MAX_STRETCH_CHARACTERS


@pytest.mark.parametrize(("first", "expected"), [(0, (0, 400_000)), (2, (799_995, 1_000_000))])
def test_what_stands_round_a_passage_holds_it(store: Store, docs: VectorStore, first: int, expected: tuple[int, int]) -> None:
    """Also at either end of the text; a text that is no longer than a stretch is given whole."""
    ends = [10, 999_990, 1_000_000]
    text = "x" * 1_000_000
    put(store, docs, *(text[start:end] for start, end in zip([0, *ends], ends, strict=False)))
    put(store, docs, "y" * MAX_STRETCH_CHARACTERS, name="b.md")

    found = store.passages.stretch(first + 1, Access())

    assert (found.start, found.end) == expected
    assert len(store.passages.stretch(4, Access()).text) == MAX_STRETCH_CHARACTERS


def test_passages_of_a_file_come_in_the_order_of_its_text(store: Store, docs: VectorStore) -> None:
    """Document by document, chunk by chunk, in pages from either end, and nothing of another file."""
    file = put(store, docs, "One. ", "Two. ", "Three. ")
    put(store, docs, "Other.", name="b.md")
    store.documents.put(docs, file, [embedded("second", "Four. ", "Five.")], bytes_read=1)

    def texts(page: Page) -> tuple[list[str], bool]:
        passages, has_more = store.passages.page(file, Access(), page)
        return [passage.text for passage in passages], has_more

    assert texts(Page(10, "asc")) == (["One. ", "Two. ", "Three. ", "Four. ", "Five."], False)
    assert texts(Page(2, "asc")) == (["One. ", "Two. "], True)
    assert texts(Page(2, "asc", after=2)) == (["Three. ", "Four. "], True)
    assert texts(Page(2, "asc", after=5)) == (["Five."], False)
    assert texts(Page(2, "desc", after=2)) == (["One. "], False)
