"""`rag-server batch` as people call it, against a scripted engine: what it writes, where it goes on, and what it refuses."""

import csv
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from eval.qa.predictions import read_predictions
from rag_server import factory
from rag_server.commands import batching
from rag_server.commands.batching_output import Lock
from rag_server.config import Settings
from rag_server.engines.scripted import Script, create_app
from tests.conftest import served
from tests.live import Recorded

SUBJECTS = ("cats", "ketches", "teas", "stars", "boats", "moons")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorded]:
    """A scripted engine that the command is told of; what it is sent is kept."""
    app = Recorded(create_app(Script(context_length=4000)))
    with served(app) as url:
        monkeypatch.setenv("RAG_ENGINE__BASE_URL", f"{url}/v1")
        yield app


@pytest.fixture
def run(
    settings: Settings,
    engine: Recorded,
    index: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    command_line: Run,
) -> Run:
    """Run `rag-server batch` in this process over a collection `docs`; return status, standard output and standard error."""
    index("docs", {f"{name}.md": f"# {name}\n\nThe number of {name} is {100 + place}." for place, name in enumerate(SUBJECTS)})
    monkeypatch.setenv("RAG_DATA_DIR", str(settings.data_dir))
    monkeypatch.setattr(batching, "POLL_S", 0.02)
    return partial(command_line, "batch")


def question(name: str, **fields: object) -> dict[str, object]:
    return {"id": name, "question": f"What is the number of {name}?", **fields}


def write(path: Path, rows: list[object]) -> Path:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def asked(engine: Recorded) -> list[str]:
    """Return the questions that the engine was to answer."""
    bodies = [json.loads(body) for body in engine.sent if b'"messages"' in body and b'"temperature"' in body]
    return [body["messages"][-1]["content"].rpartition("Question: ")[2] for body in bodies]


def test_questions_become_answers_with_their_sources(run: Run, tmp_path: Path) -> None:
    """Each row has its answer, passages, citations, usage and settings, which are a temperature of 0 or what the row says."""
    source = write(
        tmp_path / "in.jsonl", [question(name, answers=["gold"]) for name in SUBJECTS[:5]] + [question("moons", max_tokens=2)]
    )
    status, out, _ = run(source, tmp_path / "out.jsonl", "--collection", "docs")

    rows = {row["id"]: row for row in read(tmp_path / "out.jsonl")}
    assert status == 0
    assert "6 of 6 rows answered" in out
    assert set(rows) == set(SUBJECTS)
    assert list(rows["cats"]) == [
        "id",
        "question",
        "answer",
        "passages",
        "citations",
        "usage",
        "timings_ms",
        "settings",
        "finish_reason",
    ]
    assert rows["cats"]["question"] == "What is the number of cats?"
    assert rows["cats"]["answer"].startswith("The number of cats is 100.")
    assert rows["cats"]["settings"] == {"model": "rag/docs", "temperature": 0}
    cited = {passage["id"]: passage["text"] for passage in rows["cats"]["passages"]}
    assert "The number of cats is 100." in cited[rows["cats"]["citations"][0]["passage_id"]]
    assert (rows["moons"]["finish_reason"], rows["moons"]["usage"]["completion_tokens"]) == ("length", 2)
    assert not (tmp_path / "out.errors.jsonl").exists()


def test_rows_that_cannot_be_asked_are_named_and_the_others_answered(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Malformed, empty, duplicate and enormous rows, ids and settings that are none: each in the file of errors, once."""
    monkeypatch.setenv("RAG_LIMITS__MAX_BODY_BYTES", "2000")
    rows = [
        question("cats"),
        "{",
        "[]",
        {"id": "no"},
        question("cats"),
        {"id": "blank", "question": " "},
        "",
        question("big", x="y" * 3000),
    ]
    rows += [
        {"id": {"a": 1}, "question": "?"},
        question("boats", rag={"retrieve": "magic"}),
    ]
    status, _, err = run(write(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl", "--collection", "docs")

    errors = Counter((row["id"], row["error"]["code"]) for row in read(tmp_path / "out.errors.jsonl"))
    assert status == 1
    assert "8 rows failed" in err
    assert [row["id"] for row in read(tmp_path / "out.jsonl")] == ["cats"]
    assert errors == {
        ("line 2", "invalid_json_line"): 1,
        ("line 3", "invalid_json_line"): 1,
        ("no", "missing_question"): 1,
        ("cats", "duplicate_id"): 1,
        ("blank", "missing_question"): 1,
        ("line 8", "line_too_long"): 1,
        ("line 9", "invalid_id"): 1,
        ("boats", "invalid_request"): 1,
    }


def test_lines_of_openai_are_answered_in_its_shape(run: Run, tmp_path: Path) -> None:
    """The output has OpenAI's lines, the failed ones in the file of errors with their status and body."""
    body = {"model": "scripted", "messages": [{"role": "user", "content": "hello"}]}
    line = {"method": "POST", "url": "/v1/chat/completions", "body": body}
    rows = [
        {"custom_id": "a", **line},
        {"custom_id": "b", **line, "body": {**body, "model": "none"}},
        {"custom_id": "c", **line, "url": "/"},
    ]
    status, _, _ = run(write(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl")

    (answer,), (refused, failed) = (
        read(tmp_path / "out.jsonl"),
        sorted(read(tmp_path / "out.errors.jsonl"), key=lambda row: row["custom_id"], reverse=True),
    )
    assert status == 1
    assert (answer["custom_id"], answer["error"], answer["response"]["status_code"]) == ("a", None, 200)
    assert answer["response"]["body"]["choices"][0]["message"]["content"] == "You said: hello"
    assert (failed["custom_id"], failed["response"]["status_code"]) == ("b", 404)
    assert refused["response"] is None
    assert refused["error"]["code"] == "url_mismatch"


@pytest.mark.parametrize("cut", [0, 1, 40, "line", "garbage"])
def test_it_goes_on_where_it_stopped(run: Run, engine: Recorded, tmp_path: Path, cut: int | str) -> None:
    """After the output lost its end, or got half a line, it is made whole again, without asking anything twice."""
    source, out = write(tmp_path / "in.jsonl", [question(name) for name in SUBJECTS]), tmp_path / "out.jsonl"
    run(source, out, "--collection", "docs")
    whole, sent = out.read_bytes(), len(asked(engine))
    lines = whole.splitlines(keepends=True)
    kept = (
        {"line": b"".join(lines[:2]), "garbage": lines[0] + lines[1][:30] + bytes(5000)}.get(cut)
        if isinstance(cut, str)
        else whole[: -cut or None]
    )
    out.write_bytes(kept or b"")

    status, printed, _ = run(source, out, "--collection", "docs")

    assert status == 0
    assert "(0 of them now" in printed
    assert out.read_bytes() == whole
    assert len(asked(engine)) == sent == len(SUBJECTS)


def test_a_job_that_was_ended_in_between_is_brought_to_its_end(
    run: Run, engine: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupted command leaves what was answered; called again it answers the rest, and each row is there once."""
    monkeypatch.setenv("RAG_LIMITS__BATCH_RUNNING", "1")
    rows = [
        question(f"{name}", id=f"{name} {number}", question=f"What is {name} {number}?")
        for number in range(8)
        for name in SUBJECTS
    ]
    source, out = write(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    show = batching.BatchBar.show

    def interrupted(bar: batching.BatchBar, batch: batching.Batch, note: str | None) -> None:
        if batch.completed >= 5:
            raise KeyboardInterrupt
        show(bar, batch, note)

    monkeypatch.setattr(batching.BatchBar, "show", interrupted)
    first = run(source, out, "--collection", "docs")[0]
    written = len(read(out))
    monkeypatch.setattr(batching.BatchBar, "show", show)
    second = run(source, out, "--collection", "docs")[0]

    assert (first, second) == (130, 0)
    assert 5 <= written < len(rows)
    assert Counter(row["id"] for row in read(out)) == {str(row["id"]): 1 for row in rows}


@pytest.mark.parametrize("change", ["input", "limit", "foreign"])
def test_the_output_of_another_job_is_refused(run: Run, engine: Recorded, tmp_path: Path, change: str) -> None:
    """Another input, another limit, or a file of somebody else's in its place: nothing is asked, and nothing overwritten."""
    source, out = write(tmp_path / "in.jsonl", [question("cats")]), tmp_path / "out.jsonl"
    run(source, out, "--collection", "docs")
    if change == "input":
        write(source, [question("teas")])
    elif change == "foreign":
        out.write_text("my own notes\n")
    before, sent = out.read_bytes(), len(engine.sent)

    status, _, err = run(source, out, "--collection", "docs", *(["--limit", "1"] if change == "limit" else []))

    assert status == 1
    assert "name another file" in err
    assert out.read_bytes() == before
    assert len(engine.sent) == sent


def test_two_commands_do_not_write_the_same_output(run: Run, tmp_path: Path) -> None:
    """The second one is told so."""
    source, out = write(tmp_path / "in.jsonl", [question("cats")]), tmp_path / "out.jsonl"
    lock = Lock(out)
    status, _, err = run(source, out, "--collection", "docs")
    lock.release()

    assert status == 1
    assert "another `rag-server batch`" in err
    assert run(source, out, "--collection", "docs")[0] == 0


def test_what_failed_is_asked_once_more(run: Run, engine: Recorded, tmp_path: Path, index: Callable[..., None]) -> None:
    """Rows over a collection that did not exist are answered once it does; the others stay as they are."""
    rows = [question("cats"), question("ducks", model="rag/later"), "{"]
    source, out = write(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    first = run(source, out, "--collection", "docs")[0]
    failed = [row["id"] for row in read(tmp_path / "out.errors.jsonl")]
    index("later", {"ducks.md": "# Ducks\n\nThe number of ducks is 7."})
    second = run(source, out, "--collection", "docs", "--retry-failed")

    assert (first, second[0]) == (1, 1)
    assert sorted(failed) == ["ducks", "line 3"]
    assert [row["id"] for row in read(out)] == ["cats", "ducks"]
    assert [row["id"] for row in read(tmp_path / "out.errors.jsonl")] == ["line 3"]
    assert Counter(asked(engine))["What is the number of cats?"] == 1


def test_ordered_output_is_in_the_order_of_the_input(run: Run, tmp_path: Path) -> None:
    """Whatever finishes first."""
    rows = [question(name, question="word " * (200 if place % 2 else 1) + name) for place, name in enumerate(SUBJECTS)]
    run(write(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl", "--collection", "docs", "--ordered")

    assert [row["id"] for row in read(tmp_path / "out.jsonl")] == list(SUBJECTS)


def test_csv_in_and_out(run: Run, tmp_path: Path) -> None:
    """Settings are columns; what is more than a text is JSON in the output; the file of errors is CSV too."""
    with (tmp_path / "in.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [["id", "question", "max_tokens"], ["1", 'What is\nthe number of "cats"?', ""], ["2", "teas", "2"], ["2", "x", ""]]
        )
    status, _, _ = run(tmp_path / "in.csv", tmp_path / "out.csv", "--collection", "docs")

    with (tmp_path / "out.csv").open(newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    with (tmp_path / "out.errors.csv").open(newline="") as file:
        errors = list(csv.DictReader(file))
    assert status == 1
    assert rows["1"]["question"] == 'What is\nthe number of "cats"?'
    assert json.loads(rows["1"]["passages"])[0]["text"]
    assert json.loads(rows["2"]["usage"])["completion_tokens"] == 2
    assert [json.loads(row["error"])["code"] for row in errors] == ["duplicate_id"]


def test_parquet_in_and_out(run: Run, tmp_path: Path) -> None:
    """The same columns as in CSV."""
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not in the locks")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(
        pyarrow.table({"id": list(SUBJECTS), "question": [f"What of {name}?" for name in SUBJECTS]}), tmp_path / "in.parquet"
    )
    for _ in range(2):
        status, _, _ = run(tmp_path / "in.parquet", tmp_path / "out.parquet", "--collection", "docs", "--ordered")

    found = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert status == 0
    assert [row["id"] for row in found] == list(SUBJECTS)
    assert json.loads(found[0]["usage"])["completion_tokens"] > 0


def test_dry_run_estimates_and_records_nothing(run: Run, settings: Settings, tmp_path: Path) -> None:
    """Tokens are those of the sample times the share of the rows; no batch is made, and no file."""
    rows = [question(f"q{number}", question=f"What is the number of {SUBJECTS[number % 6]}?") for number in range(50)]
    status, out, _ = run(
        write(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl", "--collection", "docs", "--dry-run", "--json"
    )

    told = json.loads(out)
    store = factory.open_store(settings)
    with store.database.read() as connection:
        count = connection.exec_driver_sql("SELECT count(*) FROM batches").scalar_one()
    store.database.close()
    assert status == 0
    assert (told["rows"], told["sampled"], told["failed"]) == (50, 5, [])
    assert told["output_tokens"] == 50 * 7
    assert told["input_tokens"] > 50 * 20
    assert count == 0
    assert not (tmp_path / "out.jsonl").exists()


def test_limit_takes_the_first_rows(run: Run, tmp_path: Path) -> None:
    """The others are not asked."""
    run(
        write(tmp_path / "in.jsonl", [question(name) for name in SUBJECTS]),
        tmp_path / "out.jsonl",
        "-c",
        "docs",
        "--limit",
        "2",
    )

    assert sorted(row["id"] for row in read(tmp_path / "out.jsonl")) == ["cats", "ketches"]


@pytest.mark.parametrize(
    ("arguments", "sign"),
    [
        (["none.jsonl", "out.jsonl", "-c", "docs"], "cannot be read"),
        (["in.jsonl", "out.jsonl"], "--collection"),
        (["in.jsonl", "out.jsonl", "-c", "none"], "rag-server index"),
        (["in.jsonl", "no/out.jsonl", "-c", "docs"], "cannot be written"),
        (["in.jsonl", "out.txt", "-c", "docs"], "must end in"),
        (["empty.jsonl", "out.jsonl", "-c", "docs"], "no row with a question"),
        (["in.jsonl", "out.jsonl", "-c", "docs", "--ray", "local"], "needs Ray"),
    ],
)
def test_a_job_that_cannot_be_done_is_refused_before_anything_is_spent(
    run: Run, engine: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], sign: str
) -> None:
    """One line says what to do; the engine is not asked."""
    if "--ray" in arguments:
        monkeypatch.setitem(sys.modules, "ray", None)
    write(tmp_path / "in.jsonl", [question("cats")])
    (tmp_path / "empty.jsonl").write_text("\n\n")
    monkeypatch.chdir(tmp_path)

    status, _, err = run(*arguments)

    assert status == 1
    assert sign in err
    assert len(err.splitlines()) == 1
    assert asked(engine) == []


def test_the_output_can_be_graded(run: Run, tmp_path: Path) -> None:
    """eval.run_qa reads what the command writes: answers, passages, citations, tokens and seconds."""
    run(write(tmp_path / "in.jsonl", [question("cats")]), tmp_path / "out.jsonl", "-c", "docs")

    (prediction,) = read_predictions(tmp_path / "out.jsonl")
    assert prediction.answer
    assert prediction.answer.startswith("The number of cats is 100.")
    assert prediction.rag is not None
    assert "The number of cats is 100." in prediction.rag.text_of(prediction.rag.citations[0].passage_id)
    assert prediction.output_tokens == 7
    assert prediction.seconds is not None
    assert prediction.seconds > 0
