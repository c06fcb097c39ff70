"""Benchmark of generation: frames per second of clips of equal length, by this project and by transformers."""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import HiggsAudioV2ForConditionalGeneration, PreTrainedTokenizerBase

from higgs_recipes.benchmarks.random_models import load_random_model, text_of_length
from higgs_recipes.benchmarks.roofline import copy_rate, frame_bytes
from higgs_recipes.chatml import conversation
from higgs_recipes.configs.benchmark import BenchmarkGenerateConfig
from higgs_recipes.configs.inference import SamplingConfig
from higgs_recipes.constants import FRAMES_PER_SECOND
from higgs_recipes.delay import delayed_length, undelay_frames
from higgs_recipes.devices import peak_memory_gib, reset_peak_memory, single_device, synchronize
from higgs_recipes.errors import InputError
from higgs_recipes.generation.engine import Clip, open_engine
from higgs_recipes.generation.prefill import build_prompt
from higgs_recipes.samples import tokenize_prompt


# Variants that use transformers' own generate: name -> arguments of `generate`.
TRANSFORMERS = {"transformers": {}, "transformers_static": {"cache_implementation": "static"}}


def measure_generation(config: BenchmarkGenerateConfig) -> Iterator[dict[str, Any]]:
    """Yield a row of results for each variant and number of streams: of the fastest run after the first.

    A row has `name`, `variant`, `streams` and `outcome` ("measured" or "out of memory"). If it was measured, it also
    has
    - `frames_per_second`: codec steps of all streams together; prefill is part of the time;
    - `preparation_seconds`: the additional time of the first run, for compilation and graph capture;
    - `times_real_time`, `peak_gib`: speed relative to real time, and peak memory;
    - `limit_frames_per_second`: the minimal bytes of a frame at the measured memory bandwidth;
    - `share_of_limit`, and the numbers that these are computed from.

    Raises:
        InputError: several processes were launched, or SamplingConfig refuses a value.
    """
    device = single_device()
    model, tokenizer = load_random_model(config, device=device)
    prompt = _prompt(config, tokenizer)
    rate = copy_rate(device)
    variants = config.variants | (dict.fromkeys(TRANSFORMERS, {}) if config.plain else {})
    samplings = {
        (name, streams): variant_sampling(
            name, variants[name] | {"max_seconds": config.clip_seconds, "batch_size": streams}
        )
        for name in config.selected(variants)
        for streams in config.streams
    }
    for (name, streams), sampling in samplings.items():
        row = {"name": f"{name}, batch {streams}", "variant": name, "streams": streams, "fields": variants[name]}
        try:
            if name in TRANSFORMERS:
                run = partial(
                    _generate_by_transformers, model, prompt, sampling, seed=config.seed, **TRANSFORMERS[name]
                )
                row |= {"outcome": "measured"} | _measure(run, device=device, num_timed=config.timed_runs)
            else:
                prompts = [build_prompt(prompt, [], seed=config.seed + i, config=model.config) for i in range(streams)]
                with open_engine(model, sampling=sampling) as engine:
                    run = partial(engine.generate, prompts)
                    row |= {"outcome": "measured"} | _measure(run, device=device, num_timed=config.timed_runs)
            num_bytes = frame_bytes(
                model,
                streams=streams,
                context=len(prompt) + row["frames"] / streams / 2,
                int8=sampling.generation_weights == "int8",
            )
            limit = streams * rate / num_bytes
            row |= {
                "limit_frames_per_second": limit,
                "share_of_limit": row["frames_per_second"] / limit,
                "bytes_per_frame": num_bytes / streams,
                "copy_bytes_per_second": rate,
            }
        except torch.OutOfMemoryError:
            row["outcome"] = "out of memory"
        torch.compiler.reset()  # transformers compiles the model's own forward, which fills dynamo's cache
        torch.cuda.empty_cache()
        yield row


def variant_sampling(name: str, fields: dict[str, Any]) -> SamplingConfig:
    """The sampling of a variant.

    Raises:
        InputError: SamplingConfig refuses a value.
    """
    try:
        return SamplingConfig(**fields)
    except (ValueError, TypeError) as error:
        raise InputError(f"variant {name!r}: {error}") from error


def _prompt(config: BenchmarkGenerateConfig, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """The token ids (S,) that every stream begins with."""
    turns = conversation({"text": text_of_length(config.text_characters)}, task="single_speaker_smart_voice")
    return tokenize_prompt(turns[:-1], tokenizer, add_generation_prompt=True)


def _measure(run: Callable[[], Sequence[Clip]], *, device: torch.device, num_timed: int) -> dict[str, Any]:
    reset_peak_memory(device)
    seconds = []
    for _ in range(1 + num_timed):
        synchronize(device)
        began = time.perf_counter()
        clips = run()
        synchronize(device)
        seconds.append(time.perf_counter() - began)
    frames, best = sum(len(clip.codes) for clip in clips), min(seconds[1:])
    return {
        "frames_per_second": frames / best,
        "times_real_time": frames / best / FRAMES_PER_SECOND,
        "preparation_seconds": max(0.0, seconds[0] - best),
        "peak_gib": peak_memory_gib(),
        "frames": frames,
        "seconds": best,
    }


def _generate_by_transformers(
    model: HiggsAudioV2ForConditionalGeneration,
    prompt: Tensor,
    sampling: SamplingConfig,
    *,
    seed: int,
    **arguments: str,
) -> list[Clip]:
    """The clips of transformers' generate with the generation config of the checkpoint."""
    torch.manual_seed(seed)
    prompts = prompt.expand(sampling.batch_size, -1).to(model.device)  # (B, S)
    num_steps = round(sampling.max_seconds * FRAMES_PER_SECOND)
    frames = model.generate(
        input_ids=prompts,
        attention_mask=torch.ones_like(prompts),
        max_new_tokens=delayed_length(num_steps, model.config.num_codebooks),
        **arguments,
    )
    return [Clip(undelay_frames(clip), False) for clip in frames.cpu()]
