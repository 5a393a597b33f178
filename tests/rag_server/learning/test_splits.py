"""Which examples are kept for measuring, and the proof that none is trained on."""

import pytest

from rag_server.errors import TrainingDataError
from rag_server.learning.splits import check_no_leak, is_held_out


def test_the_share_is_about_that_and_always_the_same() -> None:
    """Of 2,000 ids about a third is kept, the same ones again, and each share's ids are among those of a larger share."""
    ids = [f"question {number}" for number in range(2000)]
    kept = [id_ for id_ in ids if is_held_out(id_, 1 / 3)]

    assert 600 < len(kept) < 733
    assert kept == [id_ for id_ in ids if is_held_out(id_, 1 / 3)]
    assert set(kept) <= {id_ for id_ in ids if is_held_out(id_, 0.5)}
    assert not any(is_held_out(id_, 0.0) for id_ in ids)
    assert all(is_held_out(id_, 1.0) for id_ in ids)


def test_a_text_in_both_is_found_whatever_its_case_and_spaces() -> None:
    """The message shows the text."""
    check_no_leak(["When does it leave?"], ["When does it arrive?"], what="question")
    with pytest.raises(TrainingDataError, match="question 'WHEN  does it"):
        check_no_leak(["When does it leave?"], ["WHEN  does it\nleave?"], what="question")
