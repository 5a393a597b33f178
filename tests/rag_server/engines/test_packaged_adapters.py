"""The adapters that ship with the packaged model."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from rag_server.engines.adapters import packaged_adapters, packaged_answerer, read_adapter
from rag_server.model_evaluation import ModelEvaluation, ModelKind, check_not_worse
from rag_server.model_folders import fingerprint_of

# LoRA of a model of 135 million parameters; a repository is no place for more.
MAX_BYTES = 12_000_000
KINDS: Mapping[str, ModelKind] = {"smollm2-135m-rag": "answerer"}


def test_there_is_an_answerer() -> None:
    """The packaged model has an adapter that answers from collections."""
    assert packaged_answerer() == "smollm2-135m-rag"


@pytest.mark.parametrize(("name", "folder"), packaged_adapters().items())
def test_what_ships_was_measured_to_be_better(name: str, folder: Path) -> None:
    """Its weights are those of its evaluation, which the registry's gate lets in; its card says data, licence and limits."""
    evaluation = ModelEvaluation.model_validate_json((folder / "evaluation.json").read_text())
    card = (folder / "README.md").read_text()

    check_not_worse(evaluation, KINDS[name], fingerprint_of(folder))
    assert read_adapter(folder).rank == json.loads((folder / "adapter_config.json").read_text())["r"]
    assert (folder / "adapter_model.safetensors").stat().st_size < MAX_BYTES
    assert all(f"**{part}" in card for part in ("Base.", "Licence.", "Data.", "Training.", "Measured", "Limits."))
