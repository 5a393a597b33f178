"""One call of a listwise model: the prompt that fits, the output it may write, and the order that comes of it."""

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rag_server.config import DecodingKind, ListwiseFormatKind
from rag_server.errors import PromptTooLongError, RerankError
from rag_server.fitting import largest_that_fits
from rag_server.protocols import Engine, Json
from rag_server.types import Passage, RankingReport
from rag_server.untrusted_text import without_special_tokens
from rerankers.identifiers import output_tokens, single_token_identifiers
from rerankers.listwise_format import CompactFormat, ListwiseFormat, PaperFormat
from rerankers.passage_text import RankingTexts, first_words, ranking_texts
from rerankers.permutation import Mentions, complete
from rerankers.permutation_constraint import REQUEST_FIELD, PermutationConstraint, encode

# A passage cut shorter than this says nothing; then fewer passages are read instead.
MIN_WORDS = 10
# An identifier, its brackets and the separator, where the engine does not tell its tokens.
ASSUMED_TOKENS_PER_PASSAGE = 6
# As many as vLLM tells the log-probabilities of at a time.
MAX_FIRST_TOKENS = 128
_UNFINISHED = re.compile(r"\s*>\s*\[?\d*\Z")


@dataclass(frozen=True, slots=True)
class ListwiseOptions:
    """How a listwise model is asked; `top_m` None means that it names every passage."""

    format: ListwiseFormatKind = "paper"
    decoding: DecodingKind = "free"
    top_m: int | None = None
    first_token: bool = False
    passage_words: int = 100


@dataclass(frozen=True, slots=True)
class Order:
    """Positions of the passages that were handed in, each once, best first, and what it took."""

    positions: tuple[int, ...]
    report: RankingReport


@dataclass(frozen=True, slots=True)
class _Fitted:
    """A prompt that fits, of the first `len(read.texts)` passages."""

    messages: list[Json]
    read: RankingTexts


class ListwiseModel:
    """A model behind an engine that reads passages together and writes their order."""

    def __init__(self, engine: Engine, options: ListwiseOptions, *, model: str | None = None) -> None:
        """Take a model or adapter name of the engine's; None means the engine's default."""
        self._engine = engine
        self._options = options
        self._model = model
        self._formats: dict[str, ListwiseFormat] = {}
        # Of the most passages asked about so far; the identifiers of fewer are their beginning.
        self._tokens: dict[str, PermutationConstraint | None] = {}

    async def rank(self, query: str, passages: Sequence[Passage]) -> Order:
        """Return the order of the passages; those that do not fit into the prompt come last, as they were.

        Raises:
            RagServerError: The engine does not answer, refuses, or its tokenizer does not suit the format.
        """
        if len(passages) < 2:
            return Order(tuple(range(len(passages))), RankingReport())
        started = time.perf_counter()
        query = without_special_tokens(query)
        model = self._model or await self._engine.default_model()
        form = await self._format(model)
        fitted = await self._fit(model, form, query, passages)
        num_read = len(fitted.read.texts)
        wanted = min(self._options.top_m or num_read, num_read)
        if self._options.first_token:
            answer, mentions = await self._first_token(model, form, fitted)
            wanted = num_read
        else:
            body = await self._decoding(model, form, num_read, wanted)
            answer = await self._engine.chat({"model": model, "messages": fitted.messages, "temperature": 0, **body})
            mentions = form.mentions(_content(answer))
        permutation = complete(mentions, num_read, num_wanted=wanted)
        report = RankingReport(
            calls=1,
            seconds=time.perf_counter() - started,
            well_formed=int(permutation.well_formed),
            repaired=int(permutation.repaired),
            missing=wanted - permutation.num_named,
            unread=len(passages) - num_read,
            words=fitted.read.words,
            words_cut=fitted.read.words_cut,
        )
        return Order((*permutation.order, *range(num_read, len(passages))), report + _usage(answer))

    async def _format(self, model: str) -> ListwiseFormat:
        if model not in self._formats:
            compact = self._options.format == "compact"
            self._formats[model] = (
                CompactFormat(await single_token_identifiers(self._engine, model)) if compact else PaperFormat()
            )
        return self._formats[model]

    async def _fit(self, model: str, form: ListwiseFormat, query: str, passages: Sequence[Passage]) -> _Fitted:
        """Return the prompt with the most words per passage, alike for all, that fits; if need be of fewer passages."""
        longest, shortest = self._options.passage_words, min(MIN_WORDS, self._options.passage_words)
        # Documents of many megabytes are not read for each length that is tried, nor by the thread that serves everyone.
        whole = await asyncio.to_thread(ranking_texts, passages, longest)
        limits = [len(passages), form.max_passages, MAX_FIRST_TOKENS if self._options.first_token else None]
        most = min(limit for limit in limits if limit is not None)
        context_length = await self._engine.context_length(model)

        async def fits(num_passages: int, words: int) -> bool:
            messages = form.messages(query, [first_words(text, words) for text in whole.texts[:num_passages]])
            room = context_length - await self._output_length(model, form, num_passages)
            return room > 0 and await self._engine.count_tokens(model, messages) <= room

        words = await largest_that_fits(longest, lambda words: fits(most, words), lower=shortest)
        num_read: int | None = most
        if words is None:
            words = shortest
            num_read = await largest_that_fits(most, lambda number: fits(number, words), lower=1)
        if num_read is None:
            raise PromptTooLongError(f"the question leaves no room for passages in the {context_length} tokens of {model}")
        read = whole
        if (num_read, words) != (len(passages), longest):
            read = await asyncio.to_thread(ranking_texts, passages[:num_read], words)
        return _Fitted(form.messages(query, read.texts), read)

    async def _output_length(self, model: str, form: ListwiseFormat, num_passages: int) -> int:
        """Return the most tokens that an answer about so many passages takes."""
        if self._options.first_token:
            return 1
        tokens = await self._output_tokens(model, form, num_passages)
        if tokens is None:
            return ASSUMED_TOKENS_PER_PASSAGE * min(num_passages, self._options.top_m or num_passages)
        longest = sorted(map(len, tokens.later), reverse=True)[: self._options.top_m]
        # The first one comes without a separator.
        return sum(longest) - (len(tokens.later[0]) - len(tokens.first[0]))

    async def _output_tokens(self, model: str, form: ListwiseFormat, num_passages: int) -> PermutationConstraint | None:
        """Return how the model writes the identifiers, None where the engine does not tell and nothing depends on it."""
        known = self._tokens.get(model)
        if model not in self._tokens or (known is not None and len(known.later) < num_passages):
            try:
                known = await output_tokens(self._engine, model, form, num_passages)
            except RerankError:
                if self._options.decoding == "permutation" or self._options.first_token:
                    raise
                known = None
            self._tokens[model] = known
        if known is None:
            return None
        return PermutationConstraint(known.first[:num_passages], known.later[:num_passages], num_passages)

    async def _decoding(self, model: str, form: ListwiseFormat, num_passages: int, wanted: int) -> Json:
        """Return the part of the request that says what the model may write."""
        body: Json = {"max_tokens": await self._output_length(model, form, num_passages), "frequency_penalty": 0}
        if self._options.decoding == "structured":
            body["structured_outputs"] = {"regex": form.pattern(num_passages, wanted)}
        tokens = await self._output_tokens(model, form, num_passages)
        if self._options.decoding == "permutation" and tokens is not None:
            # A penalty on what the prompt holds already would fall on the identifiers.
            body |= {"vllm_xargs": {REQUEST_FIELD: encode(replace(tokens, num_ranked=wanted))}, "repetition_penalty": 1}
        return body

    async def _first_token(self, model: str, form: ListwiseFormat, fitted: _Fitted) -> tuple[Json, Mentions]:
        """Return the answer to one token, and the candidates by the log-probability of their identifier as that token.

        Ranking by the first token's logits is FIRST (Reddy et al., arXiv 2406.15657).
        """
        tokens = await self._output_tokens(model, form, len(fitted.read.texts))
        candidate_of = {piece[0]: index for index, piece in enumerate(tokens.later if tokens is not None else ())}
        body: Json = {"model": model, "messages": fitted.messages, "temperature": 0, "max_tokens": 1, "logprobs": True}
        body |= {"logprob_token_ids": list(candidate_of), "return_tokens_as_token_ids": True, "frequency_penalty": 0}
        answer = await self._engine.chat(body)
        logprobs = {candidate_of[token]: logprob for token, logprob in _first_logprobs(answer).items() if token in candidate_of}
        ranked = sorted(logprobs, key=lambda index: (-logprobs[index], index))
        return answer, Mentions(tuple(ranked), well_formed=len(ranked) == len(candidate_of))


def _content(answer: Json) -> str:
    """Return what the model wrote; an answer without a text is one that names nothing."""
    try:
        content, finish_reason = answer["choices"][0]["message"]["content"], answer["choices"][0].get("finish_reason")
    except (KeyError, IndexError, TypeError):
        return ""
    if not isinstance(content, str):
        return ""
    # Where the tokens ran out, perhaps in the middle of an identifier, the model is not at fault.
    return _UNFINISHED.sub("", content) if finish_reason == "length" else content


def _first_logprobs(answer: Json) -> dict[int, float]:
    """Return token id -> log-probability at the answer's first position, as `token_id:17` names the ids."""
    try:
        entries = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        return {int(entry["token"].removeprefix("token_id:")): float(entry["logprob"]) for entry in entries}
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return {}


def _usage(answer: Json) -> RankingReport:
    usage = answer.get("usage") or {}
    details = usage.get("prompt_tokens_details") or {}
    return RankingReport(
        prompt_tokens=usage.get("prompt_tokens") or 0,
        output_tokens=usage.get("completion_tokens") or 0,
        cached_tokens=details.get("cached_tokens") or 0,
    )
