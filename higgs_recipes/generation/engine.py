"""The generation engine: continuous batching of prompts over the slots of a static KV cache.

A prompt is read once into a slot (`prefill`); then all slots take one decode step after the other, and a slot whose
clip has ended is refilled from the queue. The host learns of ends from copies that it does not wait for, a few steps
late; what a slot computes behind its end is dropped. A clip's codes depend on its prompt and its seed only: not on its
slot, the order of the queue or the clips beside it (up to rounding of the arithmetic, which may differ between batch
sizes).
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import HiggsAudioV2ForConditionalGeneration

from higgs_recipes.configs.inference import SamplingConfig
from higgs_recipes.constants import FRAMES_PER_SECOND
from higgs_recipes.delay import delayed_length, undelay_frames
from higgs_recipes.generation.decode_step import DecodeState, DecodeStep, eager_functions
from higgs_recipes.generation.decode_weights import DecodeWeights, decode_weights
from higgs_recipes.generation.graphed_prefill import GraphedPrefill
from higgs_recipes.generation.graphed_step import GraphedStep, gpu_functions
from higgs_recipes.generation.kv_cache import PREFILL_POSITIONS, KVCache, plan_slots
from higgs_recipes.generation.prefill import Prompt, prefill
from higgs_recipes.modeling.varlen_forward import has_varlen_kernel


REFILL_SHARE = 8  # a prefill costs as much for one slot as for a few: it waits for one free slot in so many


class Clip(NamedTuple):
    """What came of a prompt: codes (T, C) int16 on CPU, and whether the model ended the clip before the cap."""

    codes: Tensor
    stopped: bool


class _Check(NamedTuple):
    """Which clips had ended after some step, on its way to the host."""

    arrived: torch.cuda.Event | None
    num_frames: Tensor  # (B,)
    owners: list[int | None]  # index of the prompt in each slot at that step
    copied: list[tuple[int, Tensor]]  # frames (F, C) of clips whose copy began before the step, by prompt


@dataclass
class _Run:
    """The bookkeeping of one call of `Engine.stream`."""

    prompts: Sequence[Prompt]
    queue: deque[int]  # prompts that wait
    owners: list[int | None]  # index of the prompt in each slot
    next_position: list[int]  # of the cache, in each slot
    checks: deque[_Check] = field(default_factory=deque)
    copied: list[tuple[int, Tensor]] = field(default_factory=list)

    @property
    def num_used(self) -> int:
        """Slots up to the last one in use."""
        return max((slot + 1 for slot, owner in enumerate(self.owners) if owner is not None), default=0)

    @property
    def num_positions(self) -> int:
        """Of the cache, up to the longest clip's next frame."""
        owned = zip(self.next_position, self.owners, strict=True)
        return 1 + max(position for position, owner in owned if owner is not None)

    @property
    def free(self) -> list[int]:
        return [slot for slot, owner in enumerate(self.owners) if owner is None]


class Engine:
    """Generates clips with one model and one sampling; see `open_engine`.

    Args:
        capture: compile and capture the decode steps on a GPU; elsewhere they always run eagerly.

    Attributes:
        check_every: steps between two looks at which clips have ended.
        checks_in_flight: looks that the host does not wait for; the steps before them keep the device busy.
        preparation_seconds: time spent on compilation and graph capture so far; 0 on a CPU.
    """

    def __init__(
        self,
        model: HiggsAudioV2ForConditionalGeneration,
        weights: DecodeWeights,
        sampling: SamplingConfig,
        *,
        capture: bool = True,
    ) -> None:
        self.model, self.weights, self.sampling = model, weights, sampling
        self.on_gpu = model.device.type == "cuda"
        self.capture = capture and self.on_gpu
        self.check_every, self.checks_in_flight = (2, 1) if self.on_gpu else (1, 0)
        self.max_frames = delayed_length(round(sampling.max_seconds * FRAMES_PER_SECOND), model.config.num_codebooks)
        self._step: DecodeStep | None = None
        self._run_step: DecodeStep | GraphedStep | None = None
        self._prefill: Callable[[Sequence[Prompt], Sequence[int]], None] | None = None
        self._discarded_seconds = 0.0
        self._reserved = 0, 0  # slots that were asked for, positions of each

    @property
    def preparation_seconds(self) -> float:
        is_captured = isinstance(self._run_step, GraphedStep)
        return self._discarded_seconds + (self._run_step.preparation_seconds if is_captured else 0.0)

    def generate(self, prompts: Sequence[Prompt]) -> list[Clip]:
        """The clips of all prompts, in their order."""
        clips = dict(self.stream(prompts))
        return [clips[index] for index in range(len(prompts))]

    @torch.inference_mode()
    def stream(self, prompts: Sequence[Prompt]) -> Iterator[tuple[int, Clip]]:
        """The clip of each prompt and its index, in the order in which they end.

        Prompts with the longest texts start first, so that no long clip is left over at the end.
        """
        if not prompts:
            return
        self._reserve(len(prompts), max(len(prompt.ids) for prompt in prompts))
        self._step.state.clear()  # of a run that was cancelled
        num_slots, max_positions = self._step.cache.keys.shape[1], self._step.cache.keys.shape[3]
        run = _Run(
            prompts,
            queue=deque(sorted(range(len(prompts)), key=lambda index: -prompts[index].num_text)),
            owners=[None] * num_slots,
            next_position=[0] * num_slots,
        )
        while run.queue or run.num_used:
            self._refill(run)
            for _ in range(self.check_every):
                self._run_step(run.num_used, min(run.num_positions, max_positions))
                run.next_position = [position + 1 for position in run.next_position]
            run.checks.append(self._start_check(run))
            while len(run.checks) > self.checks_in_flight:
                yield from self._finish_check(run, run.checks.popleft())
        run.checks.append(self._start_check(run))  # of nothing but the last clips' copies
        for check in run.checks:
            yield from self._finish_check(run, check)

    def reserve(self, num_prompts: int, prompt_positions: int) -> None:
        """Allocate for so many prompts of at most so many positions, before prompts that grow from call to call.

        Raises:
            InputError: not even one slot fits into memory.
        """
        self._reserve(num_prompts, prompt_positions)

    def _reserve(self, num_prompts: int, prompt_positions: int) -> None:
        """Allocate cache and state for as many prompts as fit, unless what there is suffices."""
        positions = prompt_positions + self.max_frames - 1  # the last frame is not read
        wanted = min(num_prompts, self.sampling.batch_size)
        if wanted <= self._reserved[0] and positions <= self._reserved[1]:
            return
        self._reserved = wanted, positions = max(wanted, self._reserved[0]), max(positions, self._reserved[1])
        self._discarded_seconds = self.preparation_seconds
        self._step = self._run_step = self._prefill = None  # their memory is free for what replaces them
        model, config, device = self.model, self.model.config, self.model.device
        dtype = model.model.embed_tokens.weight.dtype
        slots = plan_slots(model, wanted=wanted, positions=positions, dtype=dtype)
        self._step = DecodeStep(
            model,
            self.weights,
            KVCache.allocate(config, slots=slots, positions=positions, dtype=dtype, device=device),
            DecodeState.allocate(config, self.sampling, slots=slots, max_frames=self.max_frames, device=device),
            self.sampling,
            gpu_functions(compiled=not self.weights.has_modules) if self.capture else eager_functions,
        )
        self._run_step = GraphedStep(self._step) if self.capture else self._step
        if self.capture and has_varlen_kernel(self._step.cache.keys):
            self._prefill = GraphedPrefill(model, self._step.cache)
        else:
            self._prefill = partial(prefill, model, cache=self._step.cache)

    def _refill(self, run: _Run) -> None:
        """Read waiting prompts into free slots; without any, close the gaps between used slots."""
        free = run.free
        if not run.queue:
            while free and free[0] < run.num_used:
                source, target = run.num_used - 1, free.pop(0)
                self._step.cache.move(source, target, positions=run.next_position[source])
                self._step.state.move(source, target)
                run.owners[target], run.owners[source] = run.owners[source], None
                run.next_position[target] = run.next_position[source]
            return
        if len(free) < min(len(run.queue), -(-len(run.owners) // REFILL_SHARE)):
            return
        while free and run.queue:
            slots, chosen, num_positions = [], [], 0
            while free and run.queue:
                num_positions += len(run.prompts[run.queue[0]].ids)
                if chosen and num_positions > PREFILL_POSITIONS:
                    break
                slots.append(free.pop(0))
                chosen.append(run.queue.popleft())
            prompts = [run.prompts[index] for index in chosen]
            self._prefill(prompts, slots)
            self._step.state.start(slots, prompts, bos=self.model.config.audio_stream_bos_id)
            for slot, index, prompt in zip(slots, chosen, prompts, strict=True):
                run.owners[slot], run.next_position[slot] = index, len(prompt.ids)

    def _start_check(self, run: _Run) -> _Check:
        num_frames = self._step.state.num_frames[: run.num_used].to("cpu", non_blocking=self.on_gpu, copy=True)
        arrived = torch.cuda.Event() if self.on_gpu else None
        if arrived is not None:
            arrived.record()
        copied, run.copied = run.copied, []
        return _Check(arrived, num_frames, list(run.owners), copied)

    def _finish_check(self, run: _Run, check: _Check) -> Iterator[tuple[int, Clip]]:
        """Free the slots whose clips had ended, and give the clips that are on the host."""
        if check.arrived is not None:
            check.arrived.synchronize()
        for slot, num_frames in enumerate(check.num_frames.tolist()):
            owner = check.owners[slot]
            if num_frames and owner is not None and run.owners[slot] == owner:
                frames = self._step.state.frames[slot, :num_frames]
                run.copied.append((owner, frames.to("cpu", non_blocking=self.on_gpu, copy=True)))
                run.owners[slot] = None
        yield from self._clips(check.copied)

    def _clips(self, copied: Sequence[tuple[int, Tensor]]) -> Iterator[tuple[int, Clip]]:
        for index, frames in copied:
            yield index, clip_of(frames, eos=self.model.config.audio_stream_eos_id)


@contextmanager
def open_engine(
    model: HiggsAudioV2ForConditionalGeneration, *, sampling: SamplingConfig, capture: bool = True
) -> Iterator[Engine]:
    """An engine for a bare model, whose active adapters are folded into its weights until the context is left.

    An engine may generate many times: its cache is kept, and what was compiled and captured.
    """
    with decode_weights(model, int8=sampling.generation_weights == "int8") as weights:
        yield Engine(model, weights, sampling, capture=capture)


def clip_of(frames: Tensor, *, eos: int) -> Clip:
    """The clip of generated frames (F, C), which end with the pattern or at the cap.

    A clip that the cap cut keeps the steps before its first EOS, if it has one.
    """
    if bool((frames[-1] == eos).all()):
        return Clip(undelay_frames(frames), True)
    codes = undelay_frames(frames)
    ended = (codes == eos).any(dim=1).nonzero()
    return Clip(codes[: int(ended[0]) if len(ended) else len(codes)], False)
