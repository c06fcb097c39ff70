"""One decode step: the next frame of B streams, with all state on the device and nothing that the host waits for.

Letters beside those of `higgs_recipes.delay`: H hidden size, D head size, KV key heads, P positions of the cache that
attention reads, W frames of the repetition window.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import HiggsAudioV2Config, HiggsAudioV2ForConditionalGeneration

from higgs_recipes.configs.inference import SamplingConfig
from higgs_recipes.generation.decode_weights import DecodeWeights, LayerWeights, Linear, Projection, project
from higgs_recipes.generation.kv_cache import KVCache
from higgs_recipes.generation.prefill import Prompt, to_device
from higgs_recipes.generation.sample_codes import FrameContext, sample_codes


class DecodeState(NamedTuple):
    """What each slot remembers between steps. A slot whose clip has ended is computed too, without effect."""

    codes: Tensor  # (N, C) the frame that the next step reads
    positions: Tensor  # (N,) its position in the cache
    frame: Tensor  # (N,) index of the frame that the next step samples
    num_ended: Tensor  # (N,) number of codebooks that have ended
    num_frames: Tensor  # (N,) frames of the clip once it has ended, else 0
    last_frame: Tensor  # (N,) index of the last frame that the clip may have
    recent: Tensor  # (N, W, C) the last frames
    uniforms: Tensor  # (N, F + 1, 2, C) random numbers of each frame; one row more than is used
    frames: Tensor  # (N, F + 1, C) int16, the clip; what follows its end is undefined

    @classmethod
    def allocate(
        cls, config: HiggsAudioV2Config, sampling: SamplingConfig, *, slots: int, max_frames: int, device: torch.device
    ) -> "DecodeState":
        """All slots empty: their clips have ended."""
        num_codebooks = config.num_codebooks
        window = sampling.ras_win_len if sampling.temperature > 0 else 0
        shapes = {
            "codes": (slots, num_codebooks),
            **dict.fromkeys(("positions", "frame", "num_ended", "num_frames", "last_frame"), (slots,)),
            "recent": (slots, window, num_codebooks),
        }
        state = {name: torch.zeros(shape, dtype=torch.long, device=device) for name, shape in shapes.items()}
        allocated = cls(
            **state,
            uniforms=torch.zeros((slots, max_frames + 1, 2, num_codebooks), device=device),
            frames=torch.zeros((slots, max_frames + 1, num_codebooks), dtype=torch.int16, device=device),
        )
        allocated.clear()
        return allocated

    def start(self, slots: Sequence[int], prompts: Sequence[Prompt], *, bos: int) -> None:
        """Begin a clip in each slot, behind its prompt: frame 0 is all BOS, so the first step samples frame 1."""
        _, num_rows, _, num_codebooks = self.uniforms.shape
        device, max_frames = self.codes.device, num_rows - 1
        rows = to_device(torch.tensor(slots), device)
        # Filled by index: an assigned number would be copied to the device, for which the host waits.
        values = [(self.codes, bos), (self.recent, bos), (self.frames[:, 0], bos), (self.frame, 1)]
        for tensor, value in [*values, (self.num_ended, 0), (self.num_frames, 0)]:
            tensor.index_fill_(0, rows, value)
        self.positions[rows] = to_device(torch.tensor([len(prompt.ids) for prompt in prompts]), device)
        last = [min(prompt.max_frames or max_frames, max_frames) - 1 for prompt in prompts]
        self.last_frame[rows] = to_device(torch.tensor(last), device)
        # Two numbers for each codebook and frame whatever is sampled: a clip depends on nothing but its seed.
        draws = torch.stack(
            [
                torch.rand(max_frames, 2, num_codebooks, generator=torch.Generator().manual_seed(prompt.seed))
                for prompt in prompts
            ]
        )
        self.uniforms[:, :max_frames].index_copy_(0, rows, to_device(draws, device))

    def move(self, source: int, target: int) -> None:
        """Continue the clip of one slot in another."""
        for tensor in self:
            tensor[target] = tensor[source]
        self.end(source)

    def end(self, slot: int) -> None:
        """End the clip of a slot."""
        self.num_frames[slot] = 1

    def clear(self) -> None:
        """End the clips of all slots."""
        self.num_frames.fill_(1)


Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


class StepFunctions(NamedTuple):
    """The parts of a step, as they are or compiled."""

    project: Callable[..., Tensor]
    attention: Callable[[Tensor, int, Tensor, Tensor], Attend]
    finish: Callable[..., Tensor]
    sample: Callable[..., Tensor]


class DecodeStep:
    """Runs steps on the first slots of a state and a cache."""

    def __init__(
        self,
        model: HiggsAudioV2ForConditionalGeneration,
        weights: DecodeWeights,
        cache: KVCache,
        state: DecodeState,
        sampling: SamplingConfig,
        functions: Callable[[int], StepFunctions],
    ) -> None:
        self.embed = model.model.embed_audio_tokens
        self.bos, self.eos = model.config.audio_stream_bos_id, model.config.audio_stream_eos_id
        self.weights, self.cache, self.state = weights, cache, state
        self.sampling, self.functions = sampling, functions
        device = cache.keys.device
        places = torch.arange(cache.keys.shape[3], device=device)  # (positions of a slot,)
        cos, sin = model.model.rotary_emb(cache.keys, places[None])  # (1, positions of a slot, D) each
        self.cos, self.sin = cos[0].contiguous(), sin[0].contiguous()

    def __call__(self, num_slots: int, num_positions: int) -> None:
        """Sample one more frame in each of the first `num_slots` slots.

        Args:
            num_positions: no stream of these has its next frame at or behind this position of the cache.
        """
        run, weights = self.functions(num_slots), self.weights
        state = DecodeState(*(tensor[:num_slots] for tensor in self.state))
        hidden = self.embed(state.codes).to(self.cache.keys.dtype)  # (B, H)
        attend = run.attention(state.positions, num_positions, self.cos, self.sin)
        for layer, keys, values in zip(weights.layers, self.cache.keys, self.cache.values, strict=True):
            projected = run.project(hidden, layer, epsilon=weights.epsilon)
            attended = attend(projected, keys[:num_slots], values[:num_slots])
            hidden = run.finish(hidden, attended, layer, epsilon=weights.epsilon)
        run.sample(
            hidden,
            state,
            norm=weights.norm,
            head=weights.head,
            epsilon=weights.epsilon,
            sampling=self.sampling,
            bos=self.bos,
            eos=self.eos,
        )


def project_states(hidden: Tensor, layer: LayerWeights, *, epsilon: float, linear: Linear = project) -> Tensor:
    """Queries, keys and values of the hidden states: (B, H) -> (B, (heads + 2 * KV) * D)."""
    return linear(_norm(hidden, layer.input_norm, epsilon), layer.query_key_value)


def sdpa_attention(positions: Tensor, num_positions: int, cos: Tensor, sin: Tensor) -> Attend:
    """Attention of one query a stream, at `positions` (B,), to the positions up to its own, the first P of the cache.

    Args:
        cos: rotary embedding (positions of a slot, D).
        sin: likewise.

    Returns:
        (B, (heads + 2 * KV) * D), keys and values (B, KV, ..., D) -> (B, heads * D). The stream's own key and value
        are written to the cache.
    """
    places = torch.arange(num_positions, device=positions.device)
    bias = torch.where(places <= positions[:, None], 0.0, -torch.inf)[:, None, None].to(cos.dtype)  # (B, 1, 1, P)
    cos, sin = (table.index_select(0, positions)[:, None] for table in (cos, sin))  # (B, 1, D) each
    sin[..., : sin.shape[-1] // 2].neg_()  # the sign of a rotated half: heads are rotated by swapping their halves
    return partial(_rotate_and_attend, positions=positions[:, None, None, None], cos=cos, sin=sin, bias=bias)


def _rotate_and_attend(
    projected: Tensor, keys: Tensor, values: Tensor, *, positions: Tensor, cos: Tensor, sin: Tensor, bias: Tensor
) -> Tensor:
    _, num_key_heads, _, head_dim = keys.shape
    num_positions = bias.shape[-1]
    projected = projected.unflatten(1, (-1, head_dim))  # (B, heads + 2 * KV, D)
    num_rotated = projected.shape[1] - num_key_heads
    rotated, value = projected.split([num_rotated, num_key_heads], dim=1)
    rotated = rotated * cos + rotated.roll(head_dim // 2, dims=-1) * sin
    query, key = rotated.split([num_rotated - num_key_heads, num_key_heads], dim=1)
    places = positions.expand(-1, num_key_heads, 1, head_dim)
    keys.scatter_(2, places, key[:, :, None])
    values.scatter_(2, places, value[:, :, None])
    # The query heads of a key head take the place of successive queries, so its keys are not repeated.
    grouped = query.unflatten(1, (num_key_heads, -1))  # (B, KV, heads / KV, D)
    keys, values = keys[:, :, :num_positions], values[:, :, :num_positions]
    return F.scaled_dot_product_attention(grouped, keys, values, attn_mask=bias).flatten(1)


def finish_layer(
    hidden: Tensor, attended: Tensor, layer: LayerWeights, *, epsilon: float, linear: Linear = project
) -> Tensor:
    """Output projection and feed-forward network of the audio half: (B, H), (B, heads * D) -> (B, H)."""
    hidden = hidden + linear(attended, layer.output)
    gate, up = linear(_norm(hidden, layer.mlp_norm, epsilon), layer.gate_up).chunk(2, dim=-1)
    return hidden + linear(F.silu(gate) * up, layer.down)


def sample_and_advance(
    hidden: Tensor,
    state: DecodeState,
    *,
    norm: Tensor,
    head: Projection,
    epsilon: float,
    sampling: SamplingConfig,
    bos: int,
    eos: int,
) -> None:
    """Sample a frame of each stream from the last layer's hidden states (B, H), and write it into the state."""
    num_codebooks = state.codes.shape[1]
    logits = project(_norm(hidden, norm, epsilon), head).float().unflatten(1, (num_codebooks, -1))  # (B, C, V)
    rows = torch.arange(len(hidden), device=hidden.device)
    context = FrameContext(state.frame, state.num_ended, state.recent, state.uniforms[rows, state.frame])
    codes = sample_codes(logits, context, sampling, bos=bos, eos=eos)

    is_going = state.num_frames == 0  # (B,)
    num_ended = state.num_ended + (codes[:, 0] == eos)
    has_ended = (num_ended == num_codebooks) | (state.frame == state.last_frame)
    state.frames[rows, state.frame] = codes.to(torch.int16)  # of an ended clip: into the row behind it
    state.codes.copy_(codes)
    if state.recent.shape[1]:
        state.recent.copy_(torch.cat([state.recent[:, 1:], codes[:, None]], dim=1))
    state.num_ended.copy_(num_ended)
    state.num_frames.copy_(torch.where(is_going & has_ended, state.frame + 1, state.num_frames))
    state.frame.add_(is_going)
    state.positions.add_(is_going & ~has_ended)  # the last frame is not read: there may be no position for it


def _norm(hidden: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """RMSNorm as transformers rounds it: float32 inside, the weight behind the cast; (B, H) -> (B, H)."""
    states = hidden.float()
    normed = states * torch.rsqrt(states.square().mean(dim=-1, keepdim=True) + epsilon)
    return (weight * normed.to(hidden.dtype)).to(hidden.dtype)


_FUNCTIONS = StepFunctions(project_states, sdpa_attention, finish_layer, sample_and_advance)


def eager_functions(num_slots: int) -> StepFunctions:
    """The parts of a step in plain torch, for any number of streams."""
    return _FUNCTIONS
