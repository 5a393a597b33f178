"""LoRA adapters: which of them vLLM is told to serve, and why others are not."""

import json
from pathlib import Path

import numpy as np
import pytest
import structlog
from safetensors.numpy import load_file, save_file

from rag_server.engines.adapters import check_fits, is_adapter, read_adapter, serving_arguments
from rag_server.errors import UnsupportedModelError
from tests.adapters import INPUTS, LAYER, OUTPUTS, make_adapter, make_model


def test_adapter_is_read_by_its_shapes(tmp_path: Path) -> None:
    """The rank and the sizes of the matrices that it changes come from the file itself."""
    adapter = read_adapter(make_adapter(tmp_path / "a", rank=3))

    assert adapter.rank == 3
    assert adapter.sizes == {LAYER: (INPUTS, OUTPUTS)}


def test_rank_is_the_largest_of_all(tmp_path: Path) -> None:
    """A configuration that names a smaller rank than the matrices have does not make the room too small."""
    folder = make_adapter(tmp_path / "a", rank=12)
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4}')

    assert read_adapter(folder).rank == 12


@pytest.mark.parametrize(
    ("config", "sign"),
    [
        ({"peft_type": "IA3"}, "type IA3"),
        ({"use_dora": True}, "use_dora"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "all"}, "bias"),
        ({"r": 0}, "names no rank"),
        ({"r": 1024}, "ranks up to 512"),
    ],
)
def test_what_vllm_does_not_serve_is_refused(tmp_path: Path, config: dict, sign: str) -> None:
    """Kinds of adapters that would keep vLLM from starting are refused by name."""
    with pytest.raises(UnsupportedModelError, match=sign):
        read_adapter(make_adapter(tmp_path / "a", **config))


@pytest.mark.parametrize("damage", ["cut", "no config", "no object", "no matrix", "one half"])
def test_damaged_adapter_is_refused(tmp_path: Path, damage: str) -> None:
    """A file that was cut, a configuration that is none, and weights of something else are told apart from an adapter."""
    folder = make_adapter(tmp_path / "a")
    weights, config = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-8])
    elif damage == "no config":
        config.unlink()
    elif damage == "no object":
        config.write_text("[]")
    elif damage == "no matrix":
        save_file({"lm_head.weight": np.zeros((2, 2), np.float32)}, weights)
    else:
        half = {name: values for name, values in load_file(weights).items() if "lora_A" in name}
        save_file(half, weights)

    with pytest.raises(UnsupportedModelError, match=str(folder)):
        read_adapter(folder)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    """Weights in a pickle are not served, and the message says what to do."""
    folder = make_adapter(tmp_path / "a")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")

    with pytest.raises(UnsupportedModelError, match=r"may run programs when it is read.*save the adapter as safetensors"):
        read_adapter(folder)


def test_adapter_of_another_model_does_not_fit(tmp_path: Path) -> None:
    """A matrix of another size, or one that the model has not, shows that the adapter is for another model."""
    adapter = read_adapter(make_adapter(tmp_path / "a"))
    deeper = read_adapter(make_adapter(tmp_path / "b", layer=LAYER.replace("0", "7")))
    model, wider = make_model(tmp_path / "model"), make_model(tmp_path / "wider", outputs=5)

    check_fits(adapter, model)
    with pytest.raises(UnsupportedModelError, match="is 4 x 6, wider has 5 x 6"):
        check_fits(adapter, wider)
    with pytest.raises(UnsupportedModelError, match="model has no such matrix"):
        check_fits(deeper, model)


def test_sizes_of_packed_weights_say_nothing(tmp_path: Path) -> None:
    """Of a quantised model, whose matrices have other sizes in the file, an adapter is not refused."""
    model = make_model(tmp_path / "model", outputs=1)
    (model / "config.json").write_text('{"quantization_config": {}}')

    check_fits(read_adapter(make_adapter(tmp_path / "a")), model)


def test_vllm_gets_room_for_the_largest(tmp_path: Path) -> None:
    """Names and folders go to vLLM as JSON, with the next larger of the ranks that it knows."""
    model = make_model(tmp_path / "model")
    folders = {"answer": make_adapter(tmp_path / "a=1,b", rank=8), "rank": make_adapter(tmp_path / "r", rank=9)}
    arguments = serving_arguments(folders, model, on_cpu=False)
    place = arguments.index("--lora-modules")

    assert arguments[:place] == ["--enable-lora", "--max-lora-rank", "16", "--max-loras", "2"]
    assert [json.loads(module) for module in arguments[place + 1 :]] == [
        {"name": name, "path": str(folder)} for name, folder in folders.items()
    ]


def test_last_place_stays_empty_on_a_cpu(tmp_path: Path) -> None:
    """There is a place more than adapters, however many there are; a GPU holds a few at a time."""
    model = make_model(tmp_path / "model")
    folders = {f"a{number}": make_adapter(tmp_path / f"a{number}") for number in range(6)}
    places = [serving_arguments(folders, model, on_cpu=on_cpu)[4] for on_cpu in (True, False)]

    assert places == ["7", "4"]


def test_one_that_does_not_fit_is_left_out_and_told(tmp_path: Path) -> None:
    """The engine comes up without it, and the log says why; with none left, vLLM is told nothing of adapters."""
    model, wider = make_model(tmp_path / "model"), make_model(tmp_path / "wider", outputs=5)
    folders = {"good": make_adapter(tmp_path / "good"), "gone": tmp_path / "gone"}
    with structlog.testing.capture_logs() as logs:
        arguments = serving_arguments(folders, model, on_cpu=True)
        nothing = serving_arguments({"good": folders["good"]}, wider, on_cpu=True)

    assert [json.loads(arguments[-1])["name"]] == ["good"]
    assert nothing == serving_arguments({}, model, on_cpu=True) == []
    assert [(line["log_level"], line["adapter"]) for line in logs] == [("error", "gone"), ("error", "good")]


def test_whole_model_is_no_adapter(tmp_path: Path) -> None:
    """A folder with a model's own configuration is taken for a model."""
    adapter, model = make_adapter(tmp_path / "a"), make_model(tmp_path / "model")

    assert is_adapter(adapter)
    assert not is_adapter(model)
