"""`rag-server index` with attributes, principals, pruning, moved files and another embedding model."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from indexers.sentence_embedder import SentenceEmbedder, packaged_folder
from rag_server import factory
from rag_server.config import Settings, load_settings
from rag_server.protocols import Embedder
from rag_server.types import Access, Comparison, Query, Vectors
from tests.live import live_server

Run = Callable[..., tuple[int, str, str]]
EVERYTHING = Access()


class Counting:
    """An embedding model that counts the passages that it embeds."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self.num_passages = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._embedder, name)

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        self.num_passages += len(texts)
        return self._embedder.embed_passages(texts)


@pytest.fixture
def counting(embedder: Embedder) -> Counting:
    return Counting(embedder)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counting: Counting) -> Settings:
    """Settings of a data directory of the test's own, named by the environment too."""
    monkeypatch.setattr(factory, "load_embedder", lambda _: counting)
    monkeypatch.setenv("RAG_DATA_DIR", str(tmp_path / "data"))
    return load_settings({}, data_dir=tmp_path / "data")


@pytest.fixture
def run(settings: Settings, command_line: Run) -> Run:
    """Run the command line on the data directory of the test."""
    return command_line


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    for name in ("cats", "boats", "trees"):
        (folder / f"{name}.md").write_text(f"# {name}\n\nAll about {name}.")
    return folder


@pytest.fixture
def store(settings: Settings) -> Iterator[factory.Store]:
    store = factory.open_store(settings)
    yield store
    store.database.close()


def names(store: factory.Store, access: Access = EVERYTHING) -> list[str]:
    """The names of the collection's files that `access` may read."""
    vector_store = store.vector_stores.get("docs", Access())
    return sorted(file.filename for file in store.files.readable(vector_store, access))


def test_attributes_are_typed_as_json_says(run: Run, folder: Path, store: factory.Store) -> None:
    """Numbers and booleans are stored as such, everything else as text; a value may hold an equals sign."""
    options = {"year": "2024", "ratio": "0.5", "tame": "true", "note": "a=b", "quoted": '"7"', "null": "null", "list": "[1]"}
    given = [part for key, value in options.items() for part in ("--attribute", f"{key}={value}")]

    assert run("index", folder, "--collection", "docs", *given)[0] == 0

    vector_store = store.vector_stores.get("docs", Access())
    attributes = {json.dumps(dict(file.attributes), sort_keys=True) for file in store.files.readable(vector_store, Access())}
    said = {"year": 2024, "ratio": 0.5, "tame": True, "note": "a=b", "quoted": '"7"', "null": "null", "list": "[1]"}
    assert attributes == {json.dumps(said, sort_keys=True)}
    query = Query("x", (vector_store,), Access(), Comparison("eq", "year", 2024))
    assert len(store.selection.chunk_ids(vector_store, query)) == 3


@pytest.mark.parametrize("option", ["year", "=2024", f"{'k' * 65}=1", f"a={'x' * 513}", "a=1e999"])
def test_malformed_attribute_is_one_line_and_nothing_is_indexed(run: Run, folder: Path, option: str, tmp_path: Path) -> None:
    """An option that is no attribute ends the command before it begins."""
    status, out, err = run("index", folder, "--collection", "docs", "--attribute", option)

    assert (status, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "data" / "rag.db").exists()


def test_principals_close_the_files_and_open_them_again(
    run: Run, folder: Path, store: factory.Store, counting: Counting
) -> None:
    """Files indexed for a principal are closed to others; indexed once more without, they are open, and embedded once."""
    run("index", folder, "--collection", "docs", "--principal", "red", "--principal", "blue")
    closed = [names(store, Access(principals=frozenset({who}))) for who in ("red", "blue", "green")]
    before = counting.num_passages
    run("index", folder, "--collection", "docs")

    assert [len(found) for found in closed] == [3, 3, 0]
    assert len(names(store, Access(principals=frozenset({"green"})))) == 3
    assert counting.num_passages == before


def test_prune_without_anyone_to_ask_removes_nothing(run: Run, folder: Path, store: factory.Store) -> None:
    """Without a terminal and without --yes what is gone stays in the collection, and the message names --yes."""
    run("index", folder, "--collection", "docs")
    (folder / "cats.md").unlink()

    status, _, err = run("index", folder, "--collection", "docs", "--prune")

    assert status == 1
    assert "--yes" in err
    assert names(store) == ["boats.md", "cats.md", "trees.md"]


def test_prune_removes_what_is_gone_from_these_folders_only(
    run: Run, folder: Path, store: factory.Store, tmp_path: Path
) -> None:
    """With --yes files that are gone from the named folder go; those of another folder, and of a similar name, stay."""
    for name in ("other", "files-too"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.md").write_text(f"All about {name}.")
    run("index", folder, tmp_path / "other", tmp_path / "files-too", "--collection", "docs")
    (folder / "cats.md").unlink()
    (tmp_path / "other" / "other.md").unlink()
    (tmp_path / "files-too" / "files-too.md").unlink()

    status, out, _ = run("index", folder, "--collection", "docs", "--prune", "--yes", "--json")

    assert status == 0
    assert json.loads(out)["pruned"] == [str(folder / "cats.md")]
    assert names(store) == ["boats.md", "files-too.md", "other.md", "trees.md"]


def test_prune_of_an_emptied_folder_empties_the_collection(run: Run, folder: Path, store: factory.Store) -> None:
    """A folder that holds nothing any more is a reason to prune, not a mistake; nothing to prune asks nobody."""
    run("index", folder, "--collection", "docs")
    for path in folder.iterdir():
        path.unlink()

    assert run("index", folder, "--collection", "docs", "--prune", "--yes")[0] == 0
    assert names(store) == []
    assert run("index", folder, "--collection", "docs", "--prune")[0] == 0


def test_moved_file_keeps_its_vectors(run: Run, folder: Path, store: factory.Store, counting: Counting, tmp_path: Path) -> None:
    """A file that lies elsewhere now is recognised by its bytes: it keeps its id, and nothing is embedded again."""
    run("index", folder, "--collection", "docs")
    vector_store = store.vector_stores.get("docs", Access())
    old = store.files.find(vector_store, str(folder / "cats.md"))
    before = counting.num_passages
    (folder / "deeper").mkdir()
    (folder / "cats.md").rename(folder / "deeper" / "cats.md")

    status, out, _ = run("index", folder, "--collection", "docs", "--json")

    new = store.files.find(vector_store, str(folder / "deeper" / "cats.md"))
    assert status == 0
    assert json.loads(out)["moved"] == [f"{folder / 'cats.md'} -> {folder / 'deeper' / 'cats.md'}"]
    assert (new.id, new.key) == (old.id, old.key)
    assert names(store) == ["boats.md", "cats.md", "trees.md"]
    assert counting.num_passages == before > 0


def test_copied_file_is_another_file(run: Run, folder: Path, store: factory.Store) -> None:
    """The same bytes under a second path are two files for as long as the first is there."""
    run("index", folder, "--collection", "docs")
    (folder / "copy.md").write_bytes((folder / "cats.md").read_bytes())

    run("index", folder, "--collection", "docs")

    assert names(store) == ["boats.md", "cats.md", "copy.md", "trees.md"]


@pytest.mark.parametrize("arguments", [[], ["--change-model", "{folder}"]])
def test_paths_and_change_model_exclude_each_other(run: Run, folder: Path, arguments: list[str]) -> None:
    """The command says what is missing, or too much."""
    status, _, err = run("index", "--collection", "docs", *(argument.format(folder=folder) for argument in arguments))

    assert status == 1
    assert "--change-model" in err


@pytest.fixture
def other_model(tmp_path: Path) -> Path:
    """The packaged model with a prompt before every passage, which makes it another one."""
    packaged, folder = packaged_folder(), tmp_path / "other-model"
    for path in packaged.rglob("*"):
        copy = folder / path.relative_to(packaged)
        if path.is_dir():
            copy.mkdir(parents=True, exist_ok=True)
        else:
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.symlink_to(path)
    config = folder / "config_sentence_transformers.json"
    prompts = {"query": "question: ", "document": "passage: "}
    body = {**json.loads(config.read_text()), "prompts": prompts}
    config.unlink()
    config.write_text(json.dumps(body))
    return folder


def test_model_changes_and_goes_back_under_a_running_server(
    settings: Settings, run: Run, folder: Path, other_model: Path, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Searches go on answering while a model is changed, with the new one after it, and after going back; nothing is lost."""
    (folder / "rows.jsonl").write_text("".join(json.dumps({"text": f"Row {n} about cats."}) + "\n" for n in range(200)))
    run("index", folder, "--collection", "docs")
    other = Counting(SentenceEmbedder(str(other_model)))
    with live_server(settings.data_dir, counting) as live:

        def model() -> str:
            return live.services.store.vector_stores.get("docs", Access()).embedding_model

        monkeypatch.setattr(factory, "load_embedder", lambda _: other)
        ended = threading.Event()
        answers: list[tuple[int, str]] = []

        def ask() -> None:
            body = {"query": "boats", "rag": {"retrieve": "dense"}, "max_num_results": 1}
            while not ended.is_set() or len(answers) < 3:
                response = live.client.post("/v1/vector_stores/docs/search", json=body)
                answers.append((response.status_code, response.text if response.status_code != 200 else ""))

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            changed = run("index", "--collection", "docs", "--change-model")
        finally:
            ended.set()
            asking.join()
        after = model()
        found = live.found("docs", "boats", rag={"retrieve": "dense"}, max_num_results=1)
        (folder / "new.md").write_text("# Owls\n\nAll about owls.")
        added = run("index", folder, "--collection", "docs")
        found_new = live.found("docs", "owls", rag={"retrieve": "dense"}, max_num_results=1)
        monkeypatch.setattr(factory, "load_embedder", lambda _: counting)
        before_back = counting.num_passages
        back = run("index", "--collection", "docs", "--change-model")
        built_back = counting.num_passages - before_back
        found_back = live.found("docs", "owls", rag={"retrieve": "dense"}, max_num_results=1)
        end = model()

    assert set(answers) == {(200, "")}
    assert changed[0] == added[0] == back[0] == 0
    assert "(203 vectors built)" in changed[1]
    assert after == other.model_id != counting.model_id == end
    assert (found, found_new, found_back) == (["boats.md"], ["new.md"], ["new.md"])
    # Those of before are still there: only what came since is built.
    assert built_back == 1


def test_old_vectors_are_dropped_only_when_confirmed(
    run: Run, folder: Path, other_model: Path, store: factory.Store, monkeypatch: pytest.MonkeyPatch, counting: Counting
) -> None:
    """--drop-old-vectors asks; with --yes the way back has to be built again."""
    run("index", folder, "--collection", "docs")
    other = SentenceEmbedder(str(other_model))
    monkeypatch.setattr(factory, "load_embedder", lambda _: other)
    refused = run("index", "--collection", "docs", "--change-model", "--drop-old-vectors")
    vector_store = store.vector_stores.get("docs", Access())
    old = store.model_change.begin(counting)
    kept = store.model_change.num_missing(vector_store, old)

    dropped = run("index", "--collection", "docs", "--change-model", "--drop-old-vectors", "--yes")

    assert refused[0] == 1
    assert "--yes" in refused[2]
    assert vector_store.embedding_model == other.model_id
    assert kept == 0
    assert dropped[0] == 0
    assert "3 vectors deleted" in dropped[1]
    assert store.model_change.num_missing(vector_store, old) == 3


def test_index_with_another_model_names_the_remedy(
    run: Run, folder: Path, other_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vectors of two models never meet: indexing with another one is refused, and the message says how to change."""
    run("index", folder, "--collection", "docs")
    other = SentenceEmbedder(str(other_model))
    monkeypatch.setattr(factory, "load_embedder", lambda _: other)

    status, _, err = run("index", folder, "--collection", "docs")

    assert status == 1
    assert "--change-model" in err
