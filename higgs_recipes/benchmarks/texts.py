"""Benchmark of a whole batch of texts of many lengths, each cloning a clip: from reference waveforms to wav files.

The engine and the codec run as in generate. What generate also writes to continue a killed run is left out.
"""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from higgs_recipes.audio.codec import Codec
from higgs_recipes.audio.random_codec import synthetic_audio
from higgs_recipes.audio.wav_file import write_wav_parts
from higgs_recipes.benchmarks.generate import variant_sampling
from higgs_recipes.benchmarks.random_models import load_random_codec, load_random_model, text_of_length
from higgs_recipes.chatml import conversation
from higgs_recipes.configs.benchmark import BenchmarkTextsConfig
from higgs_recipes.constants import FRAMES_PER_SECOND
from higgs_recipes.delay import delayed_length
from higgs_recipes.devices import peak_memory_gib, reset_peak_memory, single_device, synchronize
from higgs_recipes.generation.engine import Engine, open_engine
from higgs_recipes.generation.generate import Request, build_prompts


RUNS = 2  # the second one is measured; the first one compiles, captures and allocates


def measure_texts(config: BenchmarkTextsConfig) -> Iterator[dict[str, Any]]:
    """Yield a row of results for each variant: of the second of two equal runs.

    A run encodes the reference clips, generates a clip for each text, decodes the clips and writes them as wav files.
    A row has `name`, `variant`, `outcome` and
    - `seconds`, and its parts `encode_seconds`, `generate_seconds` and `write_seconds`;
    - `first_seconds`: those of the first run, with compilation and graph capture;
    - `texts`, `audio_seconds`, `times_real_time`, `frames_per_second`: of the whole run;
    - `peak_gib`: peak memory.

    Raises:
        InputError: several processes were launched, or a config of model, codec or sampling is invalid.
    """
    device = single_device()
    samplings = {
        name: variant_sampling(name, config.variants[name] | {"max_seconds": config.clip_seconds})
        for name in config.selected(config.variants)
    }
    model, tokenizer = load_random_model(config, device=device)
    codec = load_random_codec(config, device=device)

    generator = torch.Generator().manual_seed(config.seed)
    shortest, longest = (round(seconds * FRAMES_PER_SECOND) for seconds in (config.min_seconds, config.clip_seconds))
    lengths = torch.randint(shortest, longest + 1, (config.num_texts,), generator=generator).tolist()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        clips = synthetic_audio(config.num_texts, num_steps=round(config.ref_seconds * FRAMES_PER_SECOND))  # (N, S)

    def run(engine: Engine, output_dir: Path) -> tuple[list[float], float]:
        """Times at the start and after each part, and seconds of audio."""
        times = [_now(device)]
        ref_codes = codec.encode(list(clips))
        times.append(_now(device))
        requests = [
            _request(length, codes, index, config=config)
            for index, (length, codes) in enumerate(zip(lengths, ref_codes, strict=True))
        ]
        prompts = [
            prompt._replace(max_frames=delayed_length(length, model.config.num_codebooks))
            for prompt, length in zip(build_prompts(requests, tokenizer, model.config), lengths, strict=True)
        ]
        generated = [clip.codes for clip in engine.generate(prompts)]
        times.append(_now(device))
        _write(codec, generated, output_dir)
        return [*times, _now(device)], sum(map(len, generated)) / FRAMES_PER_SECOND

    for name, sampling in samplings.items():
        reset_peak_memory(device)
        with open_engine(model, sampling=sampling) as engine:
            runs = []
            for _ in range(RUNS):
                with tempfile.TemporaryDirectory() as output_dir:
                    runs.append(run(engine, Path(output_dir)))
        (first, _), (times, audio_seconds) = runs[0], runs[-1]
        seconds = times[-1] - times[0]
        parts = [after - before for before, after in zip(times, times[1:], strict=False)]
        yield {
            "name": f"{name}, {config.num_texts} texts",
            "variant": name,
            "outcome": "measured",
            "fields": config.variants[name],
            "texts": config.num_texts,
            "seconds": seconds,
            **dict(zip(("encode_seconds", "generate_seconds", "write_seconds"), parts, strict=True)),
            "first_seconds": first[-1] - first[0],
            "audio_seconds": audio_seconds,
            "times_real_time": audio_seconds / seconds,
            "frames_per_second": audio_seconds * FRAMES_PER_SECOND / seconds,
            "peak_gib": peak_memory_gib(),
        }


def _now(device: torch.device) -> float:
    synchronize(device)
    return time.perf_counter()


def _request(length: int, ref_codes: Tensor, index: int, *, config: BenchmarkTextsConfig) -> Request:
    """The request of a text that is as long as a clip of a number of frames."""
    num_characters = round(length / FRAMES_PER_SECOND * config.characters_per_second)
    num_ref_characters = round(config.ref_seconds * config.characters_per_second)
    text, ref_text = text_of_length(num_characters), text_of_length(num_ref_characters)
    row = {"text": text, "speaker_tag": "SPEAKER0", "ref_audio": "reference.wav", "ref_text": ref_text}
    turns = conversation(row, task="zero_shot_voice_cloning")
    return Request(turns, [ref_codes], seed=config.seed + index)


def _write(codec: Codec, clips: list[Tensor], output_dir: Path) -> None:
    for index, waveform in enumerate(codec.decode_in_turn(clips)):
        write_wav_parts(output_dir / f"{index:04d}.wav", [waveform])
