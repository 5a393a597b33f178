"""`rag-server models`: list, add and remove trained models."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from rag_server import factory
from rag_server.config import load_settings
from rag_server.model_folders import fingerprint_of
from rag_server.types import Access
from tests.adapters import make_adapter, make_evaluation, make_model

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command_line: Run) -> Run:
    """Run the command line on the data directory of the test."""
    monkeypatch.setenv("RAG_DATA_DIR", str(tmp_path / "data"))
    return partial(command_line, "models")


@pytest.fixture
def measured(tmp_path: Path) -> list[str]:
    """The arguments that add an adapter with figures that are better."""
    folder = make_adapter(tmp_path / "trained")
    (tmp_path / "evaluation.json").write_text(make_evaluation(fingerprint_of(folder)).model_dump_json())
    return ["add", str(folder), "--name", "mine", "--kind", "answerer", "--evaluation", str(tmp_path / "evaluation.json")]


def test_added_model_is_listed_with_its_figures(run: Run, measured: list[str], tmp_path: Path) -> None:
    """Adding says how the model did and how it is used; the list says the former, for people and for programs."""
    status, said, told = run(*measured)
    figures = "token F1 0.500 against 0.250 of untrained on 40 of some-questions (p = 0.010)"

    assert (status, said) == (0, f"mine is added: {figures}\n")
    assert "next start" in told
    assert "RAG_ENGINE__ANSWERER=mine" in told
    assert f"mine  answerer  {figures}  added 20" in run("list")[1]
    (listed,) = json.loads(run("list", "--json")[1])
    assert (listed["name"], listed["folder"]) == ("mine", str(tmp_path / "data" / "models" / "mine"))
    assert listed["evaluation"]["deciding"] == "token F1"


def test_worse_model_needs_force(run: Run, measured: list[str], tmp_path: Path) -> None:
    """A worse one is refused with its figures and the way out, which works and shows ever after."""
    worse = make_evaluation(fingerprint_of(tmp_path / "trained"), new=0.2)
    (tmp_path / "evaluation.json").write_text(worse.model_dump_json())
    status, said, told = run(*measured)

    assert (status, said) == (1, "")
    assert "token F1 0.200 against 0.250" in told
    assert "insist with --force" in told
    assert run(*measured, "--force")[0] == 0
    assert "forced, token F1 0.200" in run("list")[1]


@pytest.mark.parametrize(
    ("text", "sign"),
    [
        (None, "cannot be read: No such file"),
        ("{}", "kind: Field required"),
        ('{"kind": "poet"}', "kind: Input should be"),
        ("nonsense", "Invalid JSON"),
    ],
)
def test_file_that_is_no_evaluation_is_refused(
    run: Run, measured: list[str], tmp_path: Path, text: str | None, sign: str
) -> None:
    """A file that the gate did not write counts as none, and what is wrong with it is said."""
    path = tmp_path / "evaluation.json"
    path.unlink()
    if text is not None:
        path.write_text(text)
    status, _, told = run(*measured)

    assert status == 1
    assert sign in told
    assert run("list")[1] == ""


def test_deciding_measure_must_be_among_the_figures(run: Run, measured: list[str], tmp_path: Path) -> None:
    """An evaluation that decides by a measure that it does not have is no evaluation."""
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "deciding": "beauty"}))

    assert "'beauty' is not among the comparisons" in run(*measured)[2]


def test_next_step_is_that_of_the_kind(run: Run, tmp_path: Path) -> None:
    """An embedder goes through the change of a collection's model, a cross-encoder and a whole model through their settings."""
    folder = make_model(tmp_path / "model")
    (folder / "modules.json").write_text("[]")
    for kind, sign in {
        "embedder": "RAG_EMBEDDER__MODEL={} rag-server index --change-model --collection NAME",
        "cross_encoder": "RAG_RERANK__KIND=cross_encoder RAG_RERANK__MODEL={}",
        "ranker": "RAG_ENGINE__MODEL={}",
    }.items():
        told = run("add", str(folder), "--name", f"a-{kind}", "--kind", kind, "--force")[2]

        assert sign.format(tmp_path / "data" / "models" / f"a-{kind}") in told


def test_removed_model_is_gone(run: Run, measured: list[str], tmp_path: Path) -> None:
    """Removing needs a word of someone; then the model is neither listed nor on the disk."""
    run(*measured)

    assert "add --yes" in run("remove", "mine")[2]
    assert run("remove", "mine", "--yes")[:2] == (0, "mine is removed\n")
    assert run("list")[1] == ""
    assert not (tmp_path / "data" / "models" / "mine").exists()
    assert "no added model 'mine'" in run("remove", "mine", "--yes")[2]


@pytest.mark.parametrize("setting", ["RAG_ENGINE__ANSWERER", "RAG_RERANK__MODEL", "RAG_ENGINE__MODEL", "RAG_EMBEDDER__MODEL"])
def test_configured_model_is_not_removed(
    run: Run, measured: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    """A model that a setting names, by its name or by its folder, stays, and the setting is said."""
    run(*measured)
    by_name = setting in ("RAG_ENGINE__ANSWERER", "RAG_RERANK__MODEL")
    monkeypatch.setenv(setting, "mine" if by_name else str(tmp_path / "data" / "models" / "mine"))
    status, _, told = run("remove", "mine", "--yes")

    assert status == 1
    assert f"{setting} names it" in told
    assert (tmp_path / "data" / "models" / "mine").exists()


def test_model_of_a_collection_is_not_removed(run: Run, tmp_path: Path) -> None:
    """An embedder whose vectors a collection of any tenant has stays, and the collection is said, with what to do."""
    folder = make_model(tmp_path / "model")
    (folder / "modules.json").write_text("[]")
    run("add", str(folder), "--name", "embeds", "--kind", "embedder", "--force")

    class Embedder:
        model_id, dimension, location = "embeds@1", 3, str(tmp_path / "data" / "models" / "embeds")

    store = factory.open_store(load_settings({}, data_dir=tmp_path / "data"))
    store.vector_stores.create("books", Access(tenant="library"), Embedder())
    store.database.close()
    status, _, told = run("remove", "embeds", "--yes")

    assert status == 1
    assert "the vectors of books are its own" in told
    assert "--change-model" in told
