"""The engine gives the codes of transformers' generate, whatever the slots, the queue and the batch."""

import logging
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from higgs_recipes.configs.inference import SamplingConfig
from higgs_recipes.constants import BOS_CODE, EOS_CODE
from higgs_recipes.delay import undelay_frames
from higgs_recipes.errors import InputError
from higgs_recipes.generation import engine as engine_module
from higgs_recipes.generation import kv_cache
from higgs_recipes.generation.decode_step import eager_functions
from higgs_recipes.generation.engine import Engine, open_engine
from higgs_recipes.generation.jobs import Clip, Job, clip_of
from higgs_recipes.generation.prefill import Prompt, build_prompt, prefill
from tests.helpers.checkpoints import load_tiny
from tests.helpers.reference_generate import reference_frames


SAMPLINGS = {
    "published": {},
    "greedy": {"temperature": 0.0},
    "cool": {"temperature": 0.3, "ras_win_len": 0},
    "repetitive": {"temperature": 0.05, "ras_win_len": 4, "ras_win_max_num_repeat": 1},
    "nucleus": {"top_k": 0, "top_p": 0.7},
    "all codes": {"top_k": 0, "top_p": 1.0},
}


def ending_model():
    """A tiny model whose clips end by themselves, after a few frames or some dozens."""
    model, _ = load_tiny()
    with torch.no_grad():
        model.audio_lm_head.weight[EOS_CODE].mul_(10)
    return model


def endless_model():
    """A tiny model that never ends a clip: BOS and EOS are less likely than half of the codes."""
    model, _ = load_tiny()
    with torch.no_grad():
        model.audio_lm_head.weight.unflatten(0, (8, -1))[:, BOS_CODE:] = 0
    return model


def make_prompts(config, *, count: int = 7) -> list[Prompt]:
    """Prompts of different lengths, which transformers needs longer than the delay; one in three has two clips."""
    prompts = []
    for index in range(count):
        generator = torch.Generator().manual_seed(index)
        ids = torch.randint(0, 256, (9 + 9 * (index % 4),), generator=generator)
        clips = []
        if index % 3 == 2:
            clips = [torch.randint(0, 1024, (length, 8), generator=generator) for length in (6, 3 + index)]
            ids[1] = ids[3] = config.audio_token_id
        ids = torch.cat([ids, torch.tensor([config.audio_bos_token_id])])
        prompts.append(build_prompt(ids, clips, seed=100 + index, config=config))
    return prompts


def run(model, prompts, *, capture: bool = False, **fields) -> list[Clip]:
    with open_engine(model, sampling=SamplingConfig(**fields), capture=capture) as engine:
        return engine.generate(prompts)


def assert_same(clips: list[Clip], others: list[Clip]) -> None:
    for index, (clip, other) in enumerate(zip(clips, others, strict=True)):
        assert clip.stopped == other.stopped and torch.equal(clip.codes, other.codes), index


@pytest.fixture(scope="module")
def model():
    return ending_model()


@pytest.mark.parametrize("name", SAMPLINGS)
def test_codes_are_those_of_transformers_generate(model, name):
    prompts = make_prompts(model.config)
    clips = run(model, prompts, **SAMPLINGS[name], max_seconds=1.2, batch_size=3)
    frames = reference_frames(model, prompts, SamplingConfig(**SAMPLINGS[name], max_seconds=1.2))
    assert_same(clips, [clip_of(reference.to(torch.int16), eos=EOS_CODE) for reference in frames])
    if name == "published":  # otherwise nothing would be refilled
        assert 0 < sum(clip.stopped for clip in clips) and len({len(clip.codes) for clip in clips}) > 3


def test_greedy_codes_are_those_of_transformers_generate_without_a_processor_of_ours():
    model = endless_model()
    prompts = make_prompts(model.config)
    clips = run(model, prompts, temperature=0.0, max_seconds=1.2, batch_size=3)
    frames = reference_frames(model, prompts, SamplingConfig(max_seconds=1.2), processors=lambda prompt: [])
    for clip, reference in zip(clips, frames, strict=True):
        assert torch.equal(undelay_frames(reference), clip.codes.long()) and len(clip.codes) == 30


@pytest.mark.parametrize("batch_size", [1, 2, 5, 20])
def test_a_seed_gives_the_same_codes_in_any_slot_and_order(model, batch_size):
    prompts = make_prompts(model.config, count=9)
    alone = [run(model, [prompt], max_seconds=1.6)[0] for prompt in prompts]
    assert_same(run(model, prompts, max_seconds=1.6, batch_size=batch_size), alone)
    assert_same(run(model, prompts[::-1], max_seconds=1.6, batch_size=batch_size)[::-1], alone)


def test_clips_come_as_they_end_and_the_longest_text_starts_first(model):
    prompts = make_prompts(model.config)
    with open_engine(model, sampling=SamplingConfig(max_seconds=1.6, batch_size=2)) as engine:
        streamed = list(engine.stream(prompts))
        order = [index for index, _ in streamed]
        assert sorted(order) == list(range(7)) != order
        assert_same([clip for _, clip in sorted(streamed, key=lambda pair: pair[0])], engine.generate(prompts))
    one_slot = run_order(model, prompts)
    lengths = [prompts[index].num_text for index in one_slot]
    assert lengths == sorted(lengths, reverse=True)


def run_order(model, prompts) -> list[int]:
    with open_engine(model, sampling=SamplingConfig(max_seconds=0.4, batch_size=1)) as engine:
        return [index for index, _ in engine.stream(prompts)]


def test_an_engine_serves_again_after_a_cancelled_run_and_for_longer_prompts(model):
    prompts = make_prompts(model.config)
    sampling = SamplingConfig(max_seconds=1.2, batch_size=3)
    expected = run(model, prompts, max_seconds=1.2, batch_size=3)
    with open_engine(model, sampling=sampling) as engine:
        short = [index for index, prompt in enumerate(prompts) if len(prompt.ids) < 24]
        assert_same(engine.generate([prompts[index] for index in short]), [expected[index] for index in short])
        stream = engine.stream(prompts)
        next(stream)
        stream.close()
        assert_same(engine.generate(prompts), expected)
        assert engine.generate([]) == []
        assert engine.preparation_seconds == 0


@pytest.mark.parametrize(("check_every", "checks_in_flight"), [(2, 1), (5, 3)])
def test_ends_that_are_seen_late_change_no_clip(model, check_every, checks_in_flight):
    prompts = make_prompts(model.config, count=9)
    expected = run(model, prompts, max_seconds=1.6)
    with open_engine(model, sampling=SamplingConfig(max_seconds=1.6, batch_size=3)) as engine:
        engine.check_every, engine.checks_in_flight = check_every, checks_in_flight  # as on a GPU
        assert_same(engine.generate(prompts), expected)


def test_a_clip_that_never_ends_is_cut_at_the_cap():
    model = endless_model()
    clips = run(model, make_prompts(model.config, count=3), max_seconds=0.48)
    assert [clip.codes.shape for clip in clips] == [(12, 8)] * 3 and not any(clip.stopped for clip in clips)
    assert all(clip.codes.dtype == torch.int16 and int(clip.codes.max()) < BOS_CODE for clip in clips)


def count_steps(engine: Engine) -> list[int]:
    """The number of slots of each step from now on."""
    run_step, num_slots = engine._run_step, []

    def counted(slots: int, positions: int) -> None:
        num_slots.append(slots)
        run_step(slots, positions)

    engine._run_step = counted
    return num_slots


@pytest.mark.parametrize(("check_every", "checks_in_flight"), [(1, 0), (2, 1), (5, 3)])
def test_a_report_is_the_beginning_of_the_clip(model, check_every, checks_in_flight):
    prompts = make_prompts(model.config)
    expected = run(model, prompts, max_seconds=1.6)
    with open_engine(model, sampling=SamplingConfig(max_seconds=1.6, batch_size=3)) as engine:
        engine.check_every, engine.checks_in_flight = check_every, checks_in_flight
        results = deque()
        jobs = [Job(prompt, results, report_steps=[1, 6, 7, 30]) for prompt in prompts]
        received = list(engine.results(jobs))
    for job, clip in zip(jobs, expected, strict=True):
        *reports, last = [result for result in received if result.job is job]
        assert_same([last.clip], [clip])
        assert last.is_complete and not any(report.is_complete or report.clip.stopped for report in reports)
        lengths = [len(report.clip.codes) for report in reports]
        assert lengths == sorted(set(lengths)) and all(length <= len(clip.codes) for length in lengths)
        assert all(torch.equal(report.clip.codes, clip.codes[: len(report.clip.codes)]) for report in reports)
        if check_every == 1 and len(clip.codes) == 40:
            assert lengths == [1, 6, 7, 30]


def test_jobs_that_come_while_others_run_change_no_clip(model):
    prompts = sorted(make_prompts(model.config, count=9), key=lambda prompt: len(prompt.ids))
    alone = [run(model, [prompt], max_seconds=1.6)[0] for prompt in prompts]
    with open_engine(model, sampling=SamplingConfig(max_seconds=1.6, batch_size=2)) as engine:
        first = engine.stream(prompts[:5])
        clips = dict([next(first)])
        second = engine.stream(prompts[5:])  # longer than the slots are: they wait until all slots are free
        clips |= {5 + index: clip for index, clip in [next(second)]}
        clips |= dict(first) | {5 + index: clip for index, clip in second}
    assert_same([clips[index] for index in range(9)], alone)


def test_reserved_slots_are_there_for_jobs_that_come_later():
    model = endless_model()
    short, long = sorted(make_prompts(model.config, count=2), key=lambda prompt: len(prompt.ids))
    sampling = SamplingConfig(max_seconds=0.8, batch_size=4)
    with open_engine(model, sampling=sampling) as engine:
        engine.reserve(3, len(long.ids))
        results = engine.results([Job(short, deque(), report_steps=[2, 4])])
        next(results)
        step = engine._step
        assert step.cache.keys.shape[1] == 3
        num_slots = count_steps(engine)
        assert_same(engine.generate([long]), run(model, [long], max_seconds=0.8))
        assert set(num_slots[:10]) == {2} and engine._step is step
        results.close()


def test_a_cancelled_job_frees_its_slot_at_once():
    model = endless_model()
    prompts = make_prompts(model.config, count=3)[::-1]
    alone = [run(model, [prompt], max_seconds=2.0)[0] for prompt in prompts]
    with open_engine(model, sampling=SamplingConfig(max_seconds=2.0, batch_size=2)) as engine:
        results = deque()
        stream = engine.results([Job(prompt, results, report_steps=[3]) for prompt in prompts[:2]])
        first = next(stream)
        assert torch.equal(first.clip.codes, alone[0].codes[:3])
        other = engine.results([Job(prompts[2], deque(), report_steps=[1])])
        num_slots = count_steps(engine)
        stream.close()
        assert torch.equal(next(other).clip.codes, alone[2].codes[:1])  # though no clip has ended
        assert_same([next(other).clip], alone[2:])
        assert num_slots == [1] * (50 + 8)  # nothing is computed for the cancelled clips


def test_a_job_that_is_cancelled_while_it_waits_never_starts(model, monkeypatch):
    prompts = make_prompts(model.config, count=3)
    expected = run(model, prompts[:1], max_seconds=0.8)
    read = []

    def counted(*args, **kwargs):
        read.extend(args[1])
        prefill(*args, **kwargs)

    monkeypatch.setattr(engine_module, "prefill", counted)
    with open_engine(model, sampling=SamplingConfig(max_seconds=0.8, batch_size=1)) as engine:
        jobs = [Job(prompt, deque()) for prompt in prompts]
        jobs[1].is_cancelled = jobs[2].is_cancelled = True
        engine.submitted.extend(jobs[1:])
        assert_same([result.clip for result in engine.results(jobs[:1])], expected)
        assert len(read) == 1 and not jobs[1].results


def test_threads_share_the_slots_and_get_their_own_clips(model):
    prompts = make_prompts(model.config, count=8)
    expected = run(model, prompts, max_seconds=1.2)
    with open_engine(model, sampling=SamplingConfig(max_seconds=1.2, batch_size=3)) as engine:
        with ThreadPoolExecutor(8) as pool:
            clips = list(pool.map(lambda prompt: engine.generate([prompt])[0], prompts))
    assert_same(clips, expected)


def test_an_exception_ends_all_jobs_and_the_engine_serves_again(model, monkeypatch):
    prompts = make_prompts(model.config, count=4)
    expected = run(model, prompts, max_seconds=0.8, batch_size=2)

    def fail(*args):
        raise torch.OutOfMemoryError("no memory")

    sampling = SamplingConfig(max_seconds=0.8, batch_size=2)
    with open_engine(model, sampling=sampling) as engine:
        engine.reserve(2, 100)
        other = engine.results([Job(prompts[3], deque(), report_steps=[1])])
        next(other)
        monkeypatch.setattr(engine, "_prefill", fail)
        with pytest.raises(torch.OutOfMemoryError):
            engine.generate(prompts[:3])
        with pytest.raises(torch.OutOfMemoryError):
            list(other)
        monkeypatch.undo()
        assert_same(engine.generate(prompts), expected)


def test_a_failed_copy_ends_the_jobs_of_its_check(model, monkeypatch):
    """A job that waits for the copy of its clip is in no slot and no queue."""
    prompts = make_prompts(model.config, count=2)
    with open_engine(model, sampling=SamplingConfig(max_seconds=0.4, batch_size=2)) as engine:
        monkeypatch.setattr(engine_module, "clip_of", lambda *args, **kwargs: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            engine.generate(prompts)
        monkeypatch.undo()
        assert len(engine.generate(prompts)) == 2


def test_as_many_slots_are_used_as_fit_into_memory(model, monkeypatch, caplog):
    prompts = make_prompts(model.config)
    expected = run(model, prompts, max_seconds=1.2, batch_size=7)
    positions = max(len(prompt.ids) for prompt in prompts) + 30 + 8
    per_slot = positions * 2 * 2 * model.config.num_key_value_heads * 16 * 4  # two layers, keys and values, float32
    rows = (10 * model.config.hidden_size + 3 * model.config.intermediate_size) * 4
    free = 2**29 + 7 * positions * rows + 2 * per_slot + per_slot // 2
    monkeypatch.setattr(kv_cache, "free_memory", lambda device: free)
    with caplog.at_level(logging.INFO, "higgs_recipes.generation.kv_cache"):
        assert_same(run(model, prompts, max_seconds=1.2, batch_size=7), expected)
    assert f"2 of 7 slots of {positions} positions" in caplog.text and "GiB free" in caplog.text
    with open_engine(model, sampling=SamplingConfig(max_seconds=1.2, batch_size=7)) as engine:
        assert_same(engine.generate(prompts), expected)
        step = engine._step
        assert_same(engine.generate(prompts), expected)
        assert engine._step is step  # what does not fit is not planned again and again
    monkeypatch.setattr(kv_cache, "free_memory", lambda device: free - 2 * per_slot)
    with pytest.raises(InputError, match="does not fit into memory .* lower max_seconds, or shorten the prompt"):
        run(model, prompts, max_seconds=1.2, batch_size=7)


def test_long_queues_are_read_in_batches_of_limited_size(model, monkeypatch):
    prompts = make_prompts(model.config, count=9)
    expected = run(model, prompts, max_seconds=0.8, batch_size=9)
    sizes = []

    def counted(model, prompts, slots, *, cache):
        sizes.append([len(prompt.ids) for prompt in prompts])
        prefill(model, prompts, slots, cache=cache)

    prefill = engine_module.prefill
    monkeypatch.setattr(engine_module, "prefill", counted)
    monkeypatch.setattr(engine_module, "PREFILL_POSITIONS", 50)
    assert_same(run(model, prompts, max_seconds=0.8, batch_size=9), expected)
    assert len(sizes) > 2 and all(len(lengths) == 1 or sum(lengths) <= 50 for lengths in sizes)


def test_all_random_numbers_of_a_clip_are_those_of_successive_frames():
    generator, other = (torch.Generator().manual_seed(5) for _ in range(2))
    at_once = torch.rand(40, 2, 8, generator=generator)
    assert torch.equal(at_once, torch.stack([torch.rand(2, 8, generator=other) for _ in range(40)]))


def test_each_part_of_a_step_is_one_graph_for_all_layers_and_lengths(model, monkeypatch):
    prompts = make_prompts(model.config, count=2)
    counters = [CompileCounterWithBackend("eager") for _ in range(3)]
    eager = eager_functions(1)
    project, finish, sample = (
        torch.compile(function, dynamic=False, fullgraph=True, backend=counter)
        for function, counter in zip((eager.project, eager.finish, eager.sample), counters, strict=True)
    )
    compiled = eager._replace(project=project, finish=finish, sample=sample)
    expected = run(model, prompts, max_seconds=0.8, batch_size=2)
    monkeypatch.setattr(engine_module, "eager_functions", lambda num_slots: compiled)
    assert_same(run(model, prompts, max_seconds=0.8, batch_size=2), expected)
    num_batches = 1 if len(expected[0].codes) == len(expected[1].codes) else 2  # with the last clip alone
    assert [counter.frame_count for counter in counters] == [num_batches] * 3


def test_a_prompt_may_allow_fewer_frames_than_the_engine(model):
    prompts = make_prompts(model.config, count=4)
    expected = run(model, prompts, max_seconds=0.8, batch_size=2)
    limits = [None, 12, 17, 400]
    limited = [prompt._replace(max_frames=limit) for prompt, limit in zip(prompts, limits, strict=True)]
    for clip, whole, limit in zip(run(model, limited, max_seconds=0.8, batch_size=2), expected, limits, strict=True):
        num_steps = len(whole.codes) if limit is None else min(len(whole.codes), limit - 9)
        assert torch.equal(clip.codes, whole.codes[:num_steps])
        assert clip.stopped == (whole.stopped and num_steps == len(whole.codes))


gpu = pytest.mark.gpu


@gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_captured_step_gives_the_codes_of_an_eager_one(dtype):
    model = ending_model().to("cuda", dtype)
    prompts = make_prompts(model.config, count=20)
    captured = run(model, prompts, capture=True, max_seconds=1.6, batch_size=8)
    assert_same(run(model, prompts, capture=True, max_seconds=1.6, batch_size=8), captured)
    if dtype == torch.float32:
        assert_same(run(model, prompts, capture=False, max_seconds=1.6, batch_size=8), captured)
        assert_same(run(model.cpu(), prompts, max_seconds=1.6, batch_size=8), captured)


@gpu
def test_a_warm_run_neither_waits_for_the_gpu_nor_compiles():
    model = ending_model().to("cuda", torch.bfloat16)
    prompts = make_prompts(model.config, count=20)
    with open_engine(model, sampling=SamplingConfig(max_seconds=1.6, batch_size=8)) as engine:
        expected, seconds = engine.generate(prompts), engine.preparation_seconds
        torch.cuda.set_sync_debug_mode("error")
        try:
            clips = engine.generate(prompts)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert_same(clips, expected)
        assert engine.preparation_seconds == seconds
