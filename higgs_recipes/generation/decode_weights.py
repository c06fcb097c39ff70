"""The weights of a decode step: the audio half of each layer, with projections of the same input stored together."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import HiggsAudioV2ForConditionalGeneration

from higgs_recipes.errors import InputError
from higgs_recipes.modeling.lora import folded_adapters, plain_linear


class Int8Weight(NamedTuple):
    """A weight (N, K) in 8 bits, one symmetric scale a row, as torchao's `Int8WeightOnlyConfig` quantizes."""

    codes: Tensor  # (N, K) int8
    scales: Tensor  # (N,)

    @classmethod
    def quantize(cls, weight: Tensor) -> "Int8Weight":
        """Round each number to the nearest of its row's 255 levels."""
        scales = (weight.abs().amax(dim=1) / 127).clamp_min(torch.finfo(weight.dtype).tiny)
        codes = (weight.float() / scales.float()[:, None]).round().clamp(-127, 127)
        return cls(codes.to(torch.int8), scales)

    def dequantize(self) -> Tensor:
        return self.codes.to(self.scales.dtype) * self.scales[:, None]


# A weight (N, K), or modules whose outputs are concatenated: layers in 4 bits, with their adapters.
Projection = Tensor | Int8Weight | tuple[nn.Module, ...]
Linear = Callable[[Tensor, Projection], Tensor]


class LayerWeights(NamedTuple):
    """What a decoder layer of hidden size H does to a frame."""

    input_norm: Tensor  # (H,)
    query_key_value: Projection  # ((heads + 2 * key heads) * D, H)
    output: Projection  # (H, heads * D)
    mlp_norm: Tensor  # (H,)
    gate_up: Projection  # (2 * I, H)
    down: Projection  # (H, I)


class DecodeWeights(NamedTuple):
    """What the model does to a frame between its embedding and its logits."""

    layers: list[LayerWeights]
    norm: Tensor  # (H,)
    head: Projection  # (C * V, H)
    epsilon: float

    @property
    def has_modules(self) -> bool:
        """Whether some projections are modules, which torch.compile would compile once for each layer."""
        projections = [self.head, *(projection for layer in self.layers for projection in layer)]
        return any(not isinstance(projection, Tensor | Int8Weight) for projection in projections)


def project(states: Tensor, projection: Projection) -> Tensor:
    """(B, K) -> (B, N)."""
    if isinstance(projection, Tensor):
        return F.linear(states, projection)
    if isinstance(projection, Int8Weight):
        return F.linear(states, projection.codes.to(states.dtype)) * projection.scales
    return torch.cat([module(states) for module in projection], dim=-1)


@contextmanager
def decode_weights(model: HiggsAudioV2ForConditionalGeneration, *, int8: bool = False) -> Iterator[DecodeWeights]:
    """Fold the active adapters of a bare model, and store q, k, v and gate, up of its audio half next to each other.

    Inside the context the model's own modules see the same weights; on exit the model is as it was. On a GPU no weight
    is held twice, but for the base of folded weights.

    Args:
        int8: quantize the weights of the layers, with their adapters. Prompts are read with the model's own weights.

    Raises:
        InputError: `int8`, and a layer is quantized or has a bias; or an adapter holds NaN or infinite weights.
    """
    joined: list[nn.Linear] = []

    def join(*modules: nn.Module) -> Projection:
        linears = [plain_linear(module) for module in modules]
        is_rounded = int8 and modules[0] is not model.audio_lm_head
        if None in linears:
            if is_rounded:
                raise InputError("generation_weights: int8 requires weights that are not quantized and have no bias")
            return modules
        weight = linears[0].weight.data
        if len(linears) > 1:
            weight = torch.cat([linear.weight.data for linear in linears])
        is_float32_on_cpu = weight.device.type == "cpu" and weight.dtype == torch.float32
        if is_rounded:
            quantized = Int8Weight.quantize(weight)
            return quantized.dequantize() if is_float32_on_cpu else quantized
        if is_float32_on_cpu:
            # A copy stored column by column: products with few rows take half the time.
            return weight.t().contiguous().t()
        if len(linears) == 1:
            return weight
        parts = weight.split([linear.out_features for linear in linears])
        for linear, part in zip(linears, parts, strict=True):
            linear.weight.data = part
            joined.append(linear)
        return weight

    backbone = model.model
    assert model.config.hidden_act == "silu", model.config.hidden_act
    with folded_adapters(model):
        try:
            layers = [
                LayerWeights(
                    input_norm=layer.audio_input_layernorm.weight.data,
                    query_key_value=join(layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj),
                    output=join(layer.self_attn.o_proj),
                    mlp_norm=layer.audio_post_attention_layernorm.weight.data,
                    gate_up=join(layer.audio_mlp.gate_proj, layer.audio_mlp.up_proj),
                    down=join(layer.audio_mlp.down_proj),
                )
                for layer in backbone.layers
            ]
            yield DecodeWeights(
                layers=layers,
                norm=backbone.norm.weight.data,
                head=join(model.audio_lm_head),
                epsilon=backbone.norm.variance_epsilon,
            )
        finally:
            for linear in joined:
                linear.weight.data = linear.weight.data.clone()
