"""The BM25 index: scores by hand, any query, several processes, damage."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexers.lexical_index import TantivyIndex
from rag_server.types import Cursor, LoggedChunk, LogPage

NO_VECTOR = np.zeros(1, dtype=np.float32)


def page(texts: dict[int, str], deleted: tuple[int, ...] = (), deletion_id: int = 0) -> LogPage:
    added = tuple(LoggedChunk(id_, "", text, NO_VECTOR) for id_, text in texts.items())
    return LogPage(added, deleted, Cursor(max(texts, default=0), deletion_id))


def ids(index: TantivyIndex, query: str, k: int = 10) -> list[int]:
    return [hit.chunk_id for hit in index.search(query, k)]


def test_scores_are_bm25(tmp_path: Path) -> None:
    """Scores are BM25 with k1 = 1.2 and b = 0.75, worked out by hand."""
    index = TantivyIndex(tmp_path)
    index.apply(page({1: "red fox", 2: "red red dog runs", 3: "blue bird"}))

    hits = {hit.chunk_id: hit.score for hit in index.search("red", 10)}

    # Four documents, since the index keeps its cursor in one without words; eight words in all.
    idf = math.log(1 + (4 - 2 + 0.5) / (2 + 0.5))
    average = 8 / 4

    def score(frequency: int, length: int) -> float:
        return idf * frequency * 2.2 / (frequency + 1.2 * (1 - 0.75 + 0.75 * length / average))

    assert hits == pytest.approx({1: score(1, 2), 2: score(2, 4)}, rel=1e-5)


def test_words_are_found_in_any_form(tmp_path: Path) -> None:
    """Case, accents and English endings do not matter; scripts without spaces are found by character."""
    index = TantivyIndex(tmp_path)
    index.apply(page({1: "The Cafés were CLOSING.", 2: "日本語の文書", 3: "ภาษาไทย", 4: "naïve_snake case"}))

    assert ids(index, "cafe closed") == [1]
    assert ids(index, "文書") == [2]
    assert ids(index, "ไทย") == [3]
    assert ids(index, "naive") == [4]


def test_title_is_searched_too(tmp_path: Path) -> None:
    """A chunk is found by the title of its document."""
    index = TantivyIndex(tmp_path)
    index.apply(LogPage((LoggedChunk(1, "Ketch", "It has two masts.", NO_VECTOR),), (), Cursor(1, 0)))

    assert ids(index, "ketches") == [1]


def test_deleted_chunks_are_not_found(tmp_path: Path) -> None:
    """A deletion takes effect with its page, also for a chunk of the same page."""
    index = TantivyIndex(tmp_path)
    index.apply(page({1: "red", 2: "red", 3: "red"}))
    index.apply(page({4: "red"}, deleted=(1, 3), deletion_id=2))

    assert sorted(ids(index, "red")) == [2, 4]
    assert index.cursor == Cursor(4, 2)


def test_second_process_sees_and_repeats_nothing(tmp_path: Path) -> None:
    """Two indexes on one folder share their documents, and the same page applied by both is stored once."""
    first, second = TantivyIndex(tmp_path), TantivyIndex(tmp_path)
    first.apply(page({1: "red", 2: "red"}))
    second.apply(page({1: "red", 2: "red"}))
    second.apply(page({1: "red", 2: "red", 3: "red"}))
    first.apply(page({1: "red", 2: "red", 3: "red"}))

    assert sorted(ids(first, "red")) == sorted(ids(second, "red")) == [1, 2, 3]
    assert TantivyIndex(tmp_path).cursor == Cursor(3, 0)


def test_damaged_folder_is_made_anew(tmp_path: Path) -> None:
    """An index whose description is nonsense starts empty, so that the log is replayed."""
    index = TantivyIndex(tmp_path / "bm25")
    index.apply(page({1: "red"}))
    (tmp_path / "bm25" / "meta.json").write_text("nonsense")

    again = TantivyIndex(tmp_path / "bm25")

    assert again.cursor == Cursor()
    again.apply(page({1: "red"}))
    assert ids(again, "red") == [1]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(query=st.text(max_size=60))
def test_any_text_is_a_query(tmp_path: Path, query: str) -> None:
    """No text is a syntax error, and what is found shares a word with it."""
    index = TantivyIndex(tmp_path)
    if index.cursor == Cursor():
        index.apply(page({1: "red fox"}))

    assert set(ids(index, query)) <= {1}
    assert ids(index, f'{query} " fox') == [1]
