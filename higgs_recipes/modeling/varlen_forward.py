"""transformers' decoder layers with their forward exchanged, for training: no mask, no waiting for the GPU.

The weights and modules are transformers' own (and peft's on them); only the road through them differs. Samples lie end
to end (`FlatBatch`), attention is of variable length, text and audio are parted by index vectors, a norm is computed
once with the weight chosen by position. A model that has it still takes everything that transformers' forward takes.
"""

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from torch.utils.checkpoint import checkpoint
from transformers import HiggsAudioV2ForConditionalGeneration
from transformers.models.higgs_audio_v2 import modeling_higgs_audio_v2 as plain

from higgs_recipes.errors import InputError
from higgs_recipes.modeling.fused_lora import project_together
from higgs_recipes.varlen_batch import FlatBatch, FlatPositions


# The kernel takes fewer key heads than query heads; newer releases of torch ask to be told so.
_GROUPED = {"enable_gqa": True} if "enable_gqa" in inspect.signature(varlen_attn).parameters else {}


class Route(NamedTuple):
    """What every layer needs to know of a batch."""

    order: Tensor  # (P,) positions, those of text first
    place: Tensor  # (P,) its inverse
    text_index: Tensor  # (Nt,)
    is_audio: Tensor  # (P, 1)
    cos: Tensor  # (P, head size)
    sin: Tensor
    starts: Tensor  # (samples + 1,) int32
    longest: int
    spread: Tensor | None  # (samples * longest,) position in each place of padded rows; None: no padded rows
    gathered: Tensor | None  # (P,) its inverse


class HiggsAudioV2DecoderLayer(plain.HiggsAudioV2DecoderLayer):
    """transformers' layer, which with a `route` takes flat positions.

    It has the name of what it stands for, by which FSDP finds the layers to wrap. A class and no function on the
    instance: transformers wraps gradient checkpointing around `forward` of classes.
    """

    run: Callable[["HiggsAudioV2DecoderLayer", Tensor, Route], Tensor]

    def forward(self, hidden_states: Tensor, *args, route: Route | None = None, **kwargs) -> Tensor:
        if route is None:
            return super().forward(hidden_states, *args, **kwargs)
        return self.run(self, hidden_states, route)


def attach_varlen_forward(
    model: HiggsAudioV2ForConditionalGeneration, *, compile_layers: bool = False, recompute: bool = False
) -> None:
    """Exchange the forward of a bare model's layers, in place. Weights, their names and checkpoints stay as they are.

    Must come before a wrapper (DDP, FSDP, DeepSpeed), and after or before peft's.

    Args:
        compile_layers: compile a layer with torch.compile: one graph, for all layers and every shape.
        recompute: keep what goes into a compiled layer, and make the rest again in the backward pass (torch 2.11 keeps
            what an autograd.Function gives too). Unlike checkpointing around the layer, the compiler sees what is
            asked for: the feed-forward networks' last products are not.

    Raises:
        InputError: the model's attention has dropout, or another implementation than sdpa: the fast path has its own.
    """
    if model.config.attention_dropout:
        raise InputError(
            f"fast_path: the model's config has attention_dropout {model.config.attention_dropout}, which attention "
            "of variable length lacks; set fast_path: false"
        )
    if model.config._attn_implementation != "sdpa":
        raise InputError(
            f"fast_path replaces attn_implementation sdpa, not {model.config._attn_implementation}; "
            "set fast_path: false"
        )
    if compile_layers:
        # DDP would cut the layers' graphs to its buckets; a layer is small enough, and the cutter knows no
        # autograd.Function.
        torch._dynamo.config.optimize_ddp = False
    assert compile_layers or not recompute, "layers that are not compiled are checkpointed by transformers"
    run = _recomputed_layer if recompute else _run_layer
    if compile_layers:
        run = torch.compile(run)
    for layer in model.model.layers:
        assert type(layer) in (plain.HiggsAudioV2DecoderLayer, HiggsAudioV2DecoderLayer), type(layer)
        layer.__class__ = HiggsAudioV2DecoderLayer
        layer.run = run
    model.flat_hidden_states = partial(flat_hidden_states, model.model)  # what the loss calls for a flat batch


def flat_hidden_states(backbone: plain.HiggsAudioV2Model, batch: FlatBatch) -> Tensor:
    """The backbone's last hidden states (P, H) at a batch's used positions."""
    hidden, route = _embed(backbone, batch)
    for layer in backbone.layers[: backbone.config.num_hidden_layers]:
        hidden = layer(hidden, route=route)
    return backbone.norm(hidden)


def keys_and_values(backbone: plain.HiggsAudioV2Model, batch: FlatPositions) -> Iterator[tuple[Tensor, Tensor]]:
    """Each layer's keys, with rotary embeddings, and values (P, key heads, D) at a batch's used positions.

    Runs eagerly on any model, whether `attach_varlen_forward` was called or not.
    """
    hidden, route = _embed(backbone, batch)
    for layer in backbone.layers:
        query, key, value = _project(layer, hidden, route)
        yield key, value
        if layer is not backbone.layers[-1]:
            hidden = _finish_layer(layer, hidden, _attend(query, key, value, route), route)


def _embed(backbone: plain.HiggsAudioV2Model, batch: FlatPositions) -> tuple[Tensor, Route]:
    """What goes into the first layer, (P, H), and what every layer needs to know."""
    text = backbone.embed_tokens(batch["text_ids"])  # (Nt, H)
    audio = backbone.embed_audio_tokens(batch["frames"]).to(text.dtype)  # (Na, H)
    order, place = torch.cat([batch["text_index"], batch["audio_index"]]), batch["place"]
    hidden = _Take.apply(torch.cat([text, audio]), place, order)  # (P, H)
    if torch.is_grad_enabled() and not hidden.requires_grad:
        hidden.requires_grad_()  # with frozen embeddings: the first layer's graph is then that of the others
    cos, sin = backbone.rotary_emb(hidden, batch["positions"][None])
    has_varlen = varlen_runs(hidden)
    longest, starts = batch["longest"], batch["starts"]
    spread, gathered = (None, None) if has_varlen else _padded_rows(starts, batch["positions"], longest=longest)
    route = Route(
        order=order,
        place=place,
        text_index=batch["text_index"],
        is_audio=(place >= len(text))[:, None],
        cos=cos[0],
        sin=sin[0],
        starts=starts,
        # Only the size of a launch depends on it: few values make few graphs.
        longest=1 << (longest - 1).bit_length() if has_varlen else longest,
        spread=spread,
        gathered=gathered,
    )
    for tensor in (hidden, *route):
        if isinstance(tensor, Tensor):
            torch._dynamo.maybe_mark_dynamic(tensor, 0)
    return hidden, route


def varlen_runs(hidden: Tensor) -> bool:
    """Whether attention of variable length runs for these hidden states: in half precision, on Ampere or later.

    Elsewhere (CPU, float32) samples are laid side by side, padded to the longest, for causal attention without a mask.
    """
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    if device != "cuda" or dtype == torch.float32:
        return False
    return torch.cuda.get_device_capability(hidden.device) >= (8, 0)


class _Take(torch.autograd.Function):
    """Rows by index, where the inverse of the index is known: the gradient is taken too, not scattered."""

    @staticmethod
    def forward(ctx, rows: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(inverse)
        return rows.index_select(0, index)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        (inverse,) = ctx.saved_tensors
        return grad.index_select(0, inverse), None, None


def _run_layer(layer: HiggsAudioV2DecoderLayer, hidden: Tensor, route: Route) -> Tensor:
    """One decoder layer: (P, H) -> (P, H)."""
    query, key, value = _project(layer, hidden, route)
    return _finish_layer(layer, hidden, _attend(query, key, value, route), route)


def _project(layer: plain.HiggsAudioV2DecoderLayer, hidden: Tensor, route: Route) -> tuple[Tensor, Tensor, Tensor]:
    """Queries (P, heads, D), keys and values (P, key heads, D) of hidden states (P, H)."""
    attention, num_positions = layer.self_attn, hidden.shape[0]
    weight = torch.where(route.is_audio, layer.audio_input_layernorm.weight, layer.input_layernorm.weight)
    # Norms that are trained may be float32 where the rest is not; what they make is of the hidden states' type.
    normed = (weight * _scaled(hidden, eps=layer.input_layernorm.variance_epsilon)).to(hidden.dtype)
    query, key, value = (
        projected.view(num_positions, -1, attention.head_dim)
        for projected in project_together((attention.q_proj, attention.k_proj, attention.v_proj), normed)
    )  # (P, heads, head size)
    query, key = plain.apply_rotary_pos_emb(query, key, route.cos, route.sin)
    # Under autocast the product with the float32 cosine is float32; attention is of the projections' type.
    return query.to(value.dtype), key.to(value.dtype), value


def _finish_layer(layer: plain.HiggsAudioV2DecoderLayer, hidden: Tensor, attended: Tensor, route: Route) -> Tensor:
    """What follows attention in a layer: (P, H), (P, heads, D) -> (P, H)."""
    hidden = hidden + layer.self_attn.o_proj(attended.reshape(len(hidden), -1))

    normed = _Take.apply(
        _scaled(hidden, eps=layer.post_attention_layernorm.variance_epsilon), route.order, route.place
    )
    num_text = route.text_index.shape[0]
    text = _feed_forward(layer.mlp, (layer.post_attention_layernorm.weight * normed[:num_text]).to(hidden.dtype))
    audio_normed = (layer.audio_post_attention_layernorm.weight * normed[num_text:]).to(hidden.dtype)
    audio = _feed_forward(layer.audio_mlp, audio_normed)
    return hidden + _Take.apply(torch.cat([text, audio]), route.place, route.order)


def _recomputed_layer(layer: HiggsAudioV2DecoderLayer, hidden: Tensor, route: Route) -> Tensor:
    return checkpoint(lambda states: _run_layer(layer, states, route), hidden, use_reentrant=False)


def _feed_forward(mlp: nn.Module, states: Tensor) -> Tensor:
    gate, up = project_together((mlp.gate_proj, mlp.up_proj), states)
    return mlp.down_proj(mlp.act_fn(gate) * up)


def _scaled(hidden: Tensor, *, eps: float) -> Tensor:
    """RMSNorm without its weight."""
    return F.rms_norm(hidden, hidden.shape[-1:], eps=eps).to(hidden.dtype)  # autocast leaves it in float32


def _attend(query: Tensor, key: Tensor, value: Tensor, route: Route) -> Tensor:
    """Causal attention within each sample: (P, heads, D), twice (P, key heads, D) -> (P, heads, D)."""
    if route.spread is None:
        starts, longest = route.starts, route.longest
        return varlen_attn(query, key, value, starts, starts, longest, longest, window_size=(-1, 0), **_GROUPED)
    num_groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(num_groups, dim=1), value.repeat_interleave(num_groups, dim=1)
    padded = [
        _Take.apply(states, route.spread, route.gathered).unflatten(0, (-1, route.longest)).transpose(1, 2)
        for states in (query, key, value)
    ]  # (samples, heads, longest, D)
    attended = F.scaled_dot_product_attention(*padded, is_causal=True)
    return attended.transpose(1, 2).flatten(0, 1).index_select(0, route.gathered)


def _padded_rows(starts: Tensor, positions: Tensor, *, longest: int) -> tuple[Tensor, Tensor]:
    """Where padded rows take their positions from, (samples * longest,), and where each position stands there, (P,).

    What follows a sample in its row is any position at all: causal attention does not look at it.
    """
    num_positions = len(positions)
    places = torch.arange(longest, device=starts.device)
    spread = (starts[:-1, None] + places).clamp(max=num_positions - 1).flatten()
    sample = torch.searchsorted(starts[1:], torch.arange(num_positions, device=starts.device), right=True)
    return spread, sample * longest + positions
