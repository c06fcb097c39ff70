"""Attention of one query a stream over a KV cache, as Triton kernels: only the positions that a stream has are read.

Positions are split into chunks that run side by side, since a few streams alone do not fill a GPU, and a second kernel
combines them (flash-decoding, arXiv 2311.01282). Scores, probabilities and sums are float32.
"""

from collections.abc import Callable
from functools import partial

import torch
import triton
import triton.language as tl
from torch import Tensor


_BLOCK = 64  # positions that are loaded at once
_MIN_ROWS = 16  # of a tensor core's tile: the query heads of a key head are padded to as many


def kernel_attention(positions: Tensor, num_positions: int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """As `decode_step.sdpa_attention`; keys and values need a head size that is a power of 2 and at least 16."""
    return partial(_attend, positions=positions, num_positions=num_positions)


def _attend(query: Tensor, keys: Tensor, values: Tensor, *, positions: Tensor, num_positions: int) -> Tensor:
    num_streams, num_heads, head_dim = query.shape
    assert head_dim >= 16 and head_dim & (head_dim - 1) == 0, head_dim
    num_key_heads = keys.shape[1]
    group = num_heads // num_key_heads
    assert query.stride()[1:] == (head_dim, 1) == keys.stride()[2:] and keys.stride() == values.stride()
    chunk = _BLOCK if num_streams < 16 else 4 * _BLOCK
    num_chunks = triton.cdiv(num_positions, chunk)
    sums = torch.empty((num_streams, num_heads, num_chunks, head_dim), dtype=torch.float32, device=query.device)
    stats = torch.empty((num_streams, num_heads, num_chunks, 2), dtype=torch.float32, device=query.device)
    _attend_chunk[(num_streams * num_key_heads, num_chunks)](
        query,
        keys,
        values,
        positions,
        sums,
        stats,
        query.stride(0),
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
        PRECISION="ieee" if query.dtype == torch.float32 else "tf32",
        num_warps=4,
        num_stages=3,
    )
    attended = torch.empty((num_streams, num_heads * head_dim), dtype=query.dtype, device=query.device)
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
    )
    return attended


@triton.jit
def _attend_chunk(
    query,
    keys,
    values,
    positions,
    sums,
    stats,
    query_stride,
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
):
    """Weighted values (GROUP, D) of one key head and chunk of a stream, their maximal score and sum of weights."""
    stream, key_head = tl.program_id(0) // KEY_HEADS, tl.program_id(0) % KEY_HEADS
    chunk = tl.program_id(1)
    length = tl.minimum(tl.load(positions + stream).to(tl.int32) + 1, num_positions)
    first = chunk * CHUNK
    if first >= length:
        return
    rows, dims, steps = tl.arange(0, ROWS), tl.arange(0, HEAD_DIM), tl.arange(0, BLOCK)
    heads = key_head * GROUP + rows  # (ROWS,)
    is_head = rows < GROUP
    query += stream * query_stride
    states = tl.load(query + heads[:, None] * HEAD_DIM + dims[None, :], mask=is_head[:, None], other=0.0)
    offset = stream.to(tl.int64) * stream_stride + key_head.to(tl.int64) * head_stride

    highest = tl.full((ROWS,), -float("inf"), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    weighted = tl.zeros((ROWS, HEAD_DIM), tl.float32)
    for start in range(first, tl.minimum(first + CHUNK, length), BLOCK):
        places = start + steps
        cells = offset + places[:, None] * HEAD_DIM + dims[None, :]  # (BLOCK, D)
        is_visible = places < length
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
):
    """The attention of one head of a stream from those of its chunks."""
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
