"""The table of semantic hits, from vectors whose cosines are known."""

import numpy as np
import pytest

from eval.qa.datasets import QaQuestion
from eval.run_semantic_cache import THRESHOLDS, hits_table
from eval.significance import wilson_interval


def at(degrees: float) -> list[float]:
    return [np.cos(np.radians(degrees)), np.sin(np.radians(degrees))]


def test_hits_are_the_worked_example() -> None:
    """Two questions 10 degrees apart (.985) with one answer in common, and two 5 degrees apart (.996) with none."""
    answers = [("x",), ("The X!", "b"), ("c",), ("d",)]
    questions = [QaQuestion(str(n), str(n), one, (), answerable=True) for n, one in enumerate(answers)]
    vectors = np.array([at(0), at(10), at(90), at(95)], dtype=np.float32)
    courteous = np.array([at(0), at(10), at(90 - 20), at(95 + 15)], dtype=np.float32)
    rows = {row[0]: row[1:] for row in hits_table(questions, vectors, courteous).rows}
    half = wilson_interval(2, 4)

    assert tuple(rows) == THRESHOLDS
    assert rows[0.85] == (0.5, half.low, half.high, 0.5, 1.0)
    # cos 20 is .940, cos 15 is .966.
    assert rows[0.95][3:] == (0.5, 0.75)
    assert rows[0.97][3:] == (0.5, 0.5)
    assert rows[0.99][:1] + rows[0.99][3:] == pytest.approx((0.5, 0.0, 0.5))
