"""Makes an output of vLLM a permutation: masks the tokens that the request's constraint rules out, in either model runner."""

from dataclasses import dataclass
from typing import Any

import torch
from vllm.config import VllmConfig
from vllm.sampling_params import SamplingParams
from vllm.v1.sample import logits_processor as v1
from vllm.v1.sample.logits_processor.builtin import process_dict_updates
from vllm.v1.worker.gpu.sample import logits_processor as v2

from rerankers.permutation_constraint import REQUEST_FIELD, PermutationConstraint, PermutationState, decode

# Each of them may rule out what the constraint leaves open.
CONFLICTING = ("ignore_eos", "min_tokens", "allowed_token_ids", "bad_words", "structured_outputs")


@dataclass(slots=True)
class _Output:
    state: PermutationState
    tokens: list[int]

    def allowed(self) -> list[int]:
        return self.state.allowed(self.tokens)


class ModelRunnerV1Processor(v1.LogitsProcessor):
    """Masks by row of the batch, which vLLM's first model runner knows a request by."""

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        self._vocab_size = vllm_config.model_config.get_vocab_size()
        self._outputs: dict[int, _Output] = {}

    def is_argmax_invariant(self) -> bool:
        """Return False: the mask also holds for greedy decoding."""
        return False

    def update_state(self, batch_update: v1.BatchUpdate | None) -> None:
        """Follow the requests that came, went or changed their row."""

        def begin(params: SamplingParams, _prompt: list[int] | None, output: list[int]) -> _Output | None:
            return _begin(params, output, self._vocab_size)

        process_dict_updates(self._outputs, batch_update, begin)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Mask `logits`, one row per request, in place."""
        return keep_only(logits, {row: output.allowed() for row, output in self._outputs.items()})


class ModelRunnerV2Processor(v2.LogitsProcessor):
    """Masks by slot, which vLLM's second model runner knows a request by; it keeps the tokens of an output on the device."""

    def __init__(self, vllm_config: VllmConfig, req_states: v2.LogitsProcRequestState) -> None:
        if vllm_config.speculative_config is not None:
            raise ValueError("PermutationLogitsProcessor cannot follow draft tokens: start vLLM without speculative decoding")
        self._req_states = req_states
        self._outputs: dict[int, _Output] = {}

    def add_request(self, req_idx: int, sampling_params: SamplingParams) -> bool:
        """Take note of the request in a slot; return whether its logits are masked."""
        self._outputs.pop(req_idx, None)
        output = _begin(sampling_params, [], self._req_states.vocab_size)
        if output is not None:
            self._outputs[req_idx] = output
        return output is not None

    def apply(self, logits: torch.Tensor, ctx: v2.LogitsContext) -> torch.Tensor:
        """Mask `logits`, one row per request, in place."""
        slots = {row: slot for row, slot in enumerate(ctx.idx_mapping_np.tolist()) if slot in self._outputs}
        self._read_tokens({slot: int(ctx.seq_lens_upper_bound_np[row]) for row, slot in slots.items()})
        return keep_only(logits, {row: self._outputs[slot].allowed() for row, slot in slots.items()})

    def _read_tokens(self, total_lens: dict[int, int]) -> None:
        """Copy the tokens sampled since the last step from the device, all at once: it has to be waited for."""
        unread = [
            (slot, position)
            for slot, total_len in total_lens.items()
            for position in range(int(self._req_states.prompt_len.np[slot]) + len(self._outputs[slot].tokens), total_len)
        ]
        if not unread:
            return
        places = torch.tensor(unread, device=self._req_states.device).T
        tokens = self._req_states.all_token_ids.gpu[places[0], places[1]].tolist()
        for (slot, _), token in zip(unread, tokens, strict=True):
            self._outputs[slot].tokens.append(token)


@v1.LogitsProcessor.register
@v2.LogitsProcessor.register
class PermutationLogitsProcessor:
    """What vLLM is told to load; constructing it gives the processor of the model runner that vLLM has chosen.

    It counts as a subclass of both interfaces: vLLM asks for the one it needs, and which that is, only vLLM knows.
    """

    def __new__(  # type: ignore[misc] # meant: what is constructed is of another class
        cls, vllm_config: VllmConfig, *place: Any
    ) -> ModelRunnerV1Processor | ModelRunnerV2Processor:
        """Construct as vLLM's `v1.LogitsProcessor` is, with a device and a flag, or as `v2.LogitsProcessor`, with its state."""
        return ModelRunnerV1Processor(vllm_config, *place) if len(place) == 2 else ModelRunnerV2Processor(vllm_config, *place)

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Refuse, in vLLM's front end, what must not reach its engine.

        Raises:
            ValueError: The constraint is malformed, or the request also asks for what may rule out its outputs.
        """
        if _constraint(sampling_params) is None:
            return
        conflicts = [name for name in CONFLICTING if getattr(sampling_params, name)]
        if conflicts:
            raise ValueError(f"{REQUEST_FIELD} cannot be combined with {', '.join(conflicts)}: leave one of them out")


def _constraint(params: SamplingParams) -> PermutationConstraint | None:
    fields = params.extra_args or {}
    return decode(fields[REQUEST_FIELD]) if REQUEST_FIELD in fields else None


def _begin(params: SamplingParams, output_tokens: list[int], vocab_size: int) -> _Output | None:
    constraint = _constraint(params)
    if constraint is None:
        return None
    end_tokens = {*(params.stop_token_ids or ()), params.eos_token_id} - {None}
    return _Output(PermutationState(constraint, frozenset(end_tokens), vocab_size), output_tokens)


def keep_only(logits: torch.Tensor, allowed: dict[int, list[int]]) -> torch.Tensor:
    """Set, in each row that `allowed` names, all but the columns it lists to minus infinity; an empty list leaves a row alone.

    Args:
        logits: [rows, vocabulary], changed in place and returned.
        allowed: Columns by row, each once.
    """
    masked = [row for row, tokens in allowed.items() if tokens]
    if masked:
        places = [(row, token) for row in masked for token in allowed[row]]
        rows, columns = torch.tensor(places, device=logits.device).T
        kept = logits[rows, columns]
        logits[masked] = -torch.inf
        logits[rows, columns] = kept
    return logits
