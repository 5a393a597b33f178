"""What an evaluation says of a new model beside the one that it would replace; `python -m eval.run_gate` writes it."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rag_server.errors import WorseModelError

ModelKind = Literal["answerer", "ranker", "embedder", "cross_encoder"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class MeasuredModel(_Part):
    """A model that was measured. `fingerprint` is None where only a server elsewhere has its files."""

    name: str
    fingerprint: str | None


class Comparison(_Part):
    """The means of one measure over the same `n` questions, and the paired p-value of their difference; more is better."""

    measure: str
    baseline: float
    new: float
    p: float = Field(ge=0, le=1)
    n: int = Field(gt=0)


class ModelEvaluation(_Part):
    """Both models on the same held-out data; `held_out` is the share of it that was kept from training, None all of it."""

    kind: ModelKind
    new: MeasuredModel
    baseline: MeasuredModel
    dataset: str
    dataset_hash: str
    held_out: float | None
    command: str
    comparisons: tuple[Comparison, ...]
    deciding: str

    @model_validator(mode="after")
    def _decides_by_one(self) -> "ModelEvaluation":
        if [comparison.measure for comparison in self.comparisons].count(self.deciding) != 1:
            raise ValueError(f"the deciding measure {self.deciding!r} is not among the comparisons, once")
        return self

    @property
    def decisive(self) -> Comparison:
        """The comparison that decides."""
        return next(comparison for comparison in self.comparisons if comparison.measure == self.deciding)


def read_evaluation(path: Path) -> ModelEvaluation:
    """Return the evaluation that a file holds.

    Raises:
        WorseModelError: It holds none.
    """
    try:
        return ModelEvaluation.model_validate_json(path.read_bytes())
    except OSError as error:
        raise WorseModelError(f"the evaluation {path} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "the file"
        raise WorseModelError(f"{path} is no evaluation of eval.run_gate: {where}: {fault['msg']}") from None


def check_not_worse(evaluation: ModelEvaluation, kind: ModelKind, fingerprint: str) -> None:
    """Make sure that the evaluation is of this model, and that it is no worse than what it was measured beside.

    Raises:
        WorseModelError: It is not; the message has the figures.
    """
    if evaluation.kind != kind:
        raise WorseModelError(f"the evaluation is of a model of kind {evaluation.kind}, not {kind}")
    if evaluation.new.fingerprint != fingerprint:
        raise WorseModelError(f"the evaluation is of another model, {evaluation.new.name}: measure this one")
    found = evaluation.decisive
    if found.new < found.baseline:
        raise WorseModelError(
            f"it is worse than {evaluation.baseline.name}: {found.measure} {found.new:.3f} against {found.baseline:.3f} on "
            f"{found.n} of {evaluation.dataset} (p = {found.p:.3f})"
        )
