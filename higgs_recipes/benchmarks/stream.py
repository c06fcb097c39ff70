"""Benchmark of streaming: the time to the first audio of each of several streams at once, and pauses after that."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import torch

from higgs_recipes.audio.codec import Codec
from higgs_recipes.benchmarks.random_models import load_random_codec, load_random_model, text_of_length
from higgs_recipes.chatml import conversation
from higgs_recipes.configs.benchmark import BenchmarkStreamConfig
from higgs_recipes.configs.inference import SamplingConfig
from higgs_recipes.constants import FRAMES_PER_SECOND, SAMPLE_RATE
from higgs_recipes.devices import peak_memory_gib, reset_peak_memory, single_device, synchronize
from higgs_recipes.generation.engine import Engine, open_engine
from higgs_recipes.generation.generate import Request, build_prompts
from higgs_recipes.generation.prefill import Prompt
from higgs_recipes.generation.stream import stream_clip


RUNS = 3  # the last one is measured: the first ones compile and capture, and allocate


def measure_streaming(config: BenchmarkStreamConfig) -> Iterator[dict[str, Any]]:
    """Yield a row of results for each number of streams that begin at the same time, each read by its own thread.

    A row has `name`, `streams`, `outcome` and
    - `first_audio_ms`: from the request to the samples of the first piece on the host, of the slowest stream;
    - `longest_pause_ms`: how late the latest piece comes for a player that starts with the first one; 0: never;
    - `frames_per_second`, `times_real_time`: codec steps of all streams together, prefill and codec included;
    - `preparation_seconds`, `peak_gib`: compilation and graph capture, and peak memory.

    Raises:
        InputError: several processes were launched, or a config of model or codec is invalid.
    """
    device = single_device()
    model, tokenizer = load_random_model(config, device=device)
    codec = load_random_codec(config, device=device)
    turns = conversation({"text": text_of_length(config.text_characters)}, task="single_speaker_smart_voice")
    for streams in config.streams:
        requests = [Request(turns, [], seed=config.seed + index) for index in range(streams)]
        prompts = build_prompts(requests, tokenizer, model.config)
        sampling = SamplingConfig(max_seconds=config.clip_seconds, batch_size=streams)
        with open_engine(model, sampling=sampling) as engine:
            engine.reserve(streams, max(len(prompt.ids) for prompt in prompts))
            reset_peak_memory(device)
            with ThreadPoolExecutor(streams) as pool:  # one for all runs: cuDNN plans anew in each thread
                for _ in range(RUNS):
                    synchronize(device)
                    row = _measure(engine, prompts, codec, pool=pool)
            row |= {"preparation_seconds": engine.preparation_seconds, "peak_gib": peak_memory_gib()}
        torch.cuda.empty_cache()
        yield {"name": f"{streams} streams", "streams": streams, "outcome": "measured"} | row


def _measure(engine: Engine, prompts: list[Prompt], codec: Codec, *, pool: ThreadPoolExecutor) -> dict[str, Any]:
    barrier, began = Barrier(len(prompts)), time.perf_counter()

    def read(prompt: Prompt) -> list[tuple[float, float]]:
        """For each piece: seconds until it came, and seconds of audio."""
        barrier.wait()
        return [
            (time.perf_counter() - began, len(piece.waveform) / SAMPLE_RATE)
            for piece in stream_clip(engine, prompt, codec)
        ]

    streams = list(pool.map(read, prompts))
    seconds = time.perf_counter() - began
    audio_seconds = sum(length for pieces in streams for _, length in pieces)
    return {
        "first_audio_ms": 1000 * max(pieces[0][0] for pieces in streams),
        "longest_pause_ms": 1000 * max(map(_longest_pause, streams)),
        "frames_per_second": audio_seconds * FRAMES_PER_SECOND / seconds,
        "times_real_time": audio_seconds / seconds,
        "audio_seconds": audio_seconds,
        "seconds": seconds,
    }


def _longest_pause(pieces: list[tuple[float, float]]) -> float:
    """Seconds by which the latest piece comes after all earlier ones have been played.

    >>> _longest_pause([(0.5, 1.0), (1.25, 1.0), (3.0, 1.0)])
    0.5
    """
    played_until, longest = pieces[0][0], 0.0
    for arrival, length in pieces:
        longest = max(longest, arrival - played_until)
        played_until = max(arrival, played_until) + length
    return longest
