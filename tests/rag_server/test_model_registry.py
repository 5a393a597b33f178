"""The registry: what is kept, what is refused, and what a crash leaves."""

import json
from pathlib import Path

import pytest

from rag_server import model_registry
from rag_server.errors import ConfigError, InvalidRequestError, NotFoundError, UnsupportedModelError, WorseModelError
from rag_server.model_evaluation import ModelKind
from rag_server.model_folders import fingerprint_of
from rag_server.model_registry import ModelRegistry
from tests.adapters import make_adapter, make_evaluation, make_model


@pytest.fixture
def registry(tmp_path: Path) -> ModelRegistry:
    return ModelRegistry(tmp_path / "data")


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return make_adapter(tmp_path / "trained")


def add(registry: ModelRegistry, folder: Path, name: str = "mine", kind: ModelKind = "answerer") -> None:
    evaluation = make_evaluation(fingerprint_of(folder), kind=kind)
    registry.add(folder, name=name, kind=kind, evaluation=evaluation, force=False)


def test_model_that_is_better_is_kept(registry: ModelRegistry, adapter: Path, tmp_path: Path) -> None:
    """Another process finds the copy, whole, with its evaluation, whatever becomes of the folder that it came from."""
    add(registry, adapter)
    fingerprint = fingerprint_of(adapter)
    (adapter / "adapter_config.json").unlink()
    again = ModelRegistry(tmp_path / "data")

    assert again.models()["mine"].evaluation == make_evaluation(fingerprint)
    assert not again.models()["mine"].forced
    assert again.adapters() == {"mine": tmp_path / "data" / "models" / "mine"}
    assert fingerprint_of(again.folder("mine")) == again.models()["mine"].fingerprint == fingerprint


def test_only_the_model_is_copied(registry: ModelRegistry, adapter: Path) -> None:
    """What may run programs, and what training left, stays behind; the record of the training is kept."""
    (adapter / "training.json").write_text("{}")
    (adapter / "training_args.bin").write_bytes(b"\x80")
    (adapter / "checkpoint-5").mkdir()
    (adapter / "checkpoint-5" / "adapter_model.safetensors").write_bytes(b"")
    add(registry, adapter)
    kept = {str(path.relative_to(registry.folder("mine"))) for path in registry.folder("mine").rglob("*")}

    assert kept == {"adapter_config.json", "adapter_model.safetensors", "training.json"}


@pytest.mark.parametrize(
    ("evaluation", "sign"),
    [
        ("missing", "nobody has measured"),
        ("another", "of another model, trained"),
        ("another kind", "of kind ranker, not answerer"),
        ("worse", r"worse than untrained: token F1 0\.240 against 0\.250 on 40 of some-questions \(p = 0\.010\)"),
    ],
)
def test_model_that_nobody_found_better_is_refused(registry: ModelRegistry, adapter: Path, evaluation: str, sign: str) -> None:
    """Without figures of this model that are no worse, nothing is kept; the message has the figures and the way out."""
    fingerprint = fingerprint_of(adapter)
    given = {
        "missing": None,
        "another": make_evaluation("f" * 64),
        "another kind": make_evaluation(fingerprint, kind="ranker"),
        "worse": make_evaluation(fingerprint, new=0.24),
    }[evaluation]
    with pytest.raises(WorseModelError, match=f"{sign}.*--force"):
        registry.add(adapter, name="mine", kind="answerer", evaluation=given, force=False)

    assert registry.models() == {}
    assert not registry.folder("mine").exists()


def test_model_that_is_as_good_is_kept(registry: ModelRegistry, adapter: Path) -> None:
    """Equal on the deciding measure is not worse."""
    evaluation = make_evaluation(fingerprint_of(adapter), new=0.25)
    registry.add(adapter, name="mine", kind="answerer", evaluation=evaluation, force=False)

    assert list(registry.models()) == ["mine"]


def test_forced_model_says_so(registry: ModelRegistry, adapter: Path) -> None:
    """A worse one is kept with its figures if someone insists; figures of another model are not kept as its own."""
    worse = make_evaluation(fingerprint_of(adapter), new=0.1)
    registry.add(adapter, name="worse", kind="answerer", evaluation=worse, force=True)
    registry.add(adapter, name="other", kind="answerer", evaluation=make_evaluation("f" * 64), force=True)
    models = registry.models()

    assert (models["worse"].forced, models["worse"].evaluation) == (True, worse)
    assert (models["other"].forced, models["other"].evaluation) == (True, None)


@pytest.mark.parametrize("name", ["", "../x", "a/b", "Mine", "a.tmp", "x" * 65, "smollm2-135m-instruct", "smollm2-135m-rag"])
def test_name_that_cannot_be_used_is_refused(registry: ModelRegistry, adapter: Path, name: str) -> None:
    """Names that lead elsewhere, or are those of packaged models, are refused."""
    with pytest.raises(InvalidRequestError, match="name"):
        add(registry, adapter, name)


def test_name_is_given_once(registry: ModelRegistry, adapter: Path, tmp_path: Path) -> None:
    """A second model of the same name is refused, and the first stays."""
    add(registry, adapter)
    with pytest.raises(InvalidRequestError, match="remove it first"):
        add(registry, make_adapter(tmp_path / "second", seed=1))

    assert fingerprint_of(registry.folder("mine")) == fingerprint_of(adapter)


def test_only_adapters_are_served_beside_the_model(registry: ModelRegistry, adapter: Path, tmp_path: Path) -> None:
    """Adapters of both kinds are extra names of the engine; whole models and models of other kinds are not."""
    model = make_model(tmp_path / "model")
    embedder = make_model(tmp_path / "embedder")
    (embedder / "modules.json").write_text("[]")
    add(registry, adapter, "answers")
    add(registry, adapter, "ranks", "ranker")
    add(registry, model, "whole")
    add(registry, model, "crosses", "cross_encoder")
    add(registry, embedder, "embeds", "embedder")

    assert sorted(registry.models()) == ["answers", "crosses", "embeds", "ranks", "whole"]
    assert sorted(registry.adapters()) == ["answers", "ranks"]


@pytest.mark.parametrize(
    ("kind", "file", "sign"),
    [("embedder", "modules.json", "has no modules.json"), ("cross_encoder", "model.safetensors", "no weights in safetensors")],
)
def test_folder_without_the_model_is_refused(
    registry: ModelRegistry, tmp_path: Path, kind: ModelKind, file: str, sign: str
) -> None:
    """A folder that cannot be used as a model of that kind is refused with what it lacks."""
    folder = make_model(tmp_path / "model")
    (folder / "modules.json").write_text("[]")
    (folder / file).unlink()
    with pytest.raises(UnsupportedModelError, match=sign):
        add(registry, folder, kind=kind)


def test_removed_model_is_gone(registry: ModelRegistry, adapter: Path) -> None:
    """Its name and its files are free again; one that is not there is told."""
    add(registry, adapter)
    registry.remove("mine")
    left = (registry.models(), registry.folder("mine").exists())
    with pytest.raises(NotFoundError, match="mine"):
        registry.remove("mine")
    add(registry, adapter)

    assert left == ({}, False)
    assert list(registry.models()) == ["mine"]


class PowerCutError(Exception):
    """The end of the process, wherever it is."""


@pytest.mark.parametrize("place", ["copy_model", "sync"])
def test_crash_while_adding_loses_nothing(
    registry: ModelRegistry, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Wherever adding ends, the list is as it was, and adding again leaves the model and no rest of the first try."""
    add(registry, adapter, "first")

    def cut(*_: object) -> None:
        raise PowerCutError

    with monkeypatch.context() as cut_off:
        cut_off.setattr(model_registry, place, cut)
        with pytest.raises(PowerCutError):
            add(registry, adapter)
    listed = list(ModelRegistry(tmp_path / "data").models())
    add(registry, adapter)

    assert listed == ["first"]
    assert list(registry.models()) == ["first", "mine"]
    assert fingerprint_of(registry.folder("mine")) == fingerprint_of(adapter)
    assert not list((tmp_path / "data" / "models").glob("*.tmp"))


def test_crash_while_removing_leaves_no_half_model(
    registry: ModelRegistry, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model whose files were about to be deleted is not listed any more, and its name can be given again."""
    add(registry, adapter)

    def cut(*_: object, **__: object) -> None:
        raise PowerCutError

    with monkeypatch.context() as cut_off:
        cut_off.setattr(model_registry.shutil, "rmtree", cut)
        with pytest.raises(PowerCutError):
            registry.remove("mine")
    listed = registry.models()
    add(registry, adapter)

    assert listed == {}
    assert list(registry.adapters()) == ["mine"]


@pytest.mark.parametrize("text", ["{", "[]", '{"models": {"mine": {}}}', '{"modles": {}}'])
def test_damaged_list_is_told(registry: ModelRegistry, tmp_path: Path, text: str) -> None:
    """A list that is none is an error with its path, and never an empty list."""
    (tmp_path / "data" / "models").mkdir(parents=True)
    (tmp_path / "data" / "models" / "registry.json").write_text(text)
    with pytest.raises(ConfigError, match=r"registry\.json"):
        registry.models()


def test_list_can_be_read_by_people(registry: ModelRegistry, adapter: Path, tmp_path: Path) -> None:
    """The file is JSON with the figures that the model was added by."""
    add(registry, adapter)
    listed = json.loads((tmp_path / "data" / "models" / "registry.json").read_text())["models"]["mine"]

    assert listed["evaluation"]["comparisons"][1] == {"measure": "token F1", "baseline": 0.25, "new": 0.5, "p": 0.01, "n": 40}
