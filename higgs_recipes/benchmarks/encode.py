"""Benchmark of encoding: speed relative to real time, and the share of frames with the codes of exact float32."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from higgs_recipes.audio.codec import Codec, load_codec
from higgs_recipes.audio.random_codec import synthetic_audio
from higgs_recipes.benchmarks.random_models import random_codec_folder
from higgs_recipes.benchmarks.roofline import matmul_rate
from higgs_recipes.configs.benchmark import BenchmarkEncodeConfig
from higgs_recipes.constants import FRAMES_PER_SECOND, SAMPLE_RATE
from higgs_recipes.devices import peak_memory_gib, reset_peak_memory, single_device, synchronize


ROUNDS = 3  # timed rounds, after one warm-up


def measure_encoding(config: BenchmarkEncodeConfig) -> Iterator[dict[str, Any]]:
    """Yield a row of results for each arithmetic and number of clips encoded together.

    A row has `name`, `arithmetic`, `batch_size` and `outcome` ("measured" or "out of memory"). If it was measured, it
    also has
    - `times_real_time`: seconds of audio per second, from waveforms to codes in host memory;
    - `peak_gib`: peak memory;
    - `equal_frames`, `equal_codes`: shares equal to exact float32 with each clip alone; a frame has all codebooks;
    - `limit_times_real_time`: the FLOPs that torch counts, at the measured rate of matrix products in that arithmetic;
    - `share_of_limit`, and the numbers that these are computed from.

    Raises:
        InputError: several processes were launched, or the config is not that of a codec.
    """
    device = single_device()
    folder = random_codec_folder(config, device=device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        num_steps = round(config.clip_seconds * FRAMES_PER_SECOND)
        waveforms = synthetic_audio(config.num_clips, num_steps=num_steps)  # (clips, N)
    codec = load_codec(folder, revision=None, device=device)
    expected = torch.stack([codec.encode([waveform])[0] for waveform in waveforms])  # (clips, T, C)
    with FlopCounterMode(display=False) as counter, torch.no_grad():  # the counter does not work in inference_mode
        codec.model.encode(waveforms[:1, None].to(device))
    flops = counter.get_total_flops() / config.clip_seconds  # per second of audio

    for arithmetic in config.arithmetic:
        codec = load_codec(folder, revision=None, device=device)
        torch._dynamo.reset()
        if arithmetic.endswith("_compiled"):
            for module in (codec.model.acoustic_encoder, codec.model.encoder_semantic, codec.model.semantic_model):
                module.compile()
        for size in config.batch_sizes:
            row = {"name": f"{arithmetic}, batch {size}", "arithmetic": arithmetic, "batch_size": size}
            try:
                row |= {"outcome": "measured"} | _measure(
                    codec, waveforms, arithmetic=arithmetic, batch_size=size, expected=expected
                )
                with _arithmetic(arithmetic):
                    dtype = torch.bfloat16 if arithmetic == "bfloat16" else torch.float32
                    limit = matmul_rate(device, dtype) / flops
                row |= {
                    "limit_times_real_time": limit,
                    "share_of_limit": row["times_real_time"] / limit,
                    "flops_per_audio_second": flops,
                }
            except torch.OutOfMemoryError:
                row["outcome"] = "out of memory"
            torch.cuda.empty_cache()
            yield row


def _measure(codec: Codec, waveforms: Tensor, *, arithmetic: str, batch_size: int, expected: Tensor) -> dict[str, Any]:
    device = codec.model.device
    reset_peak_memory(device)
    seconds = []
    for _ in range(1 + ROUNDS):
        synchronize(device)
        began = time.perf_counter()
        codes = torch.cat([_encode(codec, batch, arithmetic=arithmetic) for batch in waveforms.split(batch_size)])
        seconds.append(time.perf_counter() - began)
    is_equal = codes == expected  # (clips, T, C)
    fastest, audio_seconds = min(seconds[1:]), expected.shape[0] * expected.shape[1] / FRAMES_PER_SECOND
    return {
        "times_real_time": audio_seconds / fastest,
        "peak_gib": peak_memory_gib(),
        "equal_frames": is_equal.all(dim=-1).float().mean().item(),
        "equal_codes": is_equal.float().mean().item(),
        "audio_seconds": audio_seconds,
        "seconds": fastest,
        "distinct_codes": len(codes[..., 0].unique()),
    }


@torch.inference_mode()
def _encode(codec: Codec, waveforms: Tensor, *, arithmetic: str) -> Tensor:
    """Waveforms (B, N) in host memory -> codes (B, T, C) in host memory."""
    if arithmetic.removesuffix("_compiled") == "float32":  # the complete `Codec.encode`
        batch_seconds = (len(waveforms) + 1) * waveforms.shape[1] / SAMPLE_RATE  # large enough for one batch
        return torch.stack(codec.encode(list(waveforms), batch_seconds=batch_seconds))
    with _arithmetic(arithmetic):
        codes = codec.model.encode(waveforms[:, None].to(codec.model.device)).audio_codes  # (B, C, T)
    return codes.transpose(1, 2).to("cpu", torch.int16)


@contextmanager
def _arithmetic(name: str) -> Iterator[None]:
    """Set the arithmetic: exact float32, tf32, tf32 in convolutions only (default), or autocast to bfloat16."""
    kind = name.removesuffix("_compiled")
    convolutions = "tf32" if kind in ("tf32", "default") else "ieee"
    flags = {"deterministic": True, "allow_tf32": convolutions == "tf32", "fp32_precision": convolutions}
    with ExitStack() as stack:
        stack.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
        torch.set_float32_matmul_precision("high" if kind == "tf32" else "highest")
        stack.enter_context(torch.backends.cudnn.flags(enabled=True, **flags))
        if kind == "bfloat16":
            stack.enter_context(torch.autocast("cuda" if torch.cuda.is_available() else "cpu", dtype=torch.bfloat16))
        yield
