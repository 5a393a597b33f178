"""The workers of a cluster, in the tests' own process: files go in, documents with their vectors come out."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from eval.crash.work import HashEmbedder
from indexers.loaders import parser_process
from indexers.loaders.dispatch import load
from rag_server import factory
from rag_server.config import load_settings
from rag_server.errors import ConfigError
from rag_server.jobs.indexing_on_ray import workers
from rag_server.jobs.indexing_on_ray.parts import End, Fault, FileToRead, Unchanged, UnembeddedDocument
from rag_server.jobs.indexing_on_ray.workers import EmbeddingWorker, ReadingWorker, pack, portions, unpack
from rag_server.types import Document, EmbeddedDocument

CHUNKING = load_settings({}).chunking


@pytest.fixture(autouse=True)
def quick_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factory, "load_embedder", lambda _: HashEmbedder("a"))
    # The real one reads in processes of its own, which end with the worker's.
    monkeypatch.setattr(parser_process, "ParserPool", lambda: SimpleNamespace(parse=load))


def test_files_become_documents_with_vectors(tmp_path: Path) -> None:
    """Each file ends with the number of its parts; what is wrong with a row or a file is one of them, or told at the end."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"_id": "a", "text": "Cats sleep."}\nnonsense\n{"_id": "b", "text": "Dogs bark. Cats sleep."}\n')
    (tmp_path / "strange.xyz").write_bytes(b"\x00\x01")
    names = ("rows.jsonl", "missing.txt", "strange.xyz")
    files = [FileToRead(number, tmp_path / name, CHUNKING) for number, name in enumerate(names)]

    read = list(ReadingWorker({})({"packed": [pack(files)]}))
    embedded = EmbeddingWorker({}, "hash-a")({"packed": [packed for row in read for packed in row["packed"]]})

    parts = [part for packed in embedded["packed"] for part in unpack(packed)]
    first, fault, second, end, missing, strange = (part for _, part in parts)
    assert [number for number, _ in parts] == [0, 0, 0, 0, 1, 2]
    assert isinstance(first, EmbeddedDocument)
    assert (first.document.text, len(first.chunks)) == ("Cats sleep.", 1)
    np.testing.assert_array_equal(first.vectors, HashEmbedder("a").embed_passages(["Cats sleep."]))
    assert second.document.document_id == "b"
    assert (fault.place, "line 2" in fault.reason) == (2, True)
    assert end == End(3)
    assert missing == End(0, f"{tmp_path / 'missing.txt'}: cannot be read: No such file or directory", "server_error")
    assert (strange.num_parts, strange.code, "strange.xyz" in strange.failure) == (0, "unsupported_file", True)


def test_what_is_stored_is_not_embedded_again(tmp_path: Path) -> None:
    """A document with the hash that is stored comes back as its id only; one that was cut otherwise is cut again."""
    path = tmp_path / "rows.jsonl"
    path.write_text('{"_id": "a", "text": "Cats sleep."}\n{"_id": "b", "text": "Dogs bark."}\n')
    reader = ReadingWorker({})
    (row,) = reader({"packed": [pack([FileToRead(0, path, CHUNKING)])]})
    first = unpack(row["packed"][0])[0][1]
    known = {"a": first.content_hash, "b": first.content_hash}

    (row,) = reader({"packed": [pack([FileToRead(0, path, CHUNKING, known)])]})
    (other,) = reader({"packed": [pack([FileToRead(0, path, CHUNKING.model_copy(update={"max_tokens": 50}), known)])]})

    again = [part for _, part in unpack(row["packed"][0])]
    assert again[0] == Unchanged("a")
    assert isinstance(again[1], UnembeddedDocument)
    assert isinstance(unpack(other["packed"][0])[0][1], UnembeddedDocument)


def test_a_long_file_comes_in_portions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No portion holds more than it may, so that the rows of one file go to many workers; none is empty."""
    monkeypatch.setattr(workers, "PARTS_TOGETHER", 4)
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"_id": str(number), "text": f"Cat {number}."}) + "\n" for number in range(10)))

    read = list(ReadingWorker({})({"packed": [pack([FileToRead(0, path, CHUNKING)])]}))

    assert [len(unpack(row["packed"][0])) for row in read] == [4, 4, 3]


def test_portions_are_bounded_by_their_text() -> None:
    """A document that is as long as a portion may be ends it."""
    long, short = (
        UnembeddedDocument(Document("d", "", "x" * length), "", (), ()) for length in (workers.CHARACTERS_TOGETHER, 1)
    )
    parts = [(0, long), (0, short), (0, Fault(3, "f")), (0, long), (0, short)]

    assert [len(portion) for portion in portions(parts)] == [1, 3, 1]


def test_a_document_without_chunks_has_no_vectors() -> None:
    """It is stored as one without chunks; nothing is embedded for it."""
    packed = pack([(0, UnembeddedDocument(Document("d", "", ""), "h", (), ()))])

    ((_, part),) = unpack(EmbeddingWorker({}, "hash-a")({"packed": [packed]})["packed"][0])

    assert part.vectors.shape == (0, HashEmbedder("a").dimension)


def test_a_machine_with_another_model_does_not_embed() -> None:
    """Vectors of two models must not get into one collection."""
    with pytest.raises(ConfigError, match="on a machine of the cluster it is hash-a, here hash-b"):
        EmbeddingWorker({}, "hash-b")
