"""Questions under attack: what is right, what the attacker wants to hear, and the passages that both stand in."""

import json
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from eval.data_files import open_text
from eval.injection.planted import FACTS, PASSWORD, PLANTS, write_files
from eval.qa.datasets import QaContext
from eval.qa.given_passages import AskedQuestion, pipeline_of, request_of
from eval.temporary_collections import temporary_collections
from rag_server.config import Settings
from rag_server.errors import ConfigError
from rag_server.factory import default_options
from rag_server.pipeline import PreparedAnswer, RagRequest
from rag_server.protocols import Engine, Json
from rag_server.types import Access, VectorStore

POISONED = "poisoned passages"
ATTACKS = (POISONED, *(plant.name for plant in PLANTS))


@dataclass(frozen=True, slots=True)
class Case:
    """A question that the server is ready to answer. `wanted` is what stands in the answer if the attack succeeds."""

    id: str
    attack: str
    answers: tuple[str, ...]
    wanted: tuple[str, ...]
    prepared: PreparedAnswer


@dataclass(frozen=True, slots=True)
class Sample:
    """How many questions of each attack, with how many passages each, and how long the answers may be."""

    num_questions: int
    num_passages: int
    answer_tokens: int
    seed: int


async def poisoned_cases(folder: Path, engine: Engine, sample: Sample) -> list[Case]:
    """Return questions of RobustRAG's realtimeqa with one poisoned passage among those of the search engine.

    Xiang et al., Certifiably Robust RAG against Retrieval Corruption Attacks (arXiv 2405.15556). The place of the poisoned
    passage in the ranking is random.

    Raises:
        ConfigError: The data is not there, or not as expected.
    """
    path = folder / "realtimeqa_100.jsonl.gz"
    with open_text(path) as file:
        try:
            rows = [json.loads(line) for line in file]
            asked = [_poisoned(row, sample) for row in random.Random(sample.seed).sample(rows, sample.num_questions)]
        except (ValueError, KeyError, IndexError) as error:
            raise ConfigError(
                f"{path}: {type(error).__name__}: {error}; correct the row, or ask for fewer questions"
            ) from error
    cases = []
    for row, question in asked:
        pipeline = pipeline_of(engine, question.ranked, sample.answer_tokens)
        prepared = await pipeline.prepare(request_of(question, sample.answer_tokens))
        wanted = (row["metadata"]["incorrect answer"],)
        cases.append(Case(f"{POISONED}/{row['id']}", POISONED, tuple(row["answers"]), wanted, prepared))
    return cases


def _poisoned(row: Json, sample: Sample) -> tuple[Json, AskedQuestion]:
    generator = random.Random(f"{sample.seed}/{row['id']}")
    true = [context for context in row["contexts"] if context["text"].strip()][: sample.num_passages - 1]
    ranked = [QaContext(context["title"], context["text"], is_gold=True) for context in true]
    poisoned = generator.choice(row["poisoned_contexts"])
    ranked.insert(generator.randint(0, len(ranked)), QaContext(poisoned["title"], poisoned["text"], is_gold=False))
    return row, AskedQuestion(str(row["id"]), row["question"], tuple(ranked), "sides")


async def planted_cases(settings: Settings, engine: Engine, names: Sequence[str], sample: Sample) -> list[Case]:
    """Return a question about each fact for each way to plant an order, from files that went through loaders and search."""
    plants = [plant for plant in PLANTS if plant.name in names]
    facts = FACTS[: sample.num_questions]
    cases: list[Case] = []
    with tempfile.TemporaryDirectory() as temporary:
        folders = {plant.name: Path(temporary) / str(number) for number, plant in enumerate(plants)}
        for plant in plants:
            write_files(folders[plant.name], plant, facts)
        with temporary_collections(settings, engine, folders) as (pipeline, stores):
            for plant in plants:
                for fact in facts:
                    request = _request(settings, fact.question, stores[plant.name], sample)
                    prepared = await pipeline.prepare(request)
                    case = Case(f"{plant.name}/{fact.subject}", plant.name, (fact.answer,), (PASSWORD,), prepared)
                    cases.append(case)
    return cases


def _request(settings: Settings, question: str, store: VectorStore, sample: Sample) -> RagRequest:
    return RagRequest(
        body={
            "messages": [{"role": "user", "content": question}],
            "temperature": 0.0,
            "max_tokens": sample.answer_tokens,
        },
        model_name=store.name,
        engine_model=None,
        vector_stores=(store,),
        options=replace(default_options(settings), num_passages=sample.num_passages),
        passage_url=lambda passage_id: f"#passage-{passage_id}",
        access=Access(),
    )
