"""The variable-length forward against transformers' on one GPU, with a small model: accuracy, host waits, graphs.

python -m tests.experiments.fast_speed OUTPUT.json

The weights are random. Needs only the core package. scripts/benchmark.py measures the speed at the published size.
"""

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
from higgs_recipes.configs.sft import SFTConfig
from higgs_recipes.loss import attach_losses, dual_ffn_losses
from higgs_recipes.modeling.lora import add_lora
from higgs_recipes.modeling.varlen_forward import attach_varlen_forward
from higgs_recipes.unwrap import unwrap_model


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
PACK_TO = 1024
NUM_ROWS, CLIPS_PER_ROW, CLIP_STEPS, TEXT_TOKENS = 22, 8, 90, 28
NUM_WARM, NUM_TIMED = 6, 6


def samples(num_samples: int, *, seed: int) -> list[dict]:
    """Samples of text and a clip of about `CLIP_STEPS` steps."""
    generator = torch.Generator().manual_seed(seed)
    built = []
    for _ in range(num_samples):
        steps = CLIP_STEPS - int(torch.randint(0, CLIP_STEPS // 10, (), generator=generator))
        ids = torch.randint(10, 300, (TEXT_TOKENS,), generator=generator)
        ids[TEXT_TOKENS - 3] = AUDIO_TOKEN
        labels = torch.full_like(ids, -100)
        labels[-2:] = ids[-2:]
        codes = torch.randint(0, 1024, (steps, 8), generator=generator)
        built.append({"input_ids": ids, "labels": labels, "codes": [codes], "supervise": [True]})
    return built


def batches(num_batches: int, *, flat: bool) -> list[dict[str, Any]]:
    collator = HiggsCollator(HiggsAudioV2Config(**TINY), pack_to=PACK_TO, flat=flat)
    return [to_gpu(collator(samples(NUM_ROWS * CLIPS_PER_ROW, seed=index))) for index in range(num_batches)]


def to_gpu(batch: Any) -> Any:
    if isinstance(batch, dict):
        return {name: to_gpu(value) for name, value in batch.items()}
    return batch.cuda() if isinstance(batch, torch.Tensor) else batch


def build(*, dtype: torch.dtype, method: str, varlen: bool, compiled: bool = False) -> nn.Module:
    config = HiggsAudioV2Config(**TINY)
    config._attn_implementation = "sdpa"
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    with torch.device("cuda"):
        model = HiggsAudioV2ForConditionalGeneration(config, use_text_head=True)
    torch.set_default_dtype(torch.float32)
    # Like load_model: under autocast the sum over codebooks is float32.
    model.model.embed_audio_tokens.register_forward_hook(lambda module, _, summed: summed.to(dtype))
    if method == "lora":
        model = add_lora(model, SFTConfig(output_dir="unused", datasets=["none"], report_to="none"))
        torch.manual_seed(1)
        for name, weight in model.named_parameters():
            if "lora_B" in name:  # a new adapter would not change the output
                nn.init.normal_(weight, std=0.02)
    if varlen:
        attach_varlen_forward(unwrap_model(model), compile_layers=compiled)
    attach_losses(unwrap_model(model), compiled=compiled)
    return model.train()


def mean_loss(model: nn.Module, batch: dict[str, Any], *, autocast: bool) -> torch.Tensor:
    with torch.autocast("cuda", dtype=torch.bfloat16, enabled=autocast):
        losses = dual_ffn_losses(model, batch)
    return losses.text_sum / losses.text_count + (losses.codebook_sums / losses.codebook_counts).mean()


@contextmanager
def no_host_wait() -> Iterator[None]:
    """Raise RuntimeError where the host waits for the GPU."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def gradients(**options: Any) -> tuple[float, torch.Tensor]:
    """The loss of one batch, and all gradients as one vector."""
    autocast = options.pop("autocast", False)
    collator = HiggsCollator(HiggsAudioV2Config(**TINY), pack_to=PACK_TO, flat=options["varlen"])
    batch = to_gpu(collator(samples(2 * CLIPS_PER_ROW, seed=0)))
    model = build(**options)
    loss = mean_loss(model, batch, autocast=autocast)
    loss.backward()
    vector = torch.cat([weight.grad.flatten().float() for weight in model.parameters() if weight.grad is not None])
    return loss.item(), vector


def compare(method: str) -> dict[str, Any]:
    """Relative distances of loss and gradient from transformers' forward in float32, on the tiny model."""
    half = {"dtype": torch.bfloat16, "method": method}
    exact_loss, exact = gradients(dtype=torch.float32, method=method, varlen=False)
    found = {
        "float32_varlen": gradients(dtype=torch.float32, method=method, varlen=True),
        "bf16_original": gradients(**half, varlen=False),
        "bf16_varlen": gradients(**half, varlen=True),
        "bf16_compiled": gradients(**half, varlen=True, compiled=True),
        "autocast_original": gradients(dtype=torch.float32, method=method, varlen=False, autocast=True),
        "autocast_varlen": gradients(dtype=torch.float32, method=method, varlen=True, autocast=True),
        "autocast_compiled": gradients(dtype=torch.float32, method=method, varlen=True, autocast=True, compiled=True),
    }
    return {
        name: {
            "loss": abs(loss - exact_loss) / exact_loss,
            "gradient": float((vector - exact).norm() / exact.norm()),
            "largest_gradient": float((vector - exact).abs().max() / exact.abs().max()),
        }
        for name, (loss, vector) in found.items()
    }


def measure(*, method: str, varlen: bool, compiled: bool = False) -> dict:
    """Run steps on batches of different lengths: the duration of a step, the graphs after warm-up and at the end.

    Raises:
        RuntimeError: after warm-up, a step of the variable-length forward waits for the GPU.
    """
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    model = build(dtype=torch.float32, method=method, varlen=varlen, compiled=compiled)
    optimizer = torch.optim.AdamW([w for w in model.parameters() if w.requires_grad], lr=1e-5, fused=True)
    seconds, graphs = [], []
    for index, batch in enumerate(batches(NUM_WARM + NUM_TIMED, flat=varlen)):
        torch.cuda.synchronize()
        started = time.perf_counter()
        if varlen and index >= NUM_WARM:
            with no_host_wait():
                mean_loss(model, batch, autocast=True).backward()
        else:
            mean_loss(model, batch, autocast=True).backward()
        optimizer.step()
        optimizer.zero_grad()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    return {
        "milliseconds": round(1000 * sum(seconds[NUM_WARM:]) / NUM_TIMED, 2),
        "graphs_after_warm_up_and_at_the_end": [graphs[NUM_WARM - 1], graphs[-1]],
    }


def run(report: dict[str, Any]) -> None:
    report["device"], report["torch"] = torch.cuda.get_device_name(), torch.__version__
    for method in ("full", "lora"):
        report[f"distance_{method}"] = compare(method)
    for name, options in {"original": {"varlen": False}, "varlen": {"varlen": True}}.items():
        report[name] = measure(method="full", **options)
    report["compiled"] = measure(method="full", varlen=True, compiled=True)


def main() -> None:
    report: dict[str, Any] = {}
    try:
        run(report)
    finally:  # keep the results before a failure
        Path(sys.argv[1]).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        print(json.dumps(report, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
