"""The gate: a new model beside the one that it would replace, from the command to the registry."""

import gzip
import json
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from eval.run_gate import main
from eval.tuning.splits import split_key
from rag_server import factory
from rag_server.errors import WorseModelError
from rag_server.learning.splits import is_held_out
from rag_server.model_evaluation import Comparison, ModelEvaluation, read_evaluation
from rag_server.model_folders import fingerprint_of
from rag_server.model_registry import ModelRegistry
from rag_server.protocols import Embedder
from tests.adapters import make_adapter, make_model
from tests.eval.reranking_data import write_folder, write_rows

Scripted = Callable[..., AbstractContextManager[str]]
RIGHT = "one hundred cats"
# In each question, one passage has the answer.
NUM_QUESTIONS = 6


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """hotpotqa with six questions that all have the same answer, each with a gold passage of its own."""
    path = tmp_path / "data" / "hotpotqa" / "hotpotqa_train_100.jsonl.gz"
    path.parent.mkdir(parents=True)
    gold = {"title": "", "is_gold": True}
    other = {"title": "", "text": "Tea is hot.", "is_gold": False}
    rows = [
        {
            "id": f"q{number}",
            "question": f"How many cats in house {number}?",
            "answers": [RIGHT],
            "contexts": [{**gold, "text": f"In house {number} are {RIGHT}."}, other],
        }
        for number in range(NUM_QUESTIONS)
    ]
    path.write_bytes(gzip.compress("".join(f"{json.dumps(row)}\n" for row in rows).encode()))
    monkeypatch.setenv("RAG_EVAL_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("RAG_DATA_DIR", str(tmp_path / "server"))
    return tmp_path


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return make_adapter(tmp_path / "trained")


def gate(engine: str, adapter: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Measure the model `new` beside the engine's first one."""
    monkeypatch.setenv("RAG_ENGINE__BASE_URL", engine)
    fixed = ["--new", str(adapter), "--served-as", "new", "--out", str(adapter.parent / "out" / "evaluation.json")]
    return main(["answerer", *fixed, "--dataset", "hotpotqa", "--passages", "2", *arguments])


def written(adapter: Path) -> ModelEvaluation:
    return read_evaluation(adapter.parent / "out" / "evaluation.json")


def figures(evaluation: ModelEvaluation) -> dict[str, Comparison]:
    return {comparison.measure: comparison for comparison in evaluation.comparisons}


def test_better_model_is_measured_and_added(
    data: Path, adapter: Path, scripted_engine: Scripted, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Right answers with a mark against wrong ones without: every figure is known, and the registry takes the model."""
    with scripted_engine(answer="no idea", adapters={"new": f"{RIGHT} [1]"}) as engine:
        status = gate(engine, adapter, monkeypatch)
    evaluation = written(adapter)
    found = figures(evaluation)

    assert status == 0
    for measure in ("exact match", "token F1", "substring match", "mark share"):
        assert (found[measure].baseline, found[measure].new, found[measure].n) == (0.0, 1.0, NUM_QUESTIONS)
        # All six differ the same way: of the 64 assignments of their signs, two are as extreme.
        assert found[measure].p == pytest.approx(2 / 64)
    assert found["mark precision"].baseline == 0.0
    assert (evaluation.baseline.name, evaluation.baseline.fingerprint) == ("scripted", None)
    assert (evaluation.new.name, evaluation.new.fingerprint) == ("trained", fingerprint_of(adapter))
    assert (evaluation.dataset, evaluation.held_out) == ("hotpotqa", None)
    assert evaluation.command.startswith("python -m eval.run_gate answerer --new")
    assert "token F1" in capsys.readouterr().out
    ModelRegistry(data / "server").add(adapter, name="mine", kind="answerer", evaluation=evaluation, force=False)


def test_worse_model_is_measured_and_refused(
    data: Path, adapter: Path, scripted_engine: Scripted, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The evaluation is written all the same, says so, and the registry does not take the model."""
    with scripted_engine(answer=RIGHT, adapters={"new": "no idea"}) as engine:
        status = gate(engine, adapter, monkeypatch)

    assert status == 0
    assert "it is worse than scripted: token F1 0.000 against 1.000" in capsys.readouterr().out
    with pytest.raises(WorseModelError, match="worse than scripted"):
        registry = ModelRegistry(data / "server")
        registry.add(adapter, name="mine", kind="answerer", evaluation=written(adapter), force=False)


def test_evaluation_of_another_training_is_refused(
    data: Path, adapter: Path, scripted_engine: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that was trained on after it was measured is another one."""
    with scripted_engine(answer="no idea", adapters={"new": RIGHT}) as engine:
        gate(engine, adapter, monkeypatch)
    shutil.rmtree(adapter)
    make_adapter(adapter, seed=1)

    with pytest.raises(WorseModelError, match="of another model"):
        registry = ModelRegistry(data / "server")
        registry.add(adapter, name="mine", kind="answerer", evaluation=written(adapter), force=False)


def test_baseline_is_what_answers_now(
    data: Path, adapter: Path, scripted_engine: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --baseline the new model is measured against the answerer of the settings; files that are here are named."""
    registered = make_adapter(data / "before", seed=2)
    ModelRegistry(data / "server").add(registered, name="before", kind="answerer", evaluation=None, force=True)
    monkeypatch.setenv("RAG_ENGINE__ANSWERER", "before")
    with scripted_engine(answer="no idea", adapters={"new": RIGHT, "before": RIGHT}) as engine:
        gate(engine, adapter, monkeypatch)
        against_answerer = written(adapter)
        gate(engine, adapter, monkeypatch, "--baseline", "scripted")

    assert (against_answerer.baseline.name, against_answerer.baseline.fingerprint) == ("before", fingerprint_of(registered))
    assert against_answerer.decisive.baseline == against_answerer.decisive.new == 1.0
    assert written(adapter).decisive.baseline == 0.0


def test_only_what_was_held_out_is_asked(
    data: Path, adapter: Path, scripted_engine: Scripted, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a share, only questions whose gold passage was kept from training count; another choice is other data."""
    from eval.qa.datasets import load_questions

    kept = [question for question in load_questions("hotpotqa").questions if is_held_out(split_key(question), 0.5)]
    with scripted_engine(answer="no idea", adapters={"new": RIGHT}) as engine:
        gate(engine, adapter, monkeypatch)
        all_of_them = written(adapter)
        gate(engine, adapter, monkeypatch, "--held-out", "0.5")
        some = written(adapter)
        status = gate(engine, adapter, monkeypatch, "--held-out", "0.000001")

    assert 0 < len(kept) < NUM_QUESTIONS
    assert (some.decisive.n, some.held_out) == (len(kept), 0.5)
    assert some.dataset_hash != all_of_them.dataset_hash
    assert status == 1
    assert "nothing of hotpotqa was kept" in capsys.readouterr().err


def test_failing_engine_decides_nothing(
    data: Path, adapter: Path, scripted_engine: Scripted, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A baseline that scores nothing because the engine failed does not make a model better: nothing is written."""
    del data
    with scripted_engine(context_length=60, adapters={"new": RIGHT}) as engine:
        status = gate(engine, adapter, monkeypatch, "--answer-tokens", "50")

    assert status == 1
    assert f"scripted failed at {NUM_QUESTIONS} questions" in capsys.readouterr().err
    assert not (adapter.parent / "out" / "evaluation.json").exists()


def test_what_cannot_be_measured_is_said(
    data: Path, adapter: Path, scripted_engine: Scripted, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name that the engine does not serve, an endpoint without the name, and a whole model for one vLLM."""
    whole = make_model(data / "whole")
    answerer = ["answerer", "--dataset", "hotpotqa", "--passages", "2", "--new"]
    with scripted_engine() as engine:
        unserved = (gate(engine, adapter, monkeypatch), capsys.readouterr().err)
        unnamed = (main([*answerer, str(adapter)]), capsys.readouterr().err)
    monkeypatch.delenv("RAG_ENGINE__BASE_URL")
    not_an_adapter = (main([*answerer, str(whole)]), capsys.readouterr().err)

    assert unserved[0] == unnamed[0] == not_an_adapter[0] == 1
    assert "does not serve new, but scripted" in unserved[1]
    assert "--served-as" in unnamed[1]
    assert "is no adapter" in not_an_adapter[1]


def test_ranker_is_measured_against_the_candidates(
    data: Path, adapter: Path, scripted_engine: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that ranks by the query's words is better than a first stage that is wrong, by nDCG@10."""
    folder = write_folder(data / "small")
    out = data / "evaluation.json"
    arguments = ["--data", str(folder), "--first-stage", "bm25", "--new", str(adapter), "--served-as", "new"]
    with scripted_engine(adapters={"new": None}) as engine:
        monkeypatch.setenv("RAG_ENGINE__BASE_URL", engine)
        status = main(["ranker", *arguments, "--out", str(out)])
        evaluation = read_evaluation(out)
        main(["ranker", *arguments, "--out", str(out), "--baseline", "scripted"])

    assert status == 0
    assert (evaluation.kind, evaluation.deciding, evaluation.baseline.name) == ("ranker", "nDCG@10", "first_stage")
    # Both relevant documents of rank 2 come first.
    assert figures(evaluation)["MRR@10"].baseline == 0.5
    assert figures(evaluation)["MRR@10"].new == 1.0
    assert evaluation.decisive.new > evaluation.decisive.baseline
    assert (read_evaluation(out).baseline.name, read_evaluation(out).decisive.p) == ("scripted", 1.0)


class Blind:
    """An embedder to which all passages look the same."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self.model_id, self.location = "blind@1", "blind"

    def __getattr__(self, name: str) -> object:
        return getattr(self._embedder, name)

    def embed_passages(self, texts: list[str]) -> object:
        """Return the same vector for each text."""
        return self._embedder.embed_passages(["the same"] * len(texts))


def test_embedders_get_an_index_each(data: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dense retrieval with the new model is better than with one that sees no difference; nothing of the indexes is left."""
    folder = data / "data" / "small"
    folder.mkdir()
    texts = {f"d{number}": f"The animal number {number} is hot." for number in range(12)} | {"d99": "Cats sleep all day."}
    write_rows(folder / "corpus.jsonl.gz", texts)
    write_rows(folder / "queries.jsonl.gz", {"q1": "sleep of cats"})
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td99\t1\n")
    new = make_model(data / "sharp")
    (new / "modules.json").write_text("[]")
    monkeypatch.setattr(
        factory, "load_embedder", lambda settings: embedder if settings.embedder.model == str(new) else Blind(embedder)
    )
    status = main(["embedder", "--dataset", "small", "--new", str(new), "--out", str(data / "evaluation.json")])
    evaluation = read_evaluation(data / "evaluation.json")

    assert status == 0
    assert evaluation.decisive.new == 1.0
    assert evaluation.decisive.baseline < 1.0
    assert not (data / "server" / "rag.db").exists()
