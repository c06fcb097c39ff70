"""Benchmark of generation: frames per second of clips of equal length, by this project and by transformers."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import HiggsAudioV2ForConditionalGeneration, PreTrainedTokenizerBase

from higgs_recipes.benchmarks.roofline import copy_rate, frame_bytes
from higgs_recipes.chatml import conversation
from higgs_recipes.configs.benchmark import BenchmarkGenerateConfig
from higgs_recipes.configs.inference import SamplingConfig
from higgs_recipes.configs.model import ModelConfig
from higgs_recipes.constants import FRAMES_PER_SECOND
from higgs_recipes.delay import undelay_frames
from higgs_recipes.devices import peak_memory_gib, single_device, synchronize
from higgs_recipes.errors import InputError
from higgs_recipes.generation.generate import Request, generate
from higgs_recipes.modeling.model import load_model
from higgs_recipes.modeling.random_model import random_checkpoint
from higgs_recipes.samples import tokenize_prompt


PLAIN = "transformers"  # name of the variant that uses transformers' own generate


def measure_generation(config: BenchmarkGenerateConfig) -> Iterator[dict[str, Any]]:
    """Yield a row of results for each variant and number of streams: of the second of two equal runs.

    A row has `name`, `variant`, `streams` and `outcome` ("measured" or "out of memory"). If it was measured, it also
    has
    - `frames_per_second`: codec steps of all streams together;
    - `times_real_time`, `peak_gib`: speed relative to real time, and peak memory;
    - `limit_frames_per_second`: the minimal bytes of a frame at the measured memory bandwidth;
    - `share_of_limit`, and the numbers that these are computed from.

    Raises:
        InputError: several processes were launched, or SamplingConfig refuses a value.
    """
    device = single_device()
    base = random_checkpoint(config.model_config, folder=Path(config.checkpoint_dir), seed=config.seed)
    model, tokenizer = load_model(ModelConfig(str(base), dtype=config.dtype), device=device)
    disable_eos(model)
    rate = copy_rate(device)
    variants = config.variants | ({PLAIN: {}} if config.plain else {})
    samplings = {
        (name, streams): _sampling(name, config, fields=variants[name], streams=streams)
        for name in config.selected(variants)
        for streams in config.streams
    }
    for (name, streams), sampling in samplings.items():
        row = {"name": f"{name}, batch {streams}", "variant": name, "streams": streams, "fields": variants[name]}
        try:
            run = _generate_by_transformers if name == PLAIN else _generate
            row |= {"outcome": "measured"} | _measure(
                lambda run=run, sampling=sampling: run(model, tokenizer, _requests(config, sampling), sampling),
                device=device,
            )
            prompt = len(_prompt(_requests(config, sampling)[0], tokenizer))
            num_bytes = frame_bytes(model, streams=streams, context=prompt + row["frames"] / streams / 2)
            limit = streams * rate / num_bytes
            row |= {
                "limit_frames_per_second": limit,
                "share_of_limit": row["frames_per_second"] / limit,
                "bytes_per_frame": num_bytes / streams,
                "copy_bytes_per_second": rate,
            }
        except torch.OutOfMemoryError:
            row["outcome"] = "out of memory"
        torch.cuda.empty_cache()
        yield row


def disable_eos(model: HiggsAudioV2ForConditionalGeneration) -> None:
    """Set the logit of EOS to 0, in place, so that every clip reaches its maximum length.

    With random weights half of all codes have a higher logit, so EOS is never among the top_k.
    """
    config = model.config
    with torch.no_grad():
        model.audio_lm_head.weight.unflatten(0, (config.num_codebooks, -1))[0, config.audio_stream_eos_id] = 0


def _sampling(name: str, config: BenchmarkGenerateConfig, *, fields: dict[str, Any], streams: int) -> SamplingConfig:
    try:
        return SamplingConfig(**(fields | {"max_seconds": config.clip_seconds, "batch_size": streams}))
    except (ValueError, TypeError) as error:
        raise InputError(f"variant {name!r}: {error}") from error


def _requests(config: BenchmarkGenerateConfig, sampling: SamplingConfig) -> list[Request]:
    text = ("The tide comes in. " * config.text_characters)[: config.text_characters]
    turns = conversation({"text": text}, task="single_speaker_smart_voice")
    return [Request(turns, [], config.seed + index) for index in range(sampling.batch_size)]


def _prompt(request: Request, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    return tokenize_prompt(request.conversation[:-1], tokenizer, add_generation_prompt=True)


def _measure(run: Callable[[], list[Tensor]], *, device: torch.device) -> dict[str, Any]:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    run()
    synchronize(device)
    began = time.perf_counter()
    clips = run()
    synchronize(device)
    seconds = time.perf_counter() - began
    frames = sum(map(len, clips))
    return {
        "frames_per_second": frames / seconds,
        "times_real_time": frames / seconds / FRAMES_PER_SECOND,
        "peak_gib": peak_memory_gib(),
        "frames": frames,
        "seconds": seconds,
    }


def _generate(
    model: HiggsAudioV2ForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    requests: list[Request],
    sampling: SamplingConfig,
) -> list[Tensor]:
    """Codes (T, C) of each request."""
    return [generation.codes for generation in generate(model, tokenizer, requests, sampling=sampling)]


def _generate_by_transformers(
    model: HiggsAudioV2ForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    requests: list[Request],
    sampling: SamplingConfig,
) -> list[Tensor]:
    """Like `_generate`, by transformers' generate with the generation config of the checkpoint."""
    torch.manual_seed(requests[0].seed)
    prompts = torch.stack([_prompt(request, tokenizer) for request in requests]).to(model.device)  # (B, S)
    num_steps = round(sampling.max_seconds * FRAMES_PER_SECOND)
    frames = model.generate(
        input_ids=prompts,
        attention_mask=torch.ones_like(prompts),
        max_new_tokens=num_steps + model.config.num_codebooks + 1,
    )
    return [undelay_frames(clip) for clip in frames.cpu()]
