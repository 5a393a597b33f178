"""Which model answers from collections, and what a vLLM that is started here serves beside its model."""

from pathlib import Path

import pytest

from rag_server import factory
from rag_server.config import load_settings
from rag_server.engines import adapters
from rag_server.model_folders import fingerprint_of
from rag_server.model_registry import ModelRegistry
from tests.adapters import make_adapter, make_evaluation, make_model


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an answerer that comes with the packaged model."""
    monkeypatch.setattr(adapters, "PACKAGED", tmp_path / "packaged")
    return make_adapter(tmp_path / "packaged" / "smollm2-135m-rag")


def test_packaged_answerer_answers_for_the_packaged_model_only(packaged: Path, tmp_path: Path) -> None:
    """It is the default with the packaged model alone; a setting goes before it, everywhere."""
    del packaged
    model = make_model(tmp_path / "model")

    assert factory.answerer_of(load_settings({})) == "smollm2-135m-rag"
    assert factory.answerer_of(load_settings({"RAG_ENGINE__ANSWERER": "mine"})) == "mine"
    assert factory.answerer_of(load_settings({"RAG_ENGINE__MODEL": str(model)})) is None
    assert factory.answerer_of(load_settings({"RAG_ENGINE__BASE_URL": "http://x/v1"})) is None
    assert factory.answerer_of(load_settings({"RAG_ENGINE__BASE_URL": "http://x/v1", "RAG_ENGINE__ANSWERER": "mine"})) == "mine"


def test_without_a_packaged_answerer_the_engine_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An adapter for something else does not answer."""
    monkeypatch.setattr(adapters, "PACKAGED", tmp_path / "packaged")
    make_adapter(tmp_path / "packaged" / "smollm2-135m-rank")

    assert factory.answerer_of(load_settings({})) is None


def test_child_serves_what_is_packaged_and_added(packaged: Path, tmp_path: Path) -> None:
    """Packaged adapters go with the packaged model alone, added ones with every model that is started here."""
    folder = make_adapter(tmp_path / "trained")
    registry = ModelRegistry(tmp_path / "data")
    evaluation = make_evaluation(fingerprint_of(folder))
    registry.add(folder, name="mine", kind="answerer", evaluation=evaluation, force=False)
    model = make_model(tmp_path / "model")
    served = []
    for environment in ({}, {"RAG_ENGINE__MODEL": str(model)}):
        child = factory.build_engine_child(load_settings(environment, data_dir=tmp_path / "data"), {"new.model": folder})
        assert child is not None
        served.append(child._adapters)

    assert served[0] == {"smollm2-135m-rag": packaged, "mine": registry.folder("mine"), "new.model": folder}
    assert served[1] == {"mine": registry.folder("mine"), "new.model": folder}
