"""Attention of one query a stream over a KV cache, as Triton kernels: only the positions that a stream has are read.

The kernels also rotate query and key, and write the stream's own key and value to the cache.

Positions are split into chunks that run side by side, since a few streams alone do not fill a GPU, and a second kernel
combines them (flash-decoding, arXiv 2311.01282). Scores, probabilities and sums are float32.
"""

from collections.abc import Callable
from functools import partial

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait


_BLOCK = 64  # positions that are loaded at once
_MIN_ROWS = 16  # of a tensor core's tile: the query heads of a key head are padded to as many


def launches_early(device: torch.device) -> bool:
    """Whether a kernel may start while the one before it still runs (programmatic dependent launch)."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (9, 0)


def kernel_attention(
    positions: Tensor, num_positions: int, cos: Tensor, sin: Tensor
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """As `decode_step.sdpa_attention`; keys and values need a head size that is a power of 2 and at least 16."""
    return partial(_attend, positions=positions, num_positions=num_positions, cos=cos, sin=sin)


def _attend(
    projected: Tensor, keys: Tensor, values: Tensor, *, positions: Tensor, num_positions: int, cos: Tensor, sin: Tensor
) -> Tensor:
    (num_streams, width), (_, num_key_heads, _, head_dim) = projected.shape, keys.shape
    num_heads = width // head_dim - 2 * num_key_heads
    assert head_dim >= 16 and head_dim & (head_dim - 1) == 0, head_dim
    group = num_heads // num_key_heads
    assert projected.is_contiguous() and keys.stride()[2:] == (head_dim, 1) and keys.stride() == values.stride()
    assert cos.is_contiguous() and sin.is_contiguous() and cos.shape[1] == head_dim
    chunk = _BLOCK if num_streams < 16 else 4 * _BLOCK
    num_chunks = triton.cdiv(num_positions, chunk)
    sums = torch.empty((num_streams, num_heads, num_chunks, head_dim), dtype=torch.float32, device=projected.device)
    stats = torch.empty((num_streams, num_heads, num_chunks, 2), dtype=torch.float32, device=projected.device)
    is_early = launches_early(projected.device)
    early = {"IS_EARLY": is_early, "launch_pdl": is_early}
    _attend_chunk[(num_streams * num_key_heads, num_chunks)](
        projected,
        keys,
        values,
        positions,
        cos,
        sin,
        sums,
        stats,
        keys.stride(0),
        keys.stride(1),
        head_dim**-0.5 * 1.4426950408889634,  # log2(e): exp2 is what the hardware has
        num_positions,
        num_chunks,
        KEY_HEADS=num_key_heads,
        GROUP=group,
        ROWS=max(_MIN_ROWS, triton.next_power_of_2(group)),
        HEAD_DIM=head_dim,
        CHUNK=chunk,
        BLOCK=_BLOCK,
        PRECISION="ieee" if projected.dtype == torch.float32 else "tf32",
        num_warps=4,
        num_stages=3,
        **early,
    )
    attended = torch.empty((num_streams, num_heads * head_dim), dtype=projected.dtype, device=projected.device)
    _combine_chunks[(num_streams * num_heads,)](
        sums,
        stats,
        positions,
        attended,
        num_positions,
        num_chunks,
        HEADS=num_heads,
        HEAD_DIM=head_dim,
        CHUNK=chunk,
        num_warps=1,
        **early,
    )
    return attended


@triton.jit
def _rotated(cells, cos, sin, position, HEAD_DIM: tl.constexpr):
    """The rotary embedding of the states at pointers (..., D), in the states' dtype."""
    dims = tl.arange(0, HEAD_DIM)
    is_first = dims < HEAD_DIM // 2
    shift = tl.where(is_first, HEAD_DIM // 2, -(HEAD_DIM // 2))  # from a dimension to its partner
    states = tl.load(cells).to(tl.float32)
    partners = tl.load(cells + shift).to(tl.float32)
    cosine = tl.load(cos + position * HEAD_DIM + dims).to(tl.float32)
    sine = tl.load(sin + position * HEAD_DIM + dims).to(tl.float32)
    return (states * cosine + partners * tl.where(is_first, -sine, sine)).to(cells.dtype.element_ty)


@triton.jit
def _attend_chunk(
    projected,
    keys,
    values,
    positions,
    cos,
    sin,
    sums,
    stats,
    stream_stride,
    head_stride,
    scale,
    num_positions,
    num_chunks,
    KEY_HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    CHUNK: tl.constexpr,
    BLOCK: tl.constexpr,
    PRECISION: tl.constexpr,
    IS_EARLY: tl.constexpr,
):
    """Weighted values (GROUP, D) of one key head and chunk of a stream, their maximal score and sum of weights."""
    if IS_EARLY:
        gdc_wait()
        gdc_launch_dependents()
    stream, key_head = tl.program_id(0) // KEY_HEADS, tl.program_id(0) % KEY_HEADS
    chunk = tl.program_id(1)
    position = tl.load(positions + stream).to(tl.int32)
    length = tl.minimum(position + 1, num_positions)
    first = chunk * CHUNK
    if first >= length:
        return
    rows, dims, steps = tl.arange(0, ROWS), tl.arange(0, HEAD_DIM), tl.arange(0, BLOCK)
    heads = key_head * GROUP + rows  # (ROWS,)
    is_head = rows < GROUP
    projected += stream * (GROUP + 2) * KEY_HEADS * HEAD_DIM
    # A padding row repeats the last head.
    padded = key_head * GROUP + tl.minimum(rows, GROUP - 1)
    states = _rotated(projected + padded[:, None] * HEAD_DIM + dims[None, :], cos, sin, position, HEAD_DIM)
    own = projected + (GROUP * KEY_HEADS + key_head) * HEAD_DIM + dims  # (D,) the key of the stream's own position
    own_key = _rotated(own, cos, sin, position, HEAD_DIM)
    own_value = tl.load(own + KEY_HEADS * HEAD_DIM)
    has_own = (position >= first) & (position < tl.minimum(first + CHUNK, num_positions))
    offset = stream.to(tl.int64) * stream_stride + key_head.to(tl.int64) * head_stride
    if has_own:
        cell = offset + position.to(tl.int64) * HEAD_DIM + dims
        tl.store(keys + cell, own_key)
        tl.store(values + cell, own_value)

    # The sums begin with the own position, if it is in the chunk; the loop reads the earlier ones from the cache.
    own_scores = tl.sum(states.to(tl.float32) * own_key.to(tl.float32)[None, :], axis=1) * scale  # (ROWS,)
    highest = tl.where(has_own, own_scores, -float("inf"))
    total = tl.where(has_own, tl.full((ROWS,), 1.0, tl.float32), 0.0)
    weighted = tl.zeros((ROWS, HEAD_DIM), tl.float32) + tl.where(has_own, own_value.to(tl.float32), 0.0)[None, :]
    last = tl.minimum(first + CHUNK, tl.minimum(position, num_positions))
    for start in range(first, last, BLOCK):
        places = start + steps
        cells = offset + places[:, None] * HEAD_DIM + dims[None, :]  # (BLOCK, D)
        is_visible = places < last
        key = tl.load(keys + cells, mask=is_visible[:, None], other=0.0)
        scores = tl.dot(states, tl.trans(key), input_precision=PRECISION) * scale
        scores = tl.where(is_visible[None, :], scores, -float("inf"))
        risen = tl.maximum(highest, tl.max(scores, axis=1))
        weights = tl.exp2(scores - risen[:, None])
        kept = tl.exp2(highest - risen)
        value = tl.load(values + cells, mask=is_visible[:, None], other=0.0)
        weighted = weighted * kept[:, None] + tl.dot(weights.to(value.dtype), value, input_precision=PRECISION)
        total = total * kept + tl.sum(weights, axis=1)
        highest = risen

    cell = (stream * KEY_HEADS * GROUP + heads) * num_chunks + chunk
    tl.store(sums + cell[:, None] * HEAD_DIM + dims[None, :], weighted, mask=is_head[:, None])
    tl.store(stats + cell * 2, highest, mask=is_head)
    tl.store(stats + cell * 2 + 1, total, mask=is_head)


@triton.jit
def _combine_chunks(
    sums,
    stats,
    positions,
    attended,
    num_positions,
    num_chunks,
    HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    CHUNK: tl.constexpr,
    IS_EARLY: tl.constexpr,
):
    """The attention of one head of a stream from those of its chunks."""
    if IS_EARLY:
        gdc_wait()
        gdc_launch_dependents()
    head = tl.program_id(0)
    length = tl.minimum(tl.load(positions + head // HEADS).to(tl.int32) + 1, num_positions)
    dims = tl.arange(0, HEAD_DIM)
    highest = tl.full((), -float("inf"), tl.float32)
    total = tl.zeros((), tl.float32)
    weighted = tl.zeros((HEAD_DIM,), tl.float32)
    for chunk in range(0, tl.cdiv(length, CHUNK)):
        cell = head * num_chunks + chunk
        score = tl.load(stats + cell * 2)
        risen = tl.maximum(highest, score)
        kept, added = tl.exp2(highest - risen), tl.exp2(score - risen)
        weighted = weighted * kept + tl.load(sums + cell * HEAD_DIM + dims) * added
        total = total * kept + tl.load(stats + cell * 2 + 1) * added
        highest = risen
    tl.store(attended + head * HEAD_DIM + dims, (weighted / total).to(attended.dtype.element_ty))
