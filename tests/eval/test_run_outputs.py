"""Recorded outputs of listwise rankers, read with the product's parser."""

import pytest

from eval.run_outputs import check
from rag_server.errors import ConfigError


def row(response: str, *, wellformed: bool) -> dict[str, object]:
    return {"window": 3, "response": response, "wellformed": wellformed}


def test_outputs_are_counted_by_what_is_wrong_with_them() -> None:
    """A worked example of each kind; a label that is wrong shows as a disagreement."""
    counts = check(
        [
            row("[3] > [1] > [2]", wellformed=True),
            row("[3] > [3] > [2]", wellformed=True),
            row("3] > [1] > [2]", wellformed=False),
            row("3 passages are provided.", wellformed=False),
            row("[2]", wellformed=False),
        ]
    )

    assert counts == {
        "outputs": 5,
        "complete permutations": 5,
        "ill-formed": 2,
        "ill-formed by their label": 3,
        "label and parser agree": 4,
        "well-formed, but repeat or skip": 2,
        "ill-formed, but every candidate is named": 1,
        "name nothing": 1,
    }


def test_row_without_a_field_is_named() -> None:
    """A foreign file is refused by its row."""
    with pytest.raises(ConfigError, match="row 1"):
        check([{"response": "[1]"}])
