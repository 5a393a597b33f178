"""The position study: where the gold passage stands in the prompts that an engine receives, and what is made of its answers."""

import gzip
import json
import re
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from eval.qa.datasets import QaContext, QaDataset, load_lost_in_the_middle
from eval.qa.position_trials import Condition, ask_under, cut_passages, number_conditions, place_conditions, spread_places
from eval.run_position import main, order_table, place_table
from eval.significance import wilson_interval
from rag_server.engines.scripted import Script
from rag_server.engines.scripted import create_app as create_scripted_app
from rag_server.errors import ConfigError
from rerankers.reorder import reorder
from tests.conftest import served
from tests.live import Recorded

NUM_QUESTIONS = 6
MARKED_PASSAGE = re.compile(r"\[(\d+)\] title\n(.*)")
Scripted = Callable[..., AbstractContextManager[str]]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six questions with a gold passage and five distractors each, in the layout of lost-in-the-middle."""
    rows = []
    for number in range(NUM_QUESTIONS):
        gold = {"title": "title", "text": f"gold passage q{number} says answer{number} and more", "is_gold": True}
        others = [{"title": "title", "text": f"hard passage q{number} r{rank}", "is_gold": False} for rank in range(1, 6)]
        answers = [f"answer{number}"]
        rows.append({"id": f"q{number}", "question": f"q{number}?", "answers": answers, "contexts": [gold, *others]})
    (tmp_path / "litm_20docs.jsonl.gz").write_bytes(gzip.compress("".join(f"{json.dumps(row)}\n" for row in rows).encode()))
    return tmp_path


@pytest.fixture
def dataset(data: Path) -> QaDataset:
    return load_lost_in_the_middle(data)


def texts(contexts: tuple[QaContext, ...]) -> list[str]:
    return [context.text for context in contexts]


def trials(data: Path) -> list[dict]:
    return [json.loads(line) for line in (data / "out" / "position" / "trials.jsonl").read_text().splitlines()]


def test_places_are_spread_from_first_to_last() -> None:
    """Each place once, both ends among them."""
    assert spread_places(5, 5) == [1, 2, 3, 4, 5]
    assert spread_places(20, 5) == [1, 5, 10, 15, 20]
    assert spread_places(10, 3) == [1, 5, 10]
    assert spread_places(3, 9) == [1, 2, 3]
    assert spread_places(10, 2) == [1, 10]
    assert spread_places(1, 5) == [1]


def test_gold_passage_moves_and_the_rest_stays(dataset: QaDataset) -> None:
    """The others keep their retrieval order round the gold passage."""
    asked = ask_under(Condition(4, "hard", "none", place=3), dataset.questions[2], dataset, seed=0)

    assert texts(asked.ranked) == [
        "hard passage q2 r1",
        "hard passage q2 r2",
        "gold passage q2 says answer2 and more",
        "hard passage q2 r3",
    ]
    assert asked.reorder == "none"


def test_orders_are_compared_on_the_same_ranking(dataset: QaDataset) -> None:
    """A question's gold passage has one rank per number of passages, for every order and kind of negatives."""
    for question in dataset.questions:
        asked = {condition: ask_under(condition, question, dataset, seed=3) for condition in number_conditions([5], ["hard"])}
        ranked = {condition.order: asked[condition].ranked for condition in asked}
        random_negatives = ask_under(Condition(5, "random", "none"), question, dataset, seed=3).ranked

        assert ranked["none"] == ranked["sides"] == ranked["reverse"]
        assert set(ranked["random"]) == set(ranked["none"])
        assert {condition.order: asked[condition].reorder for condition in asked} == {
            "none": "none",
            "sides": "sides",
            "reverse": "reverse",
            "random": "none",
        }
        assert [context.is_gold for context in random_negatives] == [context.is_gold for context in ranked["none"]]


def test_gold_rank_falls_as_one_over_rank(dataset: QaDataset) -> None:
    """Over many seeds ranks 1 to 3 come up as 6 to 3 to 2 (1/1 to 1/2 to 1/3); the control puts the gold anywhere alike."""
    ranks: dict[str, Counter[int]] = {"none": Counter(), "random": Counter()}
    for seed in range(2200):
        for order in ("none", "random"):
            asked = ask_under(Condition(3, "hard", order), dataset.questions[0], dataset, seed)
            ranks[order][[context.is_gold for context in asked.ranked].index(True) + 1] += 1

    assert [ranks["none"][rank] for rank in (1, 2, 3)] == pytest.approx([1200, 600, 400], abs=90)
    assert [ranks["random"][rank] for rank in (1, 2, 3)] == pytest.approx([733] * 3, abs=90)


def test_random_negatives_are_of_other_questions(dataset: QaDataset) -> None:
    """None of the question's own passages; the same ones, and more of them, for more passages."""
    few, many = (
        {context for context in ask_under(Condition(number, "random", "none"), dataset.questions[1], dataset, 0).ranked}
        for number in (3, 6)
    )

    assert [text for text in texts(tuple(many)) if "q1" in text] == ["gold passage q1 says answer1 and more"]
    assert few < many
    assert len(many) == 6


def test_more_passages_than_there_are_is_refused(dataset: QaDataset) -> None:
    """A question has six passages."""
    with pytest.raises(ConfigError, match="ask for at most 6 passages"):
        ask_under(Condition(7, "hard", "none", place=1), dataset.questions[0], dataset, 0)


def test_question_that_loses_its_answer_is_left_out(dataset: QaDataset) -> None:
    """Cut after five words, the gold passages still answer; after four, none does."""
    assert texts(cut_passages(dataset, 5).questions[0].contexts)[0] == "gold passage q0 says answer0"
    assert len(cut_passages(dataset, 5).questions) == NUM_QUESTIONS
    assert cut_passages(dataset, 4).questions == ()


def test_engine_receives_the_gold_passage_at_its_place(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In each prompt that was sent, the gold passage has the number that the trial says, after whatever order."""
    engine = Recorded(create_scripted_app(Script(answer="nothing")))
    with served(engine) as url:
        monkeypatch.setenv("RAG_ENGINE__BASE_URL", f"{url}/v1")
        arguments = ["--questions", "3", "--num-passages", "3,6", "--positions", "3", "--concurrency", "1"]
        main(["--data", str(data), "--out", str(data / "out"), *arguments])

    bodies = [json.loads(body) for body in engine.sent if b"max_tokens" in body]
    asked = trials(data)
    assert len(bodies) == len(asked) == 3 * (3 + 3 + 2 * 2 * 4)
    for body, trial in zip(bodies, asked, strict=True):
        placed = dict(MARKED_PASSAGE.findall(body["messages"][-1]["content"]))
        gold = [number for number, text in placed.items() if text.startswith(f"gold passage {trial['id']} ")]
        assert gold == [str(trial["gold_place"])]
        assert len(placed) == trial["num_passages"]
        if trial["place"] is not None:
            assert trial["gold_place"] == trial["place"]
        elif trial["order"] != "random":
            ranks = list(range(1, trial["num_passages"] + 1))
            assert reorder(ranks, trial["order"])[trial["gold_place"] - 1] == trial["gold_rank"]
    places = {(trial["num_passages"], trial["place"]) for trial in asked if trial["place"] is not None}
    assert places == {(3, 1), (3, 2), (3, 3), (6, 1), (6, 3), (6, 6)}


def test_study_prints_and_draws(
    data: Path, scripted_engine: Scripted, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An engine that always says one answer is right on one question of six, under every condition."""
    with scripted_engine(answer="It is answer4 [1].") as base_url:
        monkeypatch.setenv("RAG_ENGINE__BASE_URL", base_url)
        status = main(["--data", str(data), "--out", str(data / "out"), "--num-passages", "2,4", "--positions", "2"])

    out = data / "out" / "position"
    shown = capsys.readouterr().out
    assert status == 0
    assert f"{NUM_QUESTIONS * (2 * 2 + 2 * 2 * 4)} calls: 20 for each of 6 questions" in shown
    assert {trial["correct"] for trial in trials(data) if trial["id"] == "q4"} == {True}
    assert {trial["correct"] for trial in trials(data) if trial["id"] != "q4"} == {False}
    assert shown.count(f"{1 / 6:.4f}") == 20
    for name in ("by-place.png", "by-number-hard.png", "by-number-random.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
        assert name in (out / "report.md").read_text()


def test_failures_count_as_wrong_and_are_listed(
    data: Path, scripted_engine: Scripted, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where passages were dropped from the prompt the gold one is not where it should be: the trial failed."""
    with scripted_engine(answer="answer0", context_length=100) as base_url:
        monkeypatch.setenv("RAG_ENGINE__BASE_URL", base_url)
        arguments = ["--questions", "99", "--num-passages", "2,6", "--positions", "1", "--negatives", "hard"]
        status = main(["--data", str(data), "--out", str(data / "out"), *arguments])

    failed = {trial["num_passages"] for trial in trials(data) if trial["error"] is not None}
    assert status == 1
    assert failed == {6}
    assert not any(trial["correct"] for trial in trials(data) if trial["num_passages"] == 6)
    assert any(trial["correct"] for trial in trials(data) if trial["num_passages"] == 2)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("failed: ")]
    assert len(lines) == NUM_QUESTIONS * 5
    assert "did not fit into the engine's context; lower --num-passages or --passage-words" in lines[0]
    assert all(line in (data / "out" / "position" / "report.md").read_text() for line in lines)


def test_tables_are_the_worked_example() -> None:
    """Shares with Wilson's interval; sides is better on three questions and worse on none: p = 2 / 2^3."""
    plain = {"a": True, "b": False, "c": False, "d": False}
    sides = {"a": True, "b": True, "c": True, "d": True}
    correct = {
        place_conditions([5], 1)[0]: plain,
        Condition(5, "hard", "none"): plain,
        Condition(5, "hard", "sides"): sides,
    }
    quarter, full = wilson_interval(1, 4), wilson_interval(4, 4)

    assert place_table(correct).rows == ((5, 1, 0.25, quarter.low, quarter.high, 4),)
    assert order_table(correct).rows == (
        (5, "hard", "none", 0.25, quarter.low, quarter.high, None, 4),
        (5, "hard", "sides", 1.0, full.low, full.high, 0.25, 4),
    )


def test_different_questions_are_refused() -> None:
    """Two orders that were asked different questions are not compared."""
    correct = {Condition(5, "hard", "none"): {"a": True}, Condition(5, "hard", "sides"): {"b": True}}

    with pytest.raises(ConfigError, match="different queries"):
        order_table(correct)


def test_unknown_kind_of_negatives_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """The message names the kinds."""
    with pytest.raises(SystemExit):
        main(["--negatives", "hard,soft"])
    assert "'soft' is none of hard, random" in capsys.readouterr().err
