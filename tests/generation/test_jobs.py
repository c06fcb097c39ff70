"""Jobs are reported when they are long enough; those who wait for results take turns at running the engine."""

from collections import deque
from threading import Thread

import pytest
import torch

from higgs_recipes.constants import EOS_CODE
from higgs_recipes.delay import delay_codes
from higgs_recipes.generation.jobs import Clip, Job, Result, SharedRunner, clip_of


def test_a_complete_delay_pattern_is_a_clip_that_stopped():
    codes = torch.arange(24).view(3, 8)
    clip = clip_of(delay_codes(codes), eos=EOS_CODE)
    assert clip.stopped and torch.equal(clip.codes, codes)


def test_a_clip_cut_while_ending_keeps_the_steps_before_its_first_eos():
    codes = torch.arange(40).view(5, 8)
    clip = clip_of(delay_codes(codes)[:-2], eos=EOS_CODE)  # (12, C): some codebooks have ended, not all
    assert not clip.stopped and torch.equal(clip.codes, codes[:3])


def test_the_clip_of_the_first_frames_is_the_beginning_of_the_clip():
    codes = torch.arange(80).view(10, 8)
    frames = delay_codes(codes)
    for num_frames in range(10, len(frames)):
        clip = clip_of(frames[:num_frames], eos=EOS_CODE)
        assert not clip.stopped and torch.equal(clip.codes, codes[: num_frames - 9])


def test_a_job_is_due_once_for_each_number_of_steps():
    job = Job(None, deque(), report_steps=[2, 3, 7])
    assert [job.is_due(num_steps) for num_steps in (0, 1, 4, 5, 6, 9, 20)] == [
        False,
        False,
        True,
        *[False] * 2,
        True,
        False,
    ]
    assert not Job(None, deque()).is_due(10**6)


def result() -> Result:
    return Result(Job(None, deque()), Clip(torch.zeros(1, 8), True), True)


def test_one_of_the_threads_that_wait_runs_the_engine_for_all():
    waiting, running, most = [deque() for _ in range(4)], [], []

    def advance() -> None:
        running.append(True)
        most.append(len(running))
        for results in waiting:
            results.append(result())
        running.pop()

    runner, received = SharedRunner(advance), []

    def wait(results: deque) -> None:
        received.extend(runner._next_result(results) for _ in range(50))

    threads = [Thread(target=wait, args=(results,)) for results in waiting]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert len(received) == 200 and max(most) == 1 and len(most) < 200


def test_an_exception_in_the_place_of_a_result_is_raised():
    runner = SharedRunner(lambda: pytest.fail("there is a result"))
    with pytest.raises(MemoryError):
        runner._next_result(deque([MemoryError(), result()]))


def test_an_interrupted_turn_can_be_taken_again():
    results, turns = deque(), []

    def advance() -> None:
        turns.append(len(turns))
        if len(turns) == 1:
            raise KeyboardInterrupt
        results.append(result())

    runner = SharedRunner(advance)
    with pytest.raises(KeyboardInterrupt):
        runner._next_result(results)
    assert runner._next_result(results).is_complete and turns == [0, 1]
