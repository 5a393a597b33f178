"""Reads the text in images with RapidOCR, an optional part: its models weigh more than all other loaders together."""

import importlib.util
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt


def is_installed() -> bool:
    """Tell whether images can be read."""
    return importlib.util.find_spec("rapidocr") is not None


def read(image: npt.NDArray[np.uint8]) -> str:
    """Return the lines of text in an image, rows by columns by channels, in reading order; "" if there are none."""
    return "\n".join(_engine()(image).txts or ())


@cache
def _engine() -> Any:
    """Load the models once: it takes longer than a page."""
    from rapidocr import RapidOCR

    return RapidOCR(params={"Global.log_level": "error"})
