"""The measurement of what is computed before runs through on small data sets, against the scripted engine."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from transformers import PreTrainedTokenizerFast

from eval.bench.asked_prompts import conversations, prompts_of
from eval.bench_prefix import main
from tests.conftest import served
from tests.eval.reranking_data import write_rows
from tests.rerankers.tokenizer_kinds import byte_level
from tests.tiny_llama import CHATML

ARTICLES = {"Cats": ("sleep", "eat", "run"), "Boats": ("sail", "sink", "turn")}
Scripted = Callable[..., AbstractContextManager[str]]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two articles with a paragraph and a question for each verb, as xquad-en, and the same as a judged corpus."""
    said = [
        (title, f"{title} {verb} at {verb} hour.", f"When do {title} {verb}?") for title in ARTICLES for verb in ARTICLES[title]
    ]
    xquad = tmp_path / "data" / "xquad"
    xquad.mkdir(parents=True)
    corpus = [{"_id": f"p{place}", "title": title, "text": text} for place, (title, text, _) in enumerate(said)]
    questions = [
        {"id": f"q{place}", "question": question, "answers": ["then"], "paragraph": f"p{place}"}
        for place, (_, _, question) in enumerate(said)
    ]
    for name, rows in (("corpus_en.jsonl", corpus), ("xquad_en.jsonl", questions)):
        (xquad / name).write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    small = tmp_path / "data" / "small"
    small.mkdir()
    write_rows(small / "corpus.jsonl.gz", {f"p{place}": text for place, (_, text, _) in enumerate(said)})
    write_rows(small / "queries.jsonl.gz", {f"q{place}": question for place, (_, _, question) in enumerate(said)})
    judged = "".join(f"q{place}\tp{place}\t1\n" for place in range(len(said)))
    (small / "qrels.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}")
    PreTrainedTokenizerFast(tokenizer_object=byte_level(), chat_template=CHATML).save_pretrained(tmp_path / "model")
    monkeypatch.setenv("RAG_EVAL_DATA", str(tmp_path / "data"))
    return tmp_path


def run(data: Path, *more: str) -> int:
    sizes = ["--questions", "6", "--passages", "2", "--conversations", "2", "--turns", "3", "--turn-passages", "1"]
    folders = ["--tokenizer", str(data / "model"), "--out", str(data / "out")]
    return main(["--datasets", "small,xquad-en", *sizes, *folders, *more])


def table(out: str, title: str) -> list[list[str]]:
    """Return the cells of the lines below the columns of a table."""
    _, _, rest = out.partition(title)
    lines = rest.split("\n\n")[0].split("\nwritten")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]


def test_tables_say_what_is_found_again(
    data: Path, scripted_engine: Scripted, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Separated passages are found again more often than numbered ones; kept ones make more tokens, and fewer to compute."""
    with scripted_engine() as url:
        monkeypatch.setenv("RAG_ENGINE__BASE_URL", url)
        status = run(data)
    out = capsys.readouterr().out

    asked, talks, told = (table(out, title) for title in ("Questions to", "2 conversations, ", "2 conversations with scripted"))
    assert status == 0
    assert [row[:3] for row in asked] == [
        [name, separator, "6"] for name in ("small", "xquad-en") for separator in ("none", "' # #'")
    ]
    for numbered, separated in (asked[:2], asked[2:]):
        assert float(numbered[6]) < float(separated[6]) == float(separated[7])
        assert (numbered[8], separated[8]) == ("–", "1.0000")
    (_, prompts, tokens, found, left), (_, _, kept_tokens, kept_found, kept_left) = talks
    assert prompts == "6"
    assert float(kept_tokens) > float(tokens)
    assert float(kept_found) > float(found) > 0
    assert float(kept_left) < float(left)
    assert [(row[0], row[2]) for row in told] == [(turn, "0.0000") for turn in ("1", "2", "3", "all")]
    assert "same beginning" in (data / "out" / "prefix" / "report.md").read_text()


def test_conversations_are_about_one_article_each(data: Path) -> None:
    """Each turn finds its own paragraph; the last prompt has the earlier questions as they were asked, or with passages."""
    del data
    talks = conversations(5, num_turns=3, num_passages=1)
    plain, kept = (list(prompts_of(talks[0], order="none", are_kept=are_kept))[-1] for are_kept in (False, True))

    assert [[turn.question.split()[-1] for turn in turns] for turns in talks] == [
        ["sleep?", "eat?", "run?"],
        ["sail?", "sink?", "turn?"],
    ]
    assert all(turn.question.split()[-1].rstrip("?") in turn.ranked[0].text for turns in talks for turn in turns)
    assert [message["role"] for message in plain] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert plain[1]["content"] == "When do Cats sleep?"
    assert kept[1]["content"].endswith("[1] Cats\nCats sleep at sleep hour.\n---\n\nQuestion: When do Cats sleep?")
    assert plain[-1] == kept[-1]


def test_an_engine_that_does_not_tell_is_an_error(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says what to start it with."""

    async def models(_: Request) -> Response:
        return JSONResponse({"data": [{"id": "m", "max_model_len": 4096}]})

    async def count(_: Request) -> Response:
        return JSONResponse({"count": 10})

    async def chat(_: Request) -> Response:
        message = {"role": "assistant", "content": "Yes."}
        return JSONResponse({"choices": [{"index": 0, "message": message}], "usage": {"prompt_tokens": 10}})

    routes = [
        Route("/v1/models", models),
        Route("/tokenize", count, methods=["POST"]),
        Route("/v1/chat/completions", chat, methods=["POST"]),
    ]
    with served(Starlette(routes=routes)) as url:
        monkeypatch.setenv("RAG_ENGINE__BASE_URL", f"{url}/v1")
        status = run(data)

    assert status == 1
    assert "--enable-prompt-tokens-details" in capsys.readouterr().err
