"""OCR: an optional part, whose engine is started once."""

import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from indexers.loaders import ocr

IMAGE = np.zeros((2, 2, 3), np.uint8)


@pytest.fixture(autouse=True)
def _fresh_engine() -> Iterator[None]:
    ocr._engine.cache_clear()
    yield
    ocr._engine.cache_clear()


@pytest.mark.parametrize("spec", [None, "found"])
def test_it_is_installed_when_its_library_is(monkeypatch: pytest.MonkeyPatch, spec: str | None) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", {"rapidocr": spec}.get)
    assert ocr.is_installed() == (spec is not None)


def test_lines_are_joined_and_the_engine_is_started_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image without text gives None."""
    started = []
    answers = iter([("first", "second"), None])

    def start(params: dict[str, str]) -> object:
        started.append(True)
        return lambda image: SimpleNamespace(txts=next(answers))

    module = ModuleType("rapidocr")
    module.RapidOCR = start
    monkeypatch.setitem(sys.modules, "rapidocr", module)
    assert [ocr.read(IMAGE), ocr.read(IMAGE)] == ["first\nsecond", ""]
    assert started == [True]
