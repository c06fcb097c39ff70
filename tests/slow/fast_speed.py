"""Plain against fast: equality in float32 and bf16, host waits, and positions a second, on one GPU.

python -m tests.slow.fast_speed OUTPUT.json [tiny] [true]

Random weights; needs only the core, for the true size 80 GB of GPU memory. What was asked for is in the report as soon
as it is measured.
"""

import gc
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import HiggsAudioV2Config, HiggsAudioV2ForConditionalGeneration

from higgs_recipes.collator import HiggsCollator
from higgs_recipes.configs import SFTConfig
from higgs_recipes.fast_path import attach_fast_path
from higgs_recipes.loss import attach_losses, dual_ffn_losses
from higgs_recipes.modeling import add_lora, innermost


AUDIO_TOKEN = 9
TINY = {
    "vocab_size": 320,
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "audio_bos_token_id": 3,
    "audio_delay_token_id": 4,
    "audio_token_id": AUDIO_TOKEN,
    "codebook_size": 1026,
}
TRUE = {"codebook_size": 1026, "audio_token_id": AUDIO_TOKEN}
# name: (config, positions a row, rows, clips a row, codec steps of a clip, tokens of text)
SIZES = {"tiny": (TINY, 1024, 22, 8, 90, 28), "true": (TRUE, 8192, 1, 25, 250, 60)}
NUM_WARM, NUM_TIMED = 6, 6


def samples(num_samples: int, *, num_steps: int, num_tokens: int, seed: int) -> list[dict]:
    """Clips of about `num_steps` with some text before each, as a recipe's samples are."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(num_samples):
        steps = num_steps - int(torch.randint(0, num_steps // 10, (), generator=generator))
        ids = torch.randint(10, 300, (num_tokens,), generator=generator)
        ids[num_tokens - 3] = AUDIO_TOKEN
        labels = torch.full_like(ids, -100)
        labels[-2:] = ids[-2:]
        codes = torch.randint(0, 1024, (steps, 8), generator=generator)
        made.append({"input_ids": ids, "labels": labels, "codes": [codes], "supervise": [True]})
    return made


def batches(size: str, num_batches: int, *, flat: bool) -> list[dict[str, Any]]:
    fields, pack_to, num_rows, clips, steps, tokens = SIZES[size]
    collator = HiggsCollator(HiggsAudioV2Config(**fields), pack_to=pack_to, flat=flat)
    drawn = (samples(num_rows * clips, num_steps=steps, num_tokens=tokens, seed=index) for index in range(num_batches))
    return [to_gpu(collator(each)) for each in drawn]


def to_gpu(batch: Any) -> Any:
    if isinstance(batch, dict):
        return {name: to_gpu(value) for name, value in batch.items()}
    return batch.cuda() if isinstance(batch, torch.Tensor) else batch


def build(fields: dict, *, dtype: torch.dtype, method: str, fast: bool, compiled: bool = False) -> nn.Module:
    config = HiggsAudioV2Config(**fields)
    config._attn_implementation = "sdpa"
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    with torch.device("cuda"):
        model = HiggsAudioV2ForConditionalGeneration(config, use_text_head=True)
    torch.set_default_dtype(torch.float32)
    # As load_model does it: under autocast the sum over codebooks is float32.
    model.model.embed_audio_tokens.register_forward_hook(lambda module, _, summed: summed.to(dtype))
    if method == "lora":
        model = add_lora(model, SFTConfig(output_dir="unused", datasets=["none"], report_to="none"))
        torch.manual_seed(1)
        for name, weight in model.named_parameters():
            if "lora_B" in name:  # an adapter of zeros would be no test
                nn.init.normal_(weight, std=0.02)
    if fast:
        attach_fast_path(innermost(model), compile_layers=compiled)
    attach_losses(innermost(model), compiled=compiled)
    return model.train()


def mean_loss(model: nn.Module, batch: dict[str, Any], *, autocast: bool) -> torch.Tensor:
    with torch.autocast("cuda", dtype=torch.bfloat16, enabled=autocast):
        losses = dual_ffn_losses(model, batch)
    return losses.text_sum / losses.text_count + (losses.codebook_sums / losses.codebook_counts).mean()


@contextmanager
def no_host_wait() -> Iterator[None]:
    """Raises where the host waits for the GPU."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def free() -> None:
    gc.collect()
    torch.cuda.empty_cache()


def gradients(size: str, *, steps: int = 1, **options: Any) -> tuple[float, torch.Tensor]:
    """The loss of one batch and all its gradients in one vector."""
    autocast = options.pop("autocast", False)
    fields, pack_to, _, clips, num_steps, num_tokens = SIZES[size]
    collator = HiggsCollator(HiggsAudioV2Config(**fields), pack_to=pack_to, flat=options["fast"])
    batch = to_gpu(collator(samples(2 * clips, num_steps=num_steps, num_tokens=num_tokens, seed=0)))
    model = build(fields, **options)
    loss = mean_loss(model, batch, autocast=autocast)
    loss.backward()
    vector = torch.cat([weight.grad.flatten().float() for weight in model.parameters() if weight.grad is not None])
    return loss.item(), vector


def compare(method: str) -> dict[str, Any]:
    """Distances between the paths on the tiny model: relative, of the loss and of the gradient as one vector."""
    half = {"dtype": torch.bfloat16, "method": method}
    exact_loss, exact = gradients("tiny", dtype=torch.float32, method=method, fast=False)
    found = {
        "float32_fast": gradients("tiny", dtype=torch.float32, method=method, fast=True),
        "bf16_plain": gradients("tiny", **half, fast=False),
        "bf16_fast": gradients("tiny", **half, fast=True),
        "bf16_compiled": gradients("tiny", **half, fast=True, compiled=True),
        "autocast_plain": gradients("tiny", dtype=torch.float32, method=method, fast=False, autocast=True),
        "autocast_fast": gradients("tiny", dtype=torch.float32, method=method, fast=True, autocast=True),
        "autocast_compiled": gradients(
            "tiny", dtype=torch.float32, method=method, fast=True, autocast=True, compiled=True
        ),
    }
    return {
        name: {
            "loss": abs(loss - exact_loss) / exact_loss,
            "gradient": float((vector - exact).norm() / exact.norm()),
            "largest_gradient": float((vector - exact).abs().max() / exact.abs().max()),
        }
        for name, (loss, vector) in found.items()
    }


def measure(size: str, *, method: str, fast: bool, compiled: bool = False, checkpointing: bool = False) -> dict:
    """Steps on batches that differ in every length: positions a second of the later ones, and graphs made by then."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    made = batches(size, NUM_WARM + NUM_TIMED, flat=fast)
    dtype = torch.bfloat16 if size == "true" else torch.float32
    model = build(SIZES[size][0], dtype=dtype, method=method, fast=fast, compiled=compiled)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    optimizer = torch.optim.AdamW([w for w in model.parameters() if w.requires_grad], lr=1e-5, fused=True)
    torch.cuda.reset_peak_memory_stats()
    began, seconds, num_positions, graphs = time.perf_counter(), [], [], []
    for index, batch in enumerate(made):
        torch.cuda.synchronize()
        started = time.perf_counter()
        if fast and index >= NUM_WARM:
            with no_host_wait():
                mean_loss(model, batch, autocast=True).backward()
        else:
            mean_loss(model, batch, autocast=True).backward()
        optimizer.step()
        optimizer.zero_grad()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
        num_positions.append(int((batch["input_ids"] != model.config.pad_token_id).sum()))
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    return {
        "positions_per_second": round(sum(num_positions[NUM_WARM:]) / sum(seconds[NUM_WARM:])),
        "milliseconds": round(1000 * sum(seconds[NUM_WARM:]) / NUM_TIMED, 2),
        "positions": num_positions[-1],
        "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2),
        "warm_up_seconds": round(sum(seconds[:NUM_WARM]), 1),
        "graphs_when_warm_and_at_the_end": [graphs[NUM_WARM - 1], graphs[-1]],
        "seconds": round(time.perf_counter() - began, 1),
    }


def run(report: dict[str, Any], sizes: list[str]) -> None:
    report["device"], report["torch"] = torch.cuda.get_device_name(), torch.__version__
    wanted: dict[str, list[dict]] = {
        "tiny": [
            {"method": "full", "fast": False},
            {"method": "full", "fast": True},
            {"method": "full", "fast": True, "compiled": True},
        ],
        "true": [
            {"method": "lora", "fast": True, "compiled": True},
            {"method": "lora", "fast": True},
            {"method": "lora", "fast": True, "compiled": True, "checkpointing": True},
            {"method": "lora", "fast": False, "checkpointing": True},
        ],
    }
    if "tiny" in sizes:
        for method in ("full", "lora"):
            report[f"distance_{method}"] = compare(method)
    for size in sizes:
        for options in wanted[size]:
            name = "_".join([size, *(str(key if value is True else value) for key, value in options.items() if value)])
            try:
                report[name if options["fast"] else f"{name}_plain"] = measure(size, **options)
            finally:
                free()


def main() -> None:
    report: dict[str, Any] = {}
    try:
        run(report, sys.argv[2:] or list(SIZES))
    finally:  # what was measured before a failure is worth keeping
        Path(sys.argv[1]).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        print(json.dumps(report, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
