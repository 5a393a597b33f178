"""The logits processor under both of vLLM's model runners, driven as vLLM drives it."""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from vllm.exceptions import VLLMValidationError
from vllm.sampling_params import SamplingParams
from vllm.v1.sample import logits_processor as v1
from vllm.v1.sample.logits_processor import BatchUpdate, MoveDirectionality
from vllm.v1.worker.gpu.sample import logits_processor as v2

from rerankers.permutation_constraint import PermutationConstraint, encode
from rerankers.vllm_logits import (
    ModelRunnerV1Processor,
    ModelRunnerV2Processor,
    PermutationLogitsProcessor,
    keep_only,
)

NAME = "rerankers.vllm_logits:PermutationLogitsProcessor"
# Every character is a token, its code the id.
VOCAB_SIZE = 128
EOS, OTHER_END = 3, 4
PLAIN_TOKEN = ord("!")
# A few fields of vLLM's own configuration, of the thousands that it has.
CONFIG = SimpleNamespace(
    speculative_config=None,
    model_config=SimpleNamespace(get_vocab_size=lambda: VOCAB_SIZE),
    scheduler_config=SimpleNamespace(max_num_seqs=8, max_num_batched_tokens=64, async_scheduling=False),
)


def paper_form(numbers: list[int], num_ranked: int) -> PermutationConstraint:
    """Return the constraint of outputs such as `[2] > [11]`."""
    first = tuple(tuple(f"[{number}]".encode()) for number in numbers)
    later = tuple(tuple(f" > [{number}]".encode()) for number in numbers)
    return PermutationConstraint(first, later, num_ranked)


def sampling_params(constraint: PermutationConstraint | None, **changed: object) -> SamplingParams:
    """Return what vLLM makes of a request and hands to its model runner."""
    extra_args = {"rag_permutation": encode(constraint)} if constraint is not None else {"other": 1}
    params = SamplingParams(temperature=0, extra_args=extra_args, **changed)
    params.update_from_generation_config({"eos_token_id": [EOS, OTHER_END]}, EOS)
    return params


@dataclass
class Request:
    """A request in a batch; a plain one has no constraint."""

    constraint: PermutationConstraint | None
    output: list[int] = field(default_factory=list)
    slot: int = -1
    num_known: int = 0

    @property
    def params(self) -> SamplingParams:
        return sampling_params(self.constraint)

    @property
    def ended(self) -> bool:
        return self.output[-1:] in ([EOS], [OTHER_END])

    def check(self) -> None:
        """Hold what was put out so far against what was asked for."""
        if self.constraint is None:
            assert set(self.output) <= {PLAIN_TOKEN}
            return
        text = bytes(token for token in self.output if token not in (EOS, OTHER_END)).decode()
        named = re.findall(r"\d+", text)
        assert self.ended
        assert re.fullmatch(r"\[\d+\]( > \[\d+\])*", text)
        assert len(named) == len(set(named)) == self.constraint.num_ranked


def random_logits(num_rows: int, rng: random.Random) -> torch.Tensor:
    """Return logits that without a mask always choose the plain token."""
    logits = torch.tensor([[rng.gauss(0, 3) for _ in range(VOCAB_SIZE)] for _ in range(num_rows)])
    logits[:, PLAIN_TOKEN] = 100
    return logits


def ranked(num_items: int, num_ranked: int) -> Request:
    return Request(paper_form([1, 11, 111, *range(20, 17 + num_items)], num_ranked))


class RunnerV1:
    """Requests in rows, told of as vLLM's first model runner tells of them."""

    def __init__(self, rng: random.Random) -> None:
        self.processor = ModelRunnerV1Processor(CONFIG, torch.device("cpu"), False)
        self.rows: list[Request] = []
        self.rng = rng

    def update(self, **changes: list[object]) -> None:
        """Tell the processor of changes that were made to the rows."""
        told = {"removed": [], "added": [], "moved": []} | changes
        self.processor.update_state(BatchUpdate(batch_size=len(self.rows), **told))

    def add(self, request: Request, row: int | None = None) -> None:
        """Put a request into a new row, or in the place of another one."""
        if row is None:
            self.rows.append(request)
        else:
            self.rows[row] = request
        at = len(self.rows) - 1 if row is None else row
        self.update(added=[(at, request.params, [1, 2], request.output)])

    def remove(self, row: int) -> None:
        """Take a request out and move the last one into its row."""
        last = len(self.rows) - 1
        self.rows[row] = self.rows[last]
        self.rows.pop()
        moved = [(last, row, MoveDirectionality.UNIDIRECTIONAL)] if row != last else []
        # A row that another request moves into counts as moved over, not as removed.
        self.update(removed=[last] if row == last else [], moved=moved)

    def swap(self, one: int, other: int) -> None:
        """Exchange two rows."""
        self.rows[one], self.rows[other] = self.rows[other], self.rows[one]
        self.update(moved=[(one, other, MoveDirectionality.SWAP)])

    def step(self) -> None:
        """Sample a token for each row."""
        self.processor.update_state(None)
        logits = self.processor.apply(random_logits(len(self.rows), self.rng))
        for request, token in zip(self.rows, logits.argmax(dim=1).tolist(), strict=True):
            if not request.ended:
                request.output.append(token)


@pytest.mark.parametrize("seed", range(5))
def test_runner_v1_follows_requests_through_the_batch(seed: int) -> None:
    """However requests come, go and change rows, each one gets its own constraint, and those without one none."""
    rng = random.Random(seed)
    runner = RunnerV1(rng)
    requests = [ranked(5, 5), Request(None), ranked(12, 4), Request(None), ranked(3, 1), ranked(20, 20)]
    for request in requests[:4]:
        runner.add(request)
    for step in range(300):
        runner.step()
        change = rng.randrange(6)
        if step == 20:
            runner.add(requests[4], row=runner.rows.index(requests[1]))
        elif step == 30:
            runner.add(requests[5])
        elif change == 0:
            runner.swap(*rng.sample(range(len(runner.rows)), 2))
        elif change == 1:
            # Preempted, and resumed with the tokens that it has.
            paused = rng.randrange(len(runner.rows))
            request = runner.rows[paused]
            runner.remove(paused)
            runner.step()
            runner.add(request)
    for request in requests:
        request.check()

    assert len(requests[3].output) > 200


def test_runner_v1_reads_placeholders_once_they_are_tokens() -> None:
    """Under asynchronous scheduling the last token is put in place only just before sampling."""
    processor = ModelRunnerV1Processor(CONFIG, torch.device("cpu"), False)
    params, output = sampling_params(paper_form([1, 2], 2)), [*b"[1"]
    processor.update_state(BatchUpdate(1, removed=[], added=[(0, params, [1], output)], moved=[]))
    output.append(-1)
    processor.update_state(None)
    output[-1] = ord("]")
    logits = processor.apply(torch.zeros(1, VOCAB_SIZE))

    assert logits.isfinite().nonzero().tolist() == [[0, ord(" ")]]


class RunnerV2:
    """Requests in slots, with their tokens in one tensor, as vLLM's second model runner keeps them."""

    PROMPT_LEN = 7

    def __init__(self, rng: random.Random, num_slots: int = 6) -> None:
        self.tokens = torch.full((num_slots, 1000), -5, dtype=torch.int32)
        self.prompt_len = np.zeros(num_slots, dtype=np.int32)
        states = v2.LogitsProcRequestState(
            device=torch.device("cpu"),
            max_num_reqs=num_slots,
            vocab_size=VOCAB_SIZE,
            all_token_ids=SimpleNamespace(gpu=self.tokens),
            prompt_len=SimpleNamespace(np=self.prompt_len),
            prefill_len=None,
            total_len=None,
        )
        self.processor = PermutationLogitsProcessor(CONFIG, states)
        self.running: list[Request] = []
        self.free = list(range(num_slots))
        self.rng = rng

    def add(self, request: Request) -> None:
        """Give a request a slot and fill in its tokens, with the output that it has; none of them is computed yet."""
        request.slot = self.free.pop(self.rng.randrange(len(self.free)))
        request.num_known = 0
        tokens = [*range(self.PROMPT_LEN), *request.output]
        self.prompt_len[request.slot] = self.PROMPT_LEN
        self.tokens[request.slot, : len(tokens)] = torch.tensor(tokens, dtype=torch.int32)
        masks = self.processor.add_request(request.slot, request.params)
        self.running.append(request)

        assert masks == (request.constraint is not None)

    def remove(self, request: Request) -> None:
        """Free a request's slot; the processor is not told."""
        self.running.remove(request)
        self.free.append(request.slot)

    def step(self) -> None:
        """Compute up to five tokens of each request in a new order of rows; sample where all of them are computed."""
        self.rng.shuffle(self.running)
        batch = self.running
        total = [self.PROMPT_LEN + len(request.output) for request in batch]
        computed = [min(request.num_known + 5, length) for request, length in zip(batch, total, strict=True)]
        slots = np.array([request.slot for request in batch], dtype=np.int32)
        context = v2.LogitsContext(
            expanded_idx_mapping=torch.from_numpy(slots),
            idx_mapping=torch.from_numpy(slots),
            idx_mapping_np=slots,
            expanded_local_pos=torch.zeros(len(batch), dtype=torch.int32),
            input_ids=torch.zeros(len(batch), dtype=torch.int32),
            pos=torch.tensor(computed) - 1,
            # vLLM pads it.
            seq_lens_upper_bound_np=np.array([*computed, 0, 0], dtype=np.int32),
        )
        logits = self.processor.apply(random_logits(len(batch), self.rng), context)
        for row, request in enumerate(batch):
            request.num_known = computed[row]
            if computed[row] == total[row] and not request.ended:
                request.output.append(int(logits[row].argmax()))
                self.tokens[request.slot, total[row]] = request.output[-1]


@pytest.mark.parametrize("seed", range(5))
def test_runner_v2_follows_requests_through_their_slots(seed: int) -> None:
    """However rows are ordered and slots used again, each request gets its own constraint, and those without one none."""
    rng = random.Random(seed)
    runner = RunnerV2(rng)
    requests = [ranked(5, 5), Request(None), ranked(12, 4), Request(None), ranked(3, 1), ranked(20, 20)]
    for request in requests[:4]:
        runner.add(request)
    for step in range(400):
        runner.step()
        if step == 20:
            runner.remove(requests[1])
            runner.add(requests[4])
        elif step == 30:
            runner.add(requests[5])
        elif step % 20 == 0:
            # Preempted, and resumed in another slot with the tokens that it has.
            request = rng.choice(runner.running)
            runner.remove(request)
            runner.step()
            runner.add(request)
    for request in requests:
        request.check()

    assert len(requests[3].output) > 200


def test_runner_v2_refuses_draft_tokens() -> None:
    """With speculative decoding vLLM does not start, and says why."""
    with pytest.raises(ValueError, match="without speculative decoding"):
        PermutationLogitsProcessor(SimpleNamespace(speculative_config=object()), None)


def test_mask_leaves_what_is_allowed_as_it_is() -> None:
    """Allowed logits keep their values, the others of the row become minus infinity, and rows that are not named stay."""
    logits = torch.arange(12.0).reshape(3, 4)
    masked = keep_only(logits.clone(), {2: [3, 0], 0: [1], 1: []})
    off = -torch.inf

    assert masked.tolist() == [[off, 1, off, off], [4, 5, 6, 7], [8, off, off, 11]]


def test_batch_without_constraints_is_handed_back() -> None:
    """Where no request has a constraint, the tensor is the same one with the same values."""
    processor = ModelRunnerV1Processor(CONFIG, torch.device("cpu"), False)
    processor.update_state(BatchUpdate(1, removed=[], added=[(0, sampling_params(None), [1], [])], moved=[]))
    logits = torch.ones(1, VOCAB_SIZE)

    assert processor.apply(logits) is logits
    assert logits.tolist() == torch.ones(1, VOCAB_SIZE).tolist()


@pytest.mark.parametrize(
    ("changed", "ends"),
    [
        ({}, [EOS, OTHER_END]),
        ({"stop_token_ids": [9]}, [EOS, OTHER_END, 9]),
        ({"ignore_eos": True, "stop_token_ids": [9]}, [9]),
    ],
)
def test_output_ends_by_the_tokens_that_stop_it(changed: dict[str, object], ends: list[int]) -> None:
    """After the last item the tokens that vLLM stops at are allowed: the model's own, unless ignored, and the request's."""
    processor = ModelRunnerV1Processor(CONFIG, torch.device("cpu"), False)
    params = sampling_params(paper_form([1], 1), **changed)
    processor.update_state(BatchUpdate(1, removed=[], added=[(0, params, [1], [*b"[1]"])], moved=[]))
    allowed = processor.apply(torch.zeros(1, VOCAB_SIZE)).isfinite().nonzero()[:, 1]

    assert allowed.tolist() == ends


def test_either_runner_gets_the_processor_that_it_asks_for() -> None:
    """vLLM's own loaders accept the one name and construct the class of their interface."""
    first = v1.build_logitsprocs(CONFIG, torch.device("cpu"), False, False, [NAME])
    states = SimpleNamespace(
        device=None,
        max_num_reqs=1,
        vocab_size=VOCAB_SIZE,
        all_token_ids=None,
        prompt_len=None,
        prefill_len=None,
        total_len=None,
    )
    second = v2.build_custom_logits_processors(CONFIG, states, False, [NAME])

    assert [type(each) for each in first.non_argmax_invariant][-1] is ModelRunnerV1Processor
    assert [type(each) for each in second] == [ModelRunnerV2Processor]


def validator(runner: str) -> Callable[[SamplingParams], None]:
    """Return what vLLM's front end checks requests with."""
    if runner == "v2":
        return v2.build_custom_logits_processors_params_validator([NAME])
    return partial(v1.validate_logits_processors_parameters, [NAME])


@pytest.mark.parametrize("runner", ["v1", "v2"])
def test_wrong_request_is_refused_before_it_reaches_the_engine(runner: str) -> None:
    """A malformed field, and what could rule out all that the constraint allows, is an error that vLLM answers with 400."""
    validate, constraint = validator(runner), paper_form([1, 2], 2)
    validate(sampling_params(constraint))
    validate(sampling_params(None, min_tokens=1))
    validate(SamplingParams())
    for value in ("{}", '{"first": [[1]], "later": [[1]], "num_ranked": 2}', 5, [1, 2]):
        with pytest.raises(VLLMValidationError, match="rag_permutation"):
            validate(SamplingParams(extra_args={"rag_permutation": value}))
    for name, asked in (("ignore_eos", True), ("min_tokens", 3), ("allowed_token_ids", [1]), ("bad_words", ["a"])):
        with pytest.raises(VLLMValidationError, match=f"cannot be combined with {name}"):
            validate(sampling_params(constraint, **{name: asked}))
