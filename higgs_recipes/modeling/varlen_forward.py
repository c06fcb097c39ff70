"""The variable-length forward: replaces the forward of transformers' decoder layers in training and prefill.

What it replaces, and why:
- Padding and attention masks. Samples are concatenated (`FlatBatch`) and attention has variable length: no position is
  computed for padding, and no (B, 1, S, S) mask is built for packed rows.
- Masked indexing. transformers selects text and audio positions by a mask, for which the host waits for the GPU four
  times per layer. Here the collator has computed index vectors.
- Double norms. transformers computes the input norm of a layer for text and for audio. Here it is computed once, with
  the weight selected by position.

The weights and modules are those of transformers (and peft), and the results are equal up to rounding. The model still
accepts all inputs of transformers' own forward.
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
from transformers.models.higgs_audio_v2 import modeling_higgs_audio_v2 as original

from higgs_recipes.errors import InputError
from higgs_recipes.modeling.fused_lora import compute_dtype, project_together
from higgs_recipes.varlen_batch import FlatBatch, FlatPositions


# Grouped-query attention: newer releases of torch need a flag for fewer key heads than query heads.
_GQA = {"enable_gqa": True} if "enable_gqa" in inspect.signature(varlen_attn).parameters else {}


class LayerInputs(NamedTuple):
    """What every layer needs besides the hidden states. P positions: Nt of text and Na of audio."""

    to_text_first: Tensor  # (P,) gathers positions into the order [text, audio]
    from_text_first: Tensor  # (P,) its inverse: gathers rows in that order back to positions
    text_index: Tensor  # (Nt,) positions of the text
    is_audio: Tensor  # (P, 1)
    cos: Tensor  # (P, head size)
    sin: Tensor  # (P, head size)
    sample_starts: Tensor  # (samples + 1,) int32
    max_length: int  # positions of the longest sample
    to_padded: Tensor | None  # (samples * max_length,) gathers positions into padded rows; None: attention needs none
    from_padded: Tensor | None  # (P,) its inverse


class HiggsAudioV2DecoderLayer(original.HiggsAudioV2DecoderLayer):
    """transformers' layer; with `layer_inputs` it runs the variable-length forward instead.

    The name is that of the original class: FSDP finds the layers to wrap by it. A class and not a function on the
    instance, because transformers applies gradient checkpointing to the `forward` of the class.
    """

    run: Callable[["HiggsAudioV2DecoderLayer", Tensor, LayerInputs], Tensor]

    def forward(self, hidden_states: Tensor, *args, layer_inputs: LayerInputs | None = None, **kwargs) -> Tensor:
        if layer_inputs is None:
            return super().forward(hidden_states, *args, **kwargs)
        return self.run(self, hidden_states, layer_inputs)


def attach_varlen_forward(
    model: HiggsAudioV2ForConditionalGeneration, *, compile_layers: bool = False, recompute: bool = False
) -> None:
    """Replace the forward of a bare model's layers, in place. Weights, their names and checkpoints do not change.

    Call this before a wrapper (DDP, FSDP, DeepSpeed) is applied; before or after peft does not matter.

    Args:
        model: the bare model.
        compile_layers: compile a layer with torch.compile: one graph for all layers and all shapes.
        recompute: keep only the input of a compiled layer and recompute the rest in the backward pass (torch 2.11 also
            keeps the outputs of an autograd.Function). Unlike checkpointing around the layer, the compiler knows what
            the backward pass needs: the last products of the feed-forward networks are not recomputed.

    Raises:
        InputError: the model's attention has dropout, or its implementation is not sdpa.
    """
    if model.config.attention_dropout:
        raise InputError(
            f"fast_path: the model's config has attention_dropout {model.config.attention_dropout}, which "
            "variable-length attention does not support; set fast_path: false"
        )
    if model.config._attn_implementation != "sdpa":
        raise InputError(
            f"fast_path replaces attn_implementation sdpa, not {model.config._attn_implementation}; "
            "set fast_path: false"
        )
    if compile_layers:
        # DDP would split the layers' graphs at its buckets; its splitter does not support autograd.Function, and a
        # layer is small enough.
        torch._dynamo.config.optimize_ddp = False
    assert compile_layers or not recompute, "without compile_layers, transformers checkpoints the layers"
    run = _run_layer_recomputed if recompute else _run_layer
    if compile_layers:
        run = torch.compile(run)
    for layer in model.model.layers:
        assert type(layer) in (original.HiggsAudioV2DecoderLayer, HiggsAudioV2DecoderLayer), type(layer)
        layer.__class__ = HiggsAudioV2DecoderLayer
        layer.run = run
    model.varlen_hidden_states = partial(varlen_hidden_states, model.model)  # called by the loss for a `FlatBatch`


def varlen_hidden_states(backbone: original.HiggsAudioV2Model, batch: FlatBatch) -> Tensor:
    """The last hidden states (P, H) of the backbone, at the used positions of a batch."""
    hidden, layer_inputs = _embed(backbone, batch)
    for layer in backbone.layers[: backbone.config.num_hidden_layers]:
        hidden = layer(hidden, layer_inputs=layer_inputs)
    return backbone.norm(hidden)


def keys_and_values(backbone: original.HiggsAudioV2Model, batch: FlatPositions) -> Iterator[tuple[Tensor, Tensor]]:
    """The keys, with rotary embeddings, and values (P, key heads, D) of each layer, at the used positions of a batch.

    It needs no call of `attach_varlen_forward`, and runs without torch.compile.
    """
    hidden, layer_inputs = _embed(backbone, batch)
    for layer in backbone.layers:
        query, key, value = _project(layer, hidden, layer_inputs)
        yield key, value
        if layer is not backbone.layers[-1]:
            hidden = _finish_layer(layer, hidden, _attend(query, key, value, layer_inputs), layer_inputs)


def _embed(backbone: original.HiggsAudioV2Model, batch: FlatPositions) -> tuple[Tensor, LayerInputs]:
    """The input of the first layer, (P, H), and the other inputs of every layer."""
    text = backbone.embed_tokens(batch["text_ids"])  # (Nt, H)
    audio = backbone.embed_audio_tokens(batch["frames"]).to(text.dtype)  # (Na, H)
    to_text_first = torch.cat([batch["text_index"], batch["audio_index"]])  # (P,)
    from_text_first = batch["from_text_first"]  # (P,)
    hidden = _Gather.apply(torch.cat([text, audio]), from_text_first, to_text_first)  # (P, H)
    if torch.is_grad_enabled() and not hidden.requires_grad:
        hidden.requires_grad_()  # with frozen embeddings too, the first layer has the same graph as the others
    cos, sin = backbone.rotary_emb(hidden, batch["position_ids"][None])  # (1, P, head size)
    has_kernel = has_varlen_kernel(hidden)
    max_length, sample_starts = batch["max_length"], batch["sample_starts"]
    to_padded, from_padded = None, None
    if not has_kernel:
        to_padded, from_padded = _padding_indexes(sample_starts, batch["position_ids"], max_length=max_length)
    layer_inputs = LayerInputs(
        to_text_first=to_text_first,
        from_text_first=from_text_first,
        text_index=batch["text_index"],
        is_audio=(from_text_first >= len(text))[:, None],
        cos=cos[0],
        sin=sin[0],
        sample_starts=sample_starts,
        # Rounded up to a power of two for fewer compiled graphs: the kernel uses it for its launch size only.
        max_length=1 << (max_length - 1).bit_length() if has_kernel else max_length,
        to_padded=to_padded,
        from_padded=from_padded,
    )
    for tensor in (hidden, *layer_inputs):
        if isinstance(tensor, Tensor):
            torch._dynamo.maybe_mark_dynamic(tensor, 0)
    return hidden, layer_inputs


def has_varlen_kernel(hidden: Tensor) -> bool:
    """Whether torch's variable-length attention runs for these hidden states: half precision, on Ampere or later.

    Elsewhere (CPU, float32) samples are padded to the longest, for causal attention without a mask.
    """
    if hidden.device.type != "cuda" or compute_dtype(hidden) == torch.float32:
        return False
    return torch.cuda.get_device_capability(hidden.device) >= (8, 0)


class _Gather(torch.autograd.Function):
    """Select rows by an index whose inverse is known, so that the gradient is a gather too and not a scatter."""

    @staticmethod
    def forward(ctx, rows: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(inverse)
        return rows.index_select(0, index)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        (inverse,) = ctx.saved_tensors
        return grad.index_select(0, inverse), None, None


def _run_layer(layer: HiggsAudioV2DecoderLayer, hidden: Tensor, inputs: LayerInputs) -> Tensor:
    """One decoder layer: (P, H) -> (P, H)."""
    query, key, value = _project(layer, hidden, inputs)
    return _finish_layer(layer, hidden, _attend(query, key, value, inputs), inputs)


def _project(
    layer: original.HiggsAudioV2DecoderLayer, hidden: Tensor, inputs: LayerInputs
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries (P, heads, D), keys and values (P, key heads, D) of hidden states (P, H)."""
    attention, num_positions = layer.self_attn, hidden.shape[0]
    weight = torch.where(inputs.is_audio, layer.audio_input_layernorm.weight, layer.input_layernorm.weight)  # (P, H)
    # Trained norms may be float32 while the rest is not; their output has the type of the hidden states.
    normed = (weight * _rms_norm(hidden, eps=layer.input_layernorm.variance_epsilon)).to(hidden.dtype)  # (P, H)
    query, key, value = (
        projected.view(num_positions, -1, attention.head_dim)
        for projected in project_together((attention.q_proj, attention.k_proj, attention.v_proj), normed)
    )  # (P, heads, head size)
    query, key = original.apply_rotary_pos_emb(query, key, inputs.cos, inputs.sin)
    # Under autocast the product with the float32 cosine is float32; attention needs the type of the projections.
    return query.to(value.dtype), key.to(value.dtype), value


def _finish_layer(
    layer: original.HiggsAudioV2DecoderLayer, hidden: Tensor, attended: Tensor, inputs: LayerInputs
) -> Tensor:
    """The rest of a layer after attention: (P, H), (P, heads, D) -> (P, H)."""
    hidden = hidden + layer.self_attn.o_proj(attended.reshape(len(hidden), -1))

    normed = _rms_norm(hidden, eps=layer.post_attention_layernorm.variance_epsilon)
    normed = _Gather.apply(normed, inputs.to_text_first, inputs.from_text_first)  # (P, H), text first
    num_text = inputs.text_index.shape[0]
    text = _feed_forward(layer.mlp, (layer.post_attention_layernorm.weight * normed[:num_text]).to(hidden.dtype))
    audio_normed = (layer.audio_post_attention_layernorm.weight * normed[num_text:]).to(hidden.dtype)
    audio = _feed_forward(layer.audio_mlp, audio_normed)
    return hidden + _Gather.apply(torch.cat([text, audio]), inputs.from_text_first, inputs.to_text_first)


def _run_layer_recomputed(layer: HiggsAudioV2DecoderLayer, hidden: Tensor, inputs: LayerInputs) -> Tensor:
    return checkpoint(lambda states: _run_layer(layer, states, inputs), hidden, use_reentrant=False)


def _feed_forward(mlp: nn.Module, states: Tensor) -> Tensor:
    gate, up = project_together((mlp.gate_proj, mlp.up_proj), states)
    return mlp.down_proj(mlp.act_fn(gate) * up)


def _rms_norm(hidden: Tensor, *, eps: float) -> Tensor:
    """RMSNorm without its weight."""
    return F.rms_norm(hidden, hidden.shape[-1:], eps=eps).to(hidden.dtype)  # under autocast it returns float32


def _attend(query: Tensor, key: Tensor, value: Tensor, inputs: LayerInputs) -> Tensor:
    """Causal attention within each sample: (P, heads, D), twice (P, key heads, D) -> (P, heads, D)."""
    if inputs.to_padded is None:
        starts, length = inputs.sample_starts, inputs.max_length
        return varlen_attn(query, key, value, starts, starts, length, length, window_size=(-1, 0), **_GQA)
    num_groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(num_groups, dim=1), value.repeat_interleave(num_groups, dim=1)
    padded = [
        _Gather.apply(states, inputs.to_padded, inputs.from_padded)
        .unflatten(0, (-1, inputs.max_length))
        .transpose(1, 2)
        for states in (query, key, value)
    ]  # (samples, heads, max_length, D)
    attended = F.scaled_dot_product_attention(*padded, is_causal=True)
    return attended.transpose(1, 2).flatten(0, 1).index_select(0, inputs.from_padded)


def _padding_indexes(sample_starts: Tensor, position_ids: Tensor, *, max_length: int) -> tuple[Tensor, Tensor]:
    """`to_padded` (samples * max_length,) and its inverse `from_padded` (P,).

    The rest of a row after its sample holds arbitrary positions: causal attention does not look ahead to it.
    """
    num_positions, device = len(position_ids), sample_starts.device
    columns = torch.arange(max_length, device=device)
    to_padded = (sample_starts[:-1, None] + columns).clamp(max=num_positions - 1).flatten()
    sample = torch.searchsorted(sample_starts[1:], torch.arange(num_positions, device=device), right=True)  # (P,)
    return to_padded, sample * max_length + position_ids
