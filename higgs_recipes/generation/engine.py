"""The generation engine: continuous batching of prompts over the slots of a static KV cache.

A prompt is read once into a slot (`prefill`); then all slots take one decode step after the other, and a slot whose
clip has ended is refilled from the queue. The host learns of ends from copies that it does not wait for, a few steps
late; what a slot computes behind its end is dropped. A clip's codes depend on its prompt and its seed only: not on its
slot, the order of the queue or the clips beside it (up to rounding of the arithmetic, which may differ between batch
sizes).

Jobs may be submitted and cancelled at any time and from any thread. The engine has no thread: it runs while
somebody waits for a result, and one of those who wait runs it for all.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import HiggsAudioV2ForConditionalGeneration

from higgs_recipes.configs.inference import SamplingConfig
from higgs_recipes.constants import FRAMES_PER_SECOND
from higgs_recipes.delay import delayed_length
from higgs_recipes.generation.decode_step import DecodeState, DecodeStep, eager_functions
from higgs_recipes.generation.decode_weights import DecodeWeights, decode_weights
from higgs_recipes.generation.graphed_prefill import GraphedPrefill
from higgs_recipes.generation.graphed_step import GraphedStep, gpu_functions
from higgs_recipes.generation.jobs import Clip, Job, Result, Results, SharedRunner, clip_of, frames_to_host
from higgs_recipes.generation.kv_cache import PREFILL_POSITIONS, KVCache, plan_slots
from higgs_recipes.generation.prefill import Prompt, prefill
from higgs_recipes.modeling.varlen_forward import has_varlen_kernel


REFILL_SHARE = 8  # a prefill costs as much for one slot as for a few: it waits for one free slot in this many


class _Check(NamedTuple):
    """Which clips had ended after some step: an asynchronous copy to the host."""

    arrived: torch.cuda.Event | None
    num_frames: Tensor  # (B,)
    owners: list[Job | None]  # the job in each slot at that step
    copied: list[tuple[Job, Tensor]]  # frames (F, C) of clips that have ended; their copy began before the step
    reported: list[tuple[int, Tensor]]  # slot, and first frames (F, C) of a clip that goes on unless it had ended


class Engine(SharedRunner):
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
        super().__init__(self._advance)
        self.model, self.weights, self.sampling = model, weights, sampling
        self.on_gpu = model.device.type == "cuda"
        self.capture = capture and self.on_gpu
        self.check_every, self.checks_in_flight = (2, 1) if self.on_gpu else (1, 0)
        self.max_frames = delayed_length(round(sampling.max_seconds * FRAMES_PER_SECOND), model.config.num_codebooks)
        self._step: DecodeStep | None = None
        self._run_step: DecodeStep | GraphedStep | None = None
        self._prefill: Callable[[Sequence[Prompt], Sequence[int]], None] | None = None
        self._discarded_seconds = 0.0
        self._asked = 0, 0  # see `reserve`
        self._reserved = 0, 0  # slots that were asked for, positions of each
        # What follows belongs to the thread that runs the engine.
        self._queue: deque[Job] = deque()
        self._owners: list[Job | None] = []  # the job in each slot
        self._next_position: list[int] = []  # of the cache, in each slot
        self._checks: deque[_Check] = deque()
        self._copied: list[tuple[Job, Tensor]] = []  # see `_Check`

    @property
    def _num_used(self) -> int:
        """Slots up to the last one in use."""
        return max((slot + 1 for slot, owner in enumerate(self._owners) if owner is not None), default=0)

    @property
    def _num_positions(self) -> int:
        """Of the cache, up to the longest clip's next frame."""
        owned = zip(self._next_position, self._owners, strict=True)
        longest = max(position for position, owner in owned if owner is not None)
        return min(longest + 1, self._step.cache.keys.shape[3])

    @property
    def preparation_seconds(self) -> float:
        is_captured = isinstance(self._run_step, GraphedStep)
        return self._discarded_seconds + (self._run_step.preparation_seconds if is_captured else 0.0)

    def generate(self, prompts: Sequence[Prompt]) -> list[Clip]:
        """The clips of all prompts, in their order."""
        clips = dict(self.stream(prompts))
        return [clips[index] for index in range(len(prompts))]

    def stream(self, prompts: Sequence[Prompt]) -> Iterator[tuple[int, Clip]]:
        """The clip of each prompt and its index, in the order in which they end.

        Prompts with the longest texts start first, so that no long clip runs alone at the end.
        """
        results: Results = deque()
        jobs = [Job(prompt, results) for prompt in prompts]
        indexes = {job: index for index, job in enumerate(jobs)}
        for result in self.results(sorted(jobs, key=lambda job: -job.prompt.num_text)):
            yield indexes[result.job], result.clip

    @torch.inference_mode()
    def _advance(self) -> None:
        """Take a few steps, and hand out what had come of the jobs some steps before.

        An exception ends all jobs that were taken: the state of their slots is unknown.
        """
        try:
            self._take_steps()
        except BaseException as error:
            copied = [*self._copied, *(copy for check in self._checks for copy in check.copied)]
            for job in (*self._queue, *self._owners, *(job for job, _ in copied)):
                if job is not None:
                    job.results.append(error)
            self._queue.clear()
            self._checks.clear()
            self._copied = []
            self._clear_slots()

    def _take_steps(self) -> None:
        while self.submitted:
            self._queue.append(self.submitted.popleft())
        self._drop_cancelled()
        if self._num_used == 0:
            if not self._queue:
                self._finish_checks(in_flight=0)
                return
            self._reserve()
        self._refill()
        for _ in range(self.check_every):
            self._run_step(self._num_used, self._num_positions)
            self._next_position = [position + 1 for position in self._next_position]
        self._finish_checks(in_flight=self.checks_in_flight)

    def _drop_cancelled(self) -> None:
        self._queue = deque(job for job in self._queue if not job.is_cancelled)
        for slot, job in enumerate(self._owners):
            if job is not None and job.is_cancelled:
                self._step.state.end(slot)
                self._owners[slot] = None

    def _clear_slots(self) -> None:
        num_slots = 0 if self._step is None else self._step.cache.keys.shape[1]
        self._owners, self._next_position = [None] * num_slots, [0] * num_slots
        if self._step is not None:
            self._step.state.clear()

    def reserve(self, num_jobs: int, prompt_positions: int) -> None:
        """Allocate for at least `num_jobs` jobs with prompts of this length, the next time that no slot is in use.

        For jobs that come while others run, and for prompts that grow.
        """
        self._asked = max(num_jobs, self._asked[0]), max(prompt_positions, self._asked[1])

    def _reserve(self) -> None:
        """Allocate cache and state for as many jobs as fit, unless what there is suffices. No slot is in use."""
        num_jobs = max(len(self._queue), self._asked[0])
        prompt_positions = max(self._asked[1], *(len(job.prompt.ids) for job in self._queue))
        positions = prompt_positions + self.max_frames - 1  # the last frame is not read
        wanted = min(num_jobs, self.sampling.batch_size)
        if wanted <= self._reserved[0] and positions <= self._reserved[1]:
            return
        self._finish_checks(in_flight=0)
        wanted, positions = max(wanted, self._reserved[0]), max(positions, self._reserved[1])
        self._reserved = 0, 0
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
        self._reserved = wanted, positions
        self._clear_slots()

    def _refill(self) -> None:
        """Read waiting prompts into free slots; without any, close the gaps between used slots."""
        free = [slot for slot, owner in enumerate(self._owners) if owner is None]
        if not self._queue:
            while free and free[0] < self._num_used:
                self._move(self._num_used - 1, free.pop(0))
            return
        if len(free) < min(len(self._queue), -(-len(self._owners) // REFILL_SHARE)):
            return
        while free and self._is_next_short_enough():
            slots, jobs, num_positions = [], [], 0
            while free and self._is_next_short_enough():
                num_positions += len(self._queue[0].prompt.ids)
                if jobs and num_positions > PREFILL_POSITIONS:
                    break
                slots.append(free.pop(0))
                jobs.append(self._queue.popleft())
            prompts = [job.prompt for job in jobs]
            for slot, job in zip(slots, jobs, strict=True):
                self._owners[slot], self._next_position[slot] = job, len(job.prompt.ids)
            self._prefill(prompts, slots)
            self._step.state.start(slots, prompts, bos=self.model.config.audio_stream_bos_id)

    def _is_next_short_enough(self) -> bool:
        """Whether the next job fits into a slot. If not, it waits until no slot is in use."""
        max_positions = self._step.cache.keys.shape[3]
        return bool(self._queue) and len(self._queue[0].prompt.ids) + self.max_frames - 1 <= max_positions

    def _move(self, source: int, target: int) -> None:
        self._step.cache.move(source, target, positions=self._next_position[source])
        self._step.state.move(source, target)
        self._owners[target], self._owners[source] = self._owners[source], None
        self._next_position[target] = self._next_position[source]

    def _finish_checks(self, *, in_flight: int) -> None:
        """Begin a check, and finish all but the last `in_flight` ones."""
        if self._num_used or self._copied:
            self._checks.append(self._start_check())
        while len(self._checks) > in_flight:
            self._finish_check(self._checks[0])  # still in the list if it raises: its jobs are told
            self._checks.popleft()

    def _start_check(self) -> _Check:
        state, num_used, num_codebooks = self._step.state, self._num_used, self.model.config.num_codebooks
        reported = []
        for slot, job in enumerate(self._owners[:num_used]):
            if job is not None:
                num_frames = self._next_position[slot] - len(job.prompt.ids) + 1
                if job.is_due(num_frames - num_codebooks - 1):
                    reported.append((slot, frames_to_host(state.frames[slot, :num_frames])))
        num_frames = frames_to_host(state.num_frames[:num_used])
        arrived = torch.cuda.Event() if self.on_gpu else None
        if arrived is not None:
            arrived.record()
        copied, self._copied = self._copied, []
        return _Check(arrived, num_frames, list(self._owners), copied, reported)

    def _finish_check(self, check: _Check) -> None:
        """Free the slots whose clips had ended, and hand out the clips that are on the host."""
        if check.arrived is not None:
            check.arrived.synchronize()
        ends = check.num_frames.tolist()
        for slot, num_frames in enumerate(ends):
            job = check.owners[slot]
            if num_frames and job is not None and self._owners[slot] is job:
                self._copied.append((job, frames_to_host(self._step.state.frames[slot, :num_frames])))
                self._owners[slot] = None
        for slot, frames in check.reported:
            if not ends[slot]:  # otherwise the whole clip is being copied
                self._hand_out(check.owners[slot], frames, is_complete=False)
        for job, frames in check.copied:
            self._hand_out(job, frames, is_complete=True)

    def _hand_out(self, job: Job, frames: Tensor, *, is_complete: bool) -> None:
        if not job.is_cancelled:
            job.results.append(Result(job, clip_of(frames, eos=self.model.config.audio_stream_eos_id), is_complete))


@contextmanager
def open_engine(
    model: HiggsAudioV2ForConditionalGeneration, *, sampling: SamplingConfig, capture: bool = True
) -> Iterator[Engine]:
    """An engine for a bare model, whose active adapters are folded into its weights until the context is left.

    An engine may generate many times: its cache is kept, and what was compiled and captured.
    """
    with decode_weights(model, int8=sampling.generation_weights == "int8") as weights:
        yield Engine(model, weights, sampling, capture=capture)
