"""Measures how much of its prompts an engine has computed before: of questions to one collection, and of conversations.

python -m eval.bench_prefix

What is found again is counted in tokens of the packaged model (or of --tokenizer), for a cache that never forgets: as the
beginning of an earlier prompt, and as a passage of one, with and without the separator of RAG_PROMPT__PASSAGE_SEPARATOR. Then
the configured engine is asked conversations turn by turn, and tells how much it had in its own prefix cache.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eval.bench.asked_prompts import Turn, conversations, prompt_of, prompts_of, questions_of
from eval.bench.prompt_reuse import PrefixCache, Reuse, ReuseCounter
from eval.command import run_command
from eval.engine import answering_model, engine_of
from eval.qa.arguments import at_least_one
from eval.qa.given_passages import AskedQuestion, pipeline_of, request_of
from eval.report import Cell, Table, as_text, write_report
from rag_server.config import Settings, load_settings
from rag_server.engines.smollm2_weights import MODEL_NAME, convert
from rag_server.errors import ConfigError
from rag_server.learning.models import load_tokenizer, prompt_ids
from rag_server.protocols import Engine, Json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NOTES = (
    "Shares are of all prompt tokens. Prompts come one after another, and nothing is forgotten.",
    "same beginning: in blocks of tokens with which an earlier prompt begins too, as in vLLM's prefix cache.",
    "same text: in passages that are in an earlier prompt, byte by byte; without a separator their number is part of them.",
    "same tokens: in those of them whose tokens are the same too. separators found: as the tokens that they are alone.",
    "Passages are whole documents, found by BM25. The conversations are questions about one article of xquad-en each.",
    "earlier passages kept: if the passages of earlier turns stayed in the conversation.",
)


def questions_table(tokenizer: "PreTrainedTokenizerBase", settings: Settings, given: argparse.Namespace) -> Table:
    """Return what is found again of the prompts of questions that have only their collection in common."""
    rows: list[tuple[Cell, ...]] = []
    for name in given.datasets.split(","):
        asked = questions_of(name, given.questions, num_passages=given.passages)
        for separator in ("", given.separator):
            counter = ReuseCounter(tokenizer, separator=separator, block_tokens=given.block_tokens)
            for turn in asked:
                question = {"role": "user", "content": turn.question}
                counter.add(prompt_of([question], turn.ranked, order=settings.reorder.kind, separator=separator))
            rows.append((name, repr(separator) if separator else "none", len(asked), *_shares(counter.reuse)))
    columns = ("data set", "separator", "questions", "prompt tokens", "in passages", "same beginning", "same text")
    title = f"Questions to one collection, {given.passages} passages each, blocks of {given.block_tokens} tokens"
    return Table(title, (*columns, "same tokens", "separators found"), tuple(rows))


def _shares(reuse: Reuse) -> tuple[Cell, ...]:
    tokens = (reuse.in_passages, reuse.same_prefix, reuse.same_text, reuse.same_tokens)
    found = reuse.separators_found / reuse.separators_written if reuse.separators_written else None
    return reuse.prompt, *(number / reuse.prompt for number in tokens), found


def conversations_table(
    tokenizer: "PreTrainedTokenizerBase", talks: Sequence[Sequence[Turn]], settings: Settings, block_tokens: int
) -> Table:
    """Return what a prefix cache finds in conversations, as their prompts are laid out and as they might be."""
    rows: list[tuple[Cell, ...]] = []
    for name, are_kept in (("as it is", False), ("earlier passages kept", True)):
        prefixes, tokens = PrefixCache(block_tokens), []
        for turns in talks:
            for prompt in prompts_of(turns, order=settings.reorder.kind, are_kept=are_kept):
                ids = prompt_ids(tokenizer, prompt)
                tokens.append((len(ids), prefixes.add(ids)))
        total, found = np.sum(tokens, axis=0)
        each = (float(total / len(tokens)), float(found / total), float((total - found) / len(tokens)))
        rows.append((name, len(tokens), *each))
    columns = ("layout", "prompts", "tokens of a prompt", "same beginning", "tokens left to compute")
    return Table(f"{len(talks)} conversations, blocks of {block_tokens} tokens", columns, tuple(rows))


async def engine_table(
    tokenizer: "PreTrainedTokenizerBase", talks: Sequence[Sequence[Turn]], settings: Settings, given: argparse.Namespace
) -> Table:
    """Return for each turn what the engine had in its cache, and what one that never forgets would have had.

    Raises:
        ConfigError: The engine does not tell.
    """
    tokens = np.zeros((given.turns, 3))
    prefixes = PrefixCache(given.block_tokens)
    async with engine_of(settings) as engine:
        model = await answering_model(engine, settings)
        for turns in talks:
            history: list[Json] = []
            for number, turn in enumerate(turns):
                question = {"role": "user", "content": turn.question}
                prompt, completion = await _ask(engine, model, [*history, question], turn, settings, given.answer_tokens)
                history += [question, {"role": "assistant", "content": completion["choices"][0]["message"]["content"] or ""}]
                found = prefixes.add(prompt_ids(tokenizer, prompt))
                tokens[number] += (*_told(completion.get("usage") or {}), found)
    places = [*((str(number), row, len(talks)) for number, row in enumerate(tokens, start=1))]
    places.append(("all", tokens.sum(axis=0), len(talks) * given.turns))
    rows = tuple((name, float(row[0] / num), float(row[1] / row[0]), float(row[2] / row[0])) for name, row, num in places)
    columns = ("turn", "tokens of a prompt", "in the engine's cache", "same beginning")
    return Table(f"{len(talks)} conversations with {model}, blocks of {given.block_tokens} tokens", columns, rows)


async def _ask(
    engine: Engine, model: str, messages: list[Json], turn: Turn, settings: Settings, answer_tokens: int
) -> tuple[list[Json], Json]:
    """Return the prompt of a turn and the engine's completion."""
    asked = AskedQuestion("", turn.question, turn.ranked, settings.reorder.kind)
    request = request_of(asked, answer_tokens, model)
    pipeline = pipeline_of(engine, turn.ranked, answer_tokens)
    prepared = await pipeline.prepare(replace(request, body={**request.body, "messages": messages}))
    return prepared.prompt.messages, await pipeline.complete(prepared)


def _told(usage: Json) -> tuple[int, int]:
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
    if cached is None:
        raise ConfigError("the engine does not tell what it had in its cache; vLLM does with --enable-prompt-tokens-details")
    return int(usage["prompt_tokens"]), int(cached)


def run(given: argparse.Namespace, command: str) -> None:
    """Print the tables and write them."""
    settings = load_settings()
    folder = given.tokenizer
    if folder is None:
        folder = settings.data_dir / "models" / MODEL_NAME
        convert(folder)
    tokenizer = load_tokenizer(folder)
    talks = conversations(given.conversations, num_turns=given.turns, num_passages=given.turn_passages)
    tables = [
        questions_table(tokenizer, settings, given),
        conversations_table(tokenizer, talks, settings, given.block_tokens),
    ]
    if not given.without_engine:
        tables.append(asyncio.run(engine_table(tokenizer, talks, settings, given)))
    print("\n\n".join(map(as_text, tables)))
    title = f"Prompts computed before: tokens of {folder.name}"
    shown = {name: value for name, value in vars(given).items() if name != "out"}
    path = write_report(
        given.out / "prefix", title=title, command=command, settings=shown, tables=tables, plots=[], notes=NOTES
    )
    print(f"written: {path}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", default="scifact,xquad-en", help="separated by commas (default: scifact,xquad-en)")
    parser.add_argument("--separator", default=" # #", help="put on both sides of a passage (default: ' # #')")
    parser.add_argument("--tokenizer", type=Path, help="a model folder, that of the engine's model (default: the packaged one)")
    numbers = {
        "--questions": (100, "questions of each data set"),
        "--passages": (10, "passages of a question"),
        "--conversations": (8, "conversations"),
        "--turns": (5, "turns of a conversation"),
        "--turn-passages": (3, "passages of a turn"),
        "--answer-tokens": (32, "longest answer of the engine, in tokens"),
        "--block-tokens": (16, "tokens in a block of the prefix cache"),
    }
    for name, (default, meaning) in numbers.items():
        parser.add_argument(name, type=at_least_one, default=default, help=f"{meaning} (default: {default})")
    parser.add_argument("--without-engine", action="store_true", help="leave out what an engine is asked for")
    parser.add_argument("--out", type=Path, default=Path("reports"), help="folder for the report (default: reports)")
    return run_command("bench_prefix", parser, run, arguments)


if __name__ == "__main__":
    sys.exit(main())
