"""The weights of a decode step: the audio half of each layer, with projections of the same input stored together."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import HiggsAudioV2ForConditionalGeneration

from higgs_recipes.modeling.lora import folded_adapters, plain_linear


# A weight (N, K), or modules whose outputs are concatenated: quantized layers, with their adapters.
Projection = Tensor | tuple[nn.Module, ...]


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
        return any(isinstance(projection, tuple) for projection in projections)


def project(states: Tensor, projection: Projection) -> Tensor:
    """(B, K) -> (B, N)."""
    if isinstance(projection, Tensor):
        return F.linear(states, projection)
    return torch.cat([module(states) for module in projection], dim=-1)


@contextmanager
def decode_weights(model: HiggsAudioV2ForConditionalGeneration) -> Iterator[DecodeWeights]:
    """Fold the active adapters of a bare model, and store q, k, v and gate, up of its audio half next to each other.

    Inside the context the model's own modules see the same weights; on exit the model is as it was. On a GPU no weight
    is held twice, but for the base of folded weights.
    """
    joined: list[nn.Linear] = []

    def join(*modules: nn.Module) -> Projection:
        linears = [plain_linear(module) for module in modules]
        if None in linears:
            return modules
        weight = linears[0].weight.data
        if len(linears) > 1:
            weight = torch.cat([linear.weight.data for linear in linears])
        if weight.device.type == "cpu" and weight.dtype == torch.float32:
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
