"""Roofline limits: the minimal FLOPs of a training step, the minimal bytes of a frame, the measured device rates."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn
from transformers import HiggsAudioV2ForConditionalGeneration

from higgs_recipes.devices import synchronize
from higgs_recipes.modeling.fp8 import FLOAT8, Float8Linear
from higgs_recipes.modeling.nf4 import NF4Linear


# Side of the timed matrices and number of copied bytes: large enough to hide launch overhead.
MATRIX_SIDE = {"cuda": 8192, "cpu": 512}
COPY_BYTES = {"cuda": 2**32, "cpu": 2**26}


@dataclass(frozen=True)
class StepWork:
    """Number of positions that the parts of the model process in one optimizer step."""

    text: int  # text positions
    audio: int  # audio positions
    text_labels: int
    audio_labels: int  # frames with a label in any codebook
    pairs: int  # pairs of a position and one that it attends to, including itself


class StepFlops(NamedTuple):
    """Floating point operations of an optimizer step, by the type of the products."""

    main: int  # in the type of the recipe, bfloat16 or float32
    float8: int


def training_flops(model: nn.Module, work: StepWork) -> StepFlops:
    """The minimal FLOPs of a step: a multiplication and an addition per weight and position.

    For every linear module this counts the forward pass, the gradient of the input, and the gradient of the weight if
    it is trained: 4 FLOPs per weight and position for frozen modules under an adapter, 6 for trained modules. Each
    position passes one of the two feed-forward networks, heads process labeled positions only, and attention is
    causal. Recomputation by gradient checkpointing is not counted.

    Args:
        model: the bare model, with its adapter.
        work: the positions of a step.
    """
    num_positions = {
        ".self_attn.": work.text + work.audio,
        ".mlp.": work.text,
        ".audio_mlp.": work.audio,
        "text_lm_head": work.text_labels,
        "audio_lm_head": work.audio_labels,
    }
    main = float8 = 0
    for name, module in model.named_modules():
        if isinstance(module, (nn.Linear, Float8Linear, NF4Linear)):
            (positions,) = {count for part, count in num_positions.items() if part in name}
            if isinstance(module, Float8Linear):
                float8 += 2 * 2 * positions * module.forward_values.numel()
            else:  # in_features and out_features, because a quantized weight has another shape
                passes = 3 if any(weight.requires_grad for weight in module.parameters(recurse=False)) else 2
                main += 2 * passes * positions * module.in_features * module.out_features
    config = model.config
    # Two products, of queries with keys and of scores with values; each has two more in the backward pass.
    attention = 2 * 2 * config.num_attention_heads * config.head_dim * work.pairs * config.num_hidden_layers
    return StepFlops(main + 3 * attention, float8)


def frame_bytes(
    model: HiggsAudioV2ForConditionalGeneration, *, streams: int, context: float, int8: bool = False
) -> float:
    """The minimal bytes read to generate one frame in each stream: the weights once, and the cache of each stream.

    Args:
        model: the bare model.
        streams: number of clips generated together.
        context: number of positions that a frame attends to, averaged over a clip.
        int8: the layers' matrices have one byte a number.
    """
    layers = model.model.layers
    text_only = (".mlp.", "layers.input_layernorm", "layers.post_attention_layernorm")
    weights = sum(
        weight.numel() * (1 if int8 and weight.ndim == 2 else weight.element_size())
        for layer in layers
        for name, weight in layer.named_parameters(prefix="layers")
        if not any(part in name for part in text_only)
    )
    head = model.audio_lm_head.weight
    config = model.config
    cache_per_position = 2 * len(layers) * config.num_key_value_heads * config.head_dim * head.element_size()
    return weights + head.numel() * head.element_size() + streams * context * cache_per_position


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Measured FLOPs per second of a product of large random matrices."""
    side = MATRIX_SIDE[device.type]
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2 * side**3 / _seconds(lambda: left @ right, device=device)


def float8_rate(device: torch.device) -> float:
    """Like `matmul_rate`, in float8 with one scale per matrix."""
    side = MATRIX_SIDE[device.type]
    left, right = (torch.randn(side, side, device=device).to(FLOAT8) for _ in range(2))
    scale = torch.ones((), device=device)

    def multiply() -> torch.Tensor:
        return torch._scaled_mm(
            left, right.t(), scale_a=scale, scale_b=scale, out_dtype=torch.bfloat16, use_fast_accum=True
        )

    return 2 * side**3 / _seconds(multiply, device=device)


def copy_rate(device: torch.device) -> float:
    """Measured memory bandwidth in bytes per second, reads and writes, of a large copy."""
    source = torch.zeros(COPY_BYTES[device.type], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * len(source) / _seconds(lambda: target.copy_(source), device=device)


def _seconds(action: Callable[[], object], *, device: torch.device) -> float:
    """Seconds per call, in the fastest of three rounds: slower ones are affected by other processes."""
    rounds = []
    for _ in range(4):  # the first is a warm-up
        synchronize(device)
        began = time.perf_counter()
        for _ in range(10):
            action()
        synchronize(device)
        rounds.append((time.perf_counter() - began) / 10)
    return min(rounds[1:])
