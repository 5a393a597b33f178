"""The BM25 index: scores by hand, any query, several processes, damage."""

import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexers import lexical_index, lexical_seal
from indexers.lexical_index import TantivyIndex
from rag_server.errors import StoreError
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


def test_filtered_scores_are_those_of_the_whole_ranking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether allowed chunks are named in the query or filtered out of its answer: same chunks, same scores."""
    rng = np.random.default_rng(2)
    index = TantivyIndex(tmp_path / "bm25")
    for first in range(1, 900, 300):
        texts = {id_: " ".join(rng.choice(["red", "blue", "green"], 1 + id_ % 7)) for id_ in range(first, first + 300)}
        index.apply(page(texts))
    whole = index.search("red green", 1000)
    for size in (1, 5, 100, 890):
        allowed = np.sort(rng.permutation(np.arange(1, 901))[:size])
        expected = [hit for hit in whole if hit.chunk_id in set(allowed.tolist())]
        for named in (0, 10_000):
            monkeypatch.setattr(lexical_index, "MAX_NAMED_IDS", named)
            assert index.search("red green", 1000, allowed=allowed) == expected
            assert index.search("red green", 3, allowed=allowed) == expected[:3]


def test_damage_is_told_and_nothing_is_missed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A changed byte in the file of words is found on opening, which tantivy itself would not see."""
    index = TantivyIndex(tmp_path / "bm25")
    index.apply(page({1: "red fox", 2: "blue bird"}))
    words = next((tmp_path / "bm25").glob("*.idx"))
    content = bytearray(words.read_bytes())
    content[len(content) // 3] ^= 1
    words.write_bytes(content)

    assert TantivyIndex(tmp_path / "bm25").cursor == Cursor()
    assert "damaged and will be rebuilt" in capfd.readouterr().out


def test_every_file_of_a_segment_has_its_checksum(tmp_path: Path) -> None:
    """The footers that tantivy writes are where they are looked for, with deletions and after merges too."""
    index = TantivyIndex(tmp_path / "bm25")
    for number in range(1, 40):
        index.apply(page({number: "red fox"}, deleted=(max(1, number - 3),), deletion_id=number))
    lexical_seal.check(tmp_path / "bm25")
    parts = {path.suffix for path in (tmp_path / "bm25").iterdir()}

    assert {".fast", ".fieldnorm", ".idx", ".pos", ".store", ".term", ".del"} <= parts
    for path in (tmp_path / "bm25").glob("*.del"):
        content = bytearray(path.read_bytes())
        content[0] ^= 1
        path.write_bytes(content)
    with pytest.raises(ValueError, match="checksum"):
        lexical_seal.check(tmp_path / "bm25")


APPLY_FOREVER = """
import sys, pathlib, numpy as np
from indexers.lexical_index import TantivyIndex
from rag_server.types import Cursor, LoggedChunk, LogPage
index = TantivyIndex(pathlib.Path(sys.argv[1]))
for number in range(1, 10**6):
    index.apply(LogPage((LoggedChunk(number, "", "red", np.zeros(1, dtype=np.float32)),), (), Cursor(number, 0)))
    print(number, flush=True)
"""


def test_killed_writer_leaves_a_whole_index(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Whenever a process is killed that writes, what it had applied is there, and nothing is rebuilt."""
    for kill_after in (1, 4, 9):
        folder = tmp_path / str(kill_after)
        with subprocess.Popen([sys.executable, "-c", APPLY_FOREVER, str(folder)], stdout=subprocess.PIPE) as writer:
            for _ in range(kill_after):
                writer.stdout.readline()
            writer.kill()
        index = TantivyIndex(folder)
        assert index.cursor.chunk_id >= kill_after
        assert sorted(ids(index, "red", 10**6)) == list(range(1, index.cursor.chunk_id + 1))
    assert "damaged" not in "".join(capfd.readouterr())


def test_another_process_that_began_anew_is_followed(tmp_path: Path) -> None:
    """After a reset by another process, a page that is too far on is not applied; the log is replayed from its cursor."""
    first, second = TantivyIndex(tmp_path / "bm25"), TantivyIndex(tmp_path / "bm25")
    first.apply(page({1: "red", 2: "red"}))
    second.apply(page({1: "red", 2: "red"}))
    second.reset()
    first.apply(page({3: "red"}))

    assert first.cursor == second.cursor == Cursor()
    first.apply(page({1: "red", 2: "red", 3: "red"}))
    assert sorted(ids(first, "red")) == [1, 2, 3]
    second.reset()
    assert second.cursor == Cursor(3, 0)


def test_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full or read-only disk gives an error that says what to do, and the index stays as it was."""
    (tmp_path / "blocked").write_text("")
    with pytest.raises(StoreError, match="make the folder writable"):
        TantivyIndex(tmp_path / "blocked" / "bm25")

    index = TantivyIndex(tmp_path / "bm25")
    index.apply(page({1: "red"}))

    def full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(lexical_seal, "break_seal", full)
        with pytest.raises(StoreError, match="No space left on device; free some space"):
            index.apply(page({2: "red"}))
    assert ids(index, "red") == [1]
    index.apply(page({2: "red"}))
    assert sorted(ids(index, "red")) == [1, 2]

    shutil.rmtree(tmp_path / "bm25")
    with pytest.raises(StoreError, match="lexical index"):
        index.apply(page({3: "red"}))
