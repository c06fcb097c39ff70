"""What arithmetic and memory allow: the least work of a training step, the bytes of a frame, the rates of a device."""

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


# Side of the matrices whose product is timed, and bytes that are copied: large enough that neither is waited for.
MATRIX_SIDE = {"cuda": 8192, "cpu": 512}
COPY_BYTES = {"cuda": 2**32, "cpu": 2**26}


@dataclass(frozen=True)
class StepWork:
    """What goes through the model in one optimizer step."""

    text: int  # positions
    audio: int
    text_labels: int
    audio_labels: int  # frames in which a codebook has one
    pairs: int  # of a position and one that it attends to, itself among them


class StepFlops(NamedTuple):
    """Floating point operations of an optimizer step, by the type of what is multiplied."""

    plain: int  # the recipe's own, bfloat16 or float32
    float8: int


def training_flops(model: nn.Module, work: StepWork) -> StepFlops:
    """The least operations of a step: a multiplication and an addition for each weight and position.

    Forward and the gradient of what goes in are counted for every linear module, the gradient of its weight where that
    is trained: 4 times the weights for what is frozen under an adapter, 6 for what is trained. Each position goes
    through one of the two feed-forward networks, a head sees only what has a label, attention only looks back, and
    nothing is computed twice: gradient checkpointing does more for the same.
    """
    routes = {
        ".self_attn.": work.text + work.audio,
        ".mlp.": work.text,
        ".audio_mlp.": work.audio,
        "text_lm_head": work.text_labels,
        "audio_lm_head": work.audio_labels,
    }
    plain = float8 = 0
    for name, module in model.named_modules():
        if isinstance(module, (nn.Linear, Float8Linear, NF4Linear)):
            (positions,) = {routes[route] for route in routes if route in name}
            if isinstance(module, Float8Linear):
                float8 += 2 * 2 * positions * module.forward_values.numel()
            else:  # a quantized weight has another shape than its module says
                passes = 3 if any(weight.requires_grad for weight in module.parameters(recurse=False)) else 2
                plain += 2 * passes * positions * module.in_features * module.out_features
    config = model.config
    # Scores and their use, each a product; and two more of each in the backward pass.
    attention = 2 * 2 * config.num_attention_heads * config.head_dim * work.pairs * config.num_hidden_layers
    return StepFlops(plain + 3 * attention, float8)


def frame_bytes(model: HiggsAudioV2ForConditionalGeneration, *, streams: int, context: float) -> float:
    """The least bytes read to generate one frame in each of the streams: the weights once, each stream's cache.

    Args:
        context: positions that a frame attends to, on average over a clip.
    """
    layers = model.model.layers
    of_text = (".mlp.", "layers.input_layernorm", "layers.post_attention_layernorm")
    weights = sum(
        weight.numel() * weight.element_size()
        for layer in layers
        for name, weight in layer.named_parameters(prefix="layers")
        if not any(part in name for part in of_text)
    )
    head = model.audio_lm_head.weight
    config = model.config
    cached = 2 * len(layers) * config.num_key_value_heads * config.head_dim * head.element_size()
    return weights + head.numel() * head.element_size() + streams * context * cached


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Measured floating point operations a second of a product of large matrices of random numbers."""
    side = MATRIX_SIDE[device.type]
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2 * side**3 / _seconds(lambda: left @ right, device=device)


def float8_rate(device: torch.device) -> float:
    """The same of float8, with one scale for each matrix."""
    side = MATRIX_SIDE[device.type]
    left, right = (torch.randn(side, side, device=device).to(FLOAT8) for _ in range(2))
    scale = torch.ones((), device=device)

    def multiply() -> torch.Tensor:
        return torch._scaled_mm(
            left, right.t(), scale_a=scale, scale_b=scale, out_dtype=torch.bfloat16, use_fast_accum=True
        )

    return 2 * side**3 / _seconds(multiply, device=device)


def copy_rate(device: torch.device) -> float:
    """Measured bytes a second that memory gives and takes, in a large copy."""
    source = torch.zeros(COPY_BYTES[device.type], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * len(source) / _seconds(lambda: target.copy_(source), device=device)


def _seconds(action: Callable[[], object], *, device: torch.device) -> float:
    """The best of three rounds: what else runs on the machine is no limit of it."""
    rounds = []
    for _ in range(4):  # the first is to warm up
        synchronize(device)
        began = time.perf_counter()
        for _ in range(10):
            action()
        synchronize(device)
        rounds.append((time.perf_counter() - began) / 10)
    return min(rounds[1:])
