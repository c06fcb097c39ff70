"""What the engine takes and gives: a job for each prompt, and the clip that it becomes."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import inf
from threading import Condition
from typing import NamedTuple

from torch import Tensor

from higgs_recipes.delay import undelay_frames
from higgs_recipes.generation.prefill import Prompt


class Clip(NamedTuple):
    """The clip of a prompt: codes (T, C) int16 on CPU, and whether the model ended the clip before the cap."""

    codes: Tensor
    stopped: bool


class Result(NamedTuple):
    """The clip of a job, or the beginning of it that is known already."""

    job: "Job"
    clip: Clip
    is_complete: bool


class Job:
    """A prompt that waits, is in a slot, or has ended.

    Args:
        prompt: what the model reads.
        report_steps: rising numbers of steps; the beginning of the clip is a result when it has as many.
        results: the engine appends the results here, or the exception that ended the job.

    Attributes:
        is_cancelled: set it to free the slot; there are no further results.
    """

    def __init__(self, prompt: Prompt, results: "Results", *, report_steps: Iterable[int] = ()) -> None:
        self.prompt, self.results = prompt, results
        self.is_cancelled = False
        self._reports = iter(report_steps)
        self.next_report: float = next(self._reports, inf)

    def is_due(self, num_steps: int) -> bool:
        """Whether a clip of this length is to be reported; it is then not due until it is longer."""
        if num_steps < self.next_report:
            return False
        while self.next_report <= num_steps:
            self.next_report = next(self._reports, inf)
        return True


Results = deque[Result | BaseException]


class SharedRunner:
    """Lets one of the threads that wait for results run the engine, for all of them.

    Args:
        advance: takes submitted jobs and runs all jobs for a few steps; adds results to those of any job.

    Attributes:
        submitted: jobs that have not been taken.
    """

    def __init__(self, advance: Callable[[], None]) -> None:
        self.submitted: deque[Job] = deque()
        self._run_all = advance
        self._turn, self._is_running = Condition(), False

    def results(self, jobs: Sequence[Job]) -> Iterator[Result]:
        """Submit jobs that share their `results`, and yield these as they come. Closing cancels the rest."""
        running = set(jobs)
        self.submitted.extend(jobs)
        try:
            while running:
                result = self._next_result(jobs[0].results)
                if result.is_complete:
                    running.remove(result.job)
                yield result
        finally:
            for job in running:
                job.is_cancelled = True

    def _next_result(self, results: Results) -> Result:
        """Remove the first result and return it, or raise it if it is an exception; wait until there is one."""
        while not results:
            with self._turn:
                self._turn.wait_for(lambda: results or not self._is_running)
                if results:
                    break
                self._is_running = True
            try:
                self._run_all()
            finally:
                with self._turn:
                    self._is_running = False
                    self._turn.notify_all()
        result = results.popleft()
        if isinstance(result, BaseException):
            raise result
        return result


def clip_of(frames: Tensor, *, eos: int) -> Clip:
    """The clip of generated frames (F, C), which end with the pattern or at the cap.

    A clip that the cap cut keeps the steps before its first EOS, if it has one. So the clip of the first frames is the
    beginning of the clip of all.
    """
    if bool((frames[-1] == eos).all()):
        return Clip(undelay_frames(frames), True)
    codes = undelay_frames(frames)
    ended = (codes == eos).any(dim=1).nonzero()
    return Clip(codes[: int(ended[0]) if len(ended) else len(codes)], False)


def frames_to_host(frames: Tensor) -> Tensor:
    """Copy frames to the CPU, without waiting for a GPU."""
    return frames.to("cpu", non_blocking=frames.device.type == "cuda", copy=True)
