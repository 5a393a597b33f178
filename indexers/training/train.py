r"""Trains a language model as an embedder: contrastive alone, or GRL, in which its own generation teaches it what fits a query.

python -m indexers.training.train --base FOLDER --data pairs.jsonl --out FOLDER \
    --pooling mean --attention bidirectional --weights contrastive=1,generation=0.5,kl=1

Each line of the data is {"query": ..., "positives": [...], "negatives": [...]}; more negatives can be mined. A run that was
interrupted goes on where its last checkpoint is when the same command is given again. The embedder is in FOLDER/model, what
made it in FOLDER/training.json; name FOLDER/model in RAG_EMBEDDER__MODEL to use it. A batch is never held in memory whole:
--mini-batch-size decides the memory, --batch-size the result. Runs on one device.
"""

import argparse
import hashlib
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import structlog

from indexers.llm_embedder import LlmEmbedder
from indexers.llm_embedder_folder import Attention, EmbedderOptions, Pooling
from indexers.sentence_embedder import SentenceEmbedder
from indexers.training.batches import Collator
from indexers.training.data import Example, check_not_measured, read_examples, read_passages
from indexers.training.grl import Grl, GrlOptions, Weight
from indexers.training.losses import Preference
from indexers.training.negatives import MiningOptions, mine_negatives
from rag_server.errors import ConfigError, RagServerError
from rag_server.learning.arguments import adapter_options, add_training_arguments, training_options
from rag_server.learning.loop import last_checkpoint, run_training
from rag_server.learning.models import load_model, load_tokenizer, with_adapter
from rag_server.learning.options import AdapterOptions, TrainingOptions
from rag_server.learning.record import file_hash, write_record

log = structlog.get_logger()

PACKAGED = "packaged"
NEVER = Weight(0, 0)


@dataclass(frozen=True, slots=True)
class Sources:
    """What is trained, and on what. `evaluation` holds queries that are measured with, which must not be trained on.

    Negatives are mined from all passages of `data` and `corpus` with the embedder `miner`, not at all where it is None. The
    mined are kept in the folder `mined`, for runs that go on: the last bits of a vector are others with other threads, and then
    the passages that are nearly as near are too.
    """

    base: Path
    data: Path
    evaluation: Path | None = None
    corpus: Path | None = None
    miner: str | None = None
    mining: MiningOptions = field(default_factory=MiningOptions)
    mined: Path | None = None


@dataclass(frozen=True, slots=True)
class Method:
    """How it is trained. An adapter of rank 0 is none: all weights are trained, in single precision."""

    embedder: EmbedderOptions
    grl: GrlOptions
    adapter: AdapterOptions
    num_negatives: int = 7
    mini_batch_size: int = 8
    keep_adapter: bool = False


def train(sources: Sources, method: Method, options: TrainingOptions) -> Path:
    """Train and return the folder of the embedder.

    Raises:
        RagServerError: The data, the model or the run is not fit for it; see the errors of `run_training`.
    """
    _check(options)
    examples = _examples(sources)
    tokenizer = load_tokenizer(sources.base)
    embedder = LlmEmbedder(_model(sources.base, method.adapter, options), tokenizer, method.embedder)
    checkpoint = last_checkpoint(options.out)
    first_step = 0 if checkpoint is None else int(checkpoint.name.rpartition("-")[2])
    num_generated = method.grl.num_generated(method.num_negatives)
    decisive = {"base": str(sources.base), "data": file_hash(sources.data), "examples": _hash(examples), **asdict(method)}
    ran = run_training(
        embedder.model,
        examples,
        loss=Grl(embedder, method.grl, first_step=first_step),
        collate=Collator(embedder, method.num_negatives, num_generated, method.mini_batch_size, options.seed),
        options=options,
        what=str(decisive),
    )
    folder = options.out / "model"
    embedder.save(folder, keep_adapter=method.keep_adapter)
    facts = {**decisive, "num_examples": len(examples), "tokens_per_s": ran.tokens_per_s, "log": ran.log}
    write_record(options.out, facts, options)
    return folder


def _model(base: Path, adapter: AdapterOptions, options: TrainingOptions) -> Any:
    if adapter.rank == 0:
        return load_model(base, "float32")
    return with_adapter(load_model(base, options.precision), adapter, seed=options.seed)


def _check(options: TrainingOptions) -> None:
    if options.accumulation != 1:
        raise ConfigError("a batch of any size fits in memory here: give a larger --batch-size, and --accumulation 1")
    if options.deepspeed is not None or options.fsdp is not None:
        raise ConfigError("the embedder is trained on one device: leave out --deepspeed and --fsdp")


def _examples(sources: Sources) -> list[Example]:
    examples = read_examples(sources.data)
    if sources.evaluation is not None:
        check_not_measured(examples, sources.evaluation)
    if sources.miner is None:
        return examples
    facts = (file_hash(sources.data), sources.corpus and file_hash(sources.corpus), sources.miner, sources.mining)
    name = f"mined-{hashlib.sha256(str(facts).encode()).hexdigest()[:16]}.jsonl"
    kept = None if sources.mined is None else sources.mined / name
    if kept is not None and kept.is_file():
        return read_examples(kept)
    corpus = [] if sources.corpus is None else read_passages(sources.corpus)
    miner = SentenceEmbedder(None if sources.miner == PACKAGED else sources.miner)
    mined = mine_negatives(examples, corpus, miner, sources.mining)
    log.info("mined negatives", examples=len(mined), miner=miner.model_id)
    if kept is not None:
        _write(kept, mined)
    return mined


def _write(path: Path, examples: Sequence[Example]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text("".join(f"{example.model_dump_json()}\n" for example in examples), encoding="utf-8")
    unfinished.replace(path)


def _hash(examples: Sequence[Example]) -> str:
    return hashlib.sha256("\n".join(example.model_dump_json() for example in examples).encode()).hexdigest()


def weights(text: str) -> dict[str, Weight]:
    """Return the weights of `contrastive=1,generation=0.5,kl=0:1`; those that are not named are 0."""
    found = {"contrastive": NEVER, "generation": NEVER, "kl": NEVER}
    for part in text.split(","):
        name, _, value = part.partition("=")
        first, _, last = value.partition(":")
        if name not in found:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(found)}")
        try:
            found[name] = Weight(float(first), float(last or first))
        except ValueError:
            raise argparse.ArgumentTypeError(f"{value!r} is neither a number nor two with a colon between") from None
        if not (found[name].first >= 0 and found[name].last >= 0):
            raise argparse.ArgumentTypeError(f"{name} must not be below 0")
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; the status is 1 where there is no embedder in the end."""
    given = _parser().parse_args(arguments)
    mining = MiningOptions(given.mined, given.skip_ranks)
    sources = Sources(given.base, given.data, given.evaluation, given.corpus, given.mine, mining, given.out)
    try:
        options = training_options(given)
        if given.baseline:
            contrastive = replace(_method(given), grl=replace(_method(given).grl, generation=NEVER, kl=NEVER))
            print(train(sources, contrastive, replace(options, out=options.out / "contrastive")))
        print(train(sources, _method(given), options))
    except RagServerError as error:
        sys.exit(f"{error.code}: {error}")


def _method(given: argparse.Namespace) -> Method:
    embedder = EmbedderOptions(given.pooling, given.attention, given.query_prompt, given.passage_prompt, given.max_tokens)
    grl = GrlOptions(
        given.steps,
        **given.weights,
        preference=given.generation,
        beta=given.beta,
        temperature=given.temperature,
        kl_temperature=given.kl_temperature,
    )
    return Method(embedder, grl, adapter_options(given), given.negatives, given.mini_batch_size, given.keep_adapter)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    embedder, grl, mining = EmbedderOptions(), GrlOptions(0), MiningOptions()
    parser.add_argument("--base", type=Path, required=True, help="model folder")
    parser.add_argument("--data", type=Path, required=True, help="queries with their passages, JSON Lines")
    parser.add_argument("--evaluation", type=Path, help="JSON Lines whose `query` is measured with, and so not trained on")
    parser.add_argument("--mine", metavar="FOLDER", help=f"embedder that finds more negatives, or {PACKAGED!r}")
    parser.add_argument("--corpus", type=Path, help="JSON Lines with `text`: more passages to mine from")
    parser.add_argument("--mined", type=int, default=mining.num_negatives, help="negatives to mine for each query")
    parser.add_argument("--skip-ranks", type=int, default=mining.skip_ranks, help="mine after so many, which are often right")
    parser.add_argument("--pooling", choices=get_args(Pooling), default=embedder.pooling)
    parser.add_argument("--attention", choices=get_args(Attention), default=embedder.attention)
    parser.add_argument("--query-prompt", default=embedder.query_prompt)
    parser.add_argument("--passage-prompt", default=embedder.passage_prompt)
    parser.add_argument("--max-tokens", type=int, default=embedder.max_tokens, help="of a text; the rest is not read")
    parser.add_argument(
        "--weights",
        type=weights,
        default="contrastive=1,generation=0.5,kl=1",
        help="of the losses; 0:1 goes from 0 at the first step to 1 at the last; %(default)s if left out",
    )
    parser.add_argument("--generation", choices=get_args(Preference), default=grl.preference, help="the generation loss")
    parser.add_argument("--beta", type=float, default=grl.beta, help="how strongly generation is held to the base model")
    parser.add_argument("--temperature", type=float, default=grl.temperature, help="of the contrastive loss")
    parser.add_argument("--kl-temperature", type=float, default=grl.kl_temperature)
    parser.add_argument("--negatives", type=int, default=7, help="hard negatives of each query in a batch")
    parser.add_argument("--mini-batch-size", type=int, default=8, help="texts in memory at a time")
    parser.add_argument("--keep-adapter", action="store_true", help="save the adapter apart, not merged into the weights")
    parser.add_argument("--baseline", action="store_true", help="train contrastively alone as well, into FOLDER/contrastive")
    add_training_arguments(parser)
    parser.set_defaults(batch_size=64, accumulation=1)
    return parser


if __name__ == "__main__":
    main()
