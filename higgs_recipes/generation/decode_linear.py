"""Products of a few streams' states with weights, as Triton kernels: the time is that of reading each weight once.

`rows_linear` takes a single stream. Each program reads some rows of the weight whole, and it also computes what is
before and after the product: RMSNorm, the gate and the residual. On Hopper and later a program reads its rows while
the kernel before it still runs (programmatic dependent launch). `tiled_linear` takes some streams and uses tensor
cores; a weight with few rows is also split along its columns, so that all multiprocessors read.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from higgs_recipes.generation.decode_attention import launches_early
from higgs_recipes.generation.decode_weights import Int8Weight, LayerWeights, Projection, project


_BLOCK_COLUMNS = 128
_OTHER_SHARED_BYTES = 2**15  # of a tile that changes its type or layout
_PROGRAMS = 400  # of tiled_linear at most, if a weight is split: about three for each multiprocessor
_TILED_STREAMS = 16  # more streams than this are faster by torch's own products
_TILED_INT8_STREAMS = 128  # torch has no product of 16-bit states and 8-bit weights


def linear(states: Tensor, weight: Projection, *, shared_bytes: int) -> Tensor:
    """As `decode_weights.project`, by the fastest kernel: (B, K) -> (B, N).

    Args:
        shared_bytes: shared memory that a program may have.
    """
    most = _TILED_INT8_STREAMS if isinstance(weight, Int8Weight) else _TILED_STREAMS
    if len(states) > most or states.dtype == torch.float32:
        return project(states, weight)
    return tiled_linear(states, weight, shared_bytes=shared_bytes)


def project_single(hidden: Tensor, layer: LayerWeights, *, epsilon: float) -> Tensor:
    """As `decode_step.project_states`, for one stream."""
    return rows_linear(hidden, layer.query_key_value, norm=layer.input_norm, epsilon=epsilon)


def finish_single(hidden: Tensor, attended: Tensor, layer: LayerWeights, *, epsilon: float) -> Tensor:
    """As `decode_step.finish_layer`, for one stream."""
    hidden = rows_linear(attended, layer.output, residual=hidden)
    gated = rows_linear(hidden, layer.gate_up, norm=layer.mlp_norm, epsilon=epsilon, gated=True)
    return rows_linear(gated, layer.down, residual=hidden)


def rows_linear(
    states: Tensor,
    weight: Tensor | Int8Weight,
    *,
    norm: Tensor | None = None,
    epsilon: float = 0.0,
    residual: Tensor | None = None,
    gated: bool = False,
) -> Tensor:
    """The product of one stream's states (1, K) with a weight (N, K).

    Args:
        norm: weight (K,) of an RMSNorm that is applied to the states.
        residual: (1, N) is added to the product.
        gated: the weight is that of gate and up together (2 * N, K): silu(gate) * up.

    Returns:
        (1, N), rounded where transformers rounds.
    """
    codes, scales = (weight.codes, weight.scales) if isinstance(weight, Int8Weight) else (weight, weight)
    (num_rows, num_columns), is_early = codes.shape, launches_early(states.device)
    assert states.is_contiguous() and codes.is_contiguous() and states.shape == (1, num_columns), states.shape
    num_rows = num_rows // 2 if gated else num_rows
    row_bytes = num_columns * codes.element_size()
    block_rows = 1 if row_bytes >= 2**14 else 2
    block_columns = triton.next_power_of_2(num_columns)
    product = torch.empty((1, num_rows), dtype=states.dtype, device=states.device)
    _multiply_rows[(triton.cdiv(num_rows, block_rows),)](
        states,
        states if norm is None else norm,
        codes,
        scales,
        states if residual is None else residual,
        product,
        num_rows,
        epsilon,
        COLUMNS=num_columns,
        BLOCK_ROWS=block_rows,
        BLOCK_COLUMNS=block_columns,
        HAS_NORM=norm is not None,
        HAS_RESIDUAL=residual is not None,
        IS_GATED=gated,
        IS_INT8=isinstance(weight, Int8Weight),
        IS_EARLY=is_early,
        num_warps=min(max(block_rows * block_columns * codes.element_size() // 4096, 2), 8),
        launch_pdl=is_early,
    )
    return product


@triton.jit
def _multiply_rows(
    states,
    norm,
    weight,
    scales,
    residual,
    product,
    num_rows,
    epsilon,
    COLUMNS: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
    HAS_NORM: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
    IS_GATED: tl.constexpr,
    IS_INT8: tl.constexpr,
    IS_EARLY: tl.constexpr,
):
    rows = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    columns = tl.arange(0, BLOCK_COLUMNS)
    is_row, is_column = rows < num_rows, columns < COLUMNS
    cells = rows[:, None].to(tl.int64) * COLUMNS + columns[None, :]
    is_cell = is_row[:, None] & is_column[None, :]
    # Weights depend on no other kernel: they are on their way before the states are there.
    weights = tl.load(weight + cells, mask=is_cell, other=0)
    if IS_GATED:
        ups = tl.load(weight + tl.cast(num_rows, tl.int64) * COLUMNS + cells, mask=is_cell, other=0)
    if IS_EARLY:
        gdc_wait()
        gdc_launch_dependents()
    dtype: tl.constexpr = product.dtype.element_ty
    state = tl.load(states + columns, mask=is_column, other=0.0).to(tl.float32)
    if HAS_NORM:
        state = (state * tl.rsqrt(tl.sum(state * state, axis=0) / COLUMNS + epsilon)).to(dtype).to(tl.float32)
        state = (state * tl.load(norm + columns, mask=is_column, other=0.0).to(tl.float32)).to(dtype).to(tl.float32)
    value = tl.sum(weights.to(tl.float32) * state[None, :], axis=1)
    if IS_INT8:
        value *= tl.load(scales + rows, mask=is_row, other=0.0).to(tl.float32)
    value = value.to(dtype).to(tl.float32)
    if IS_GATED:
        up = tl.sum(ups.to(tl.float32) * state[None, :], axis=1)
        if IS_INT8:
            up *= tl.load(scales + num_rows + rows, mask=is_row, other=0.0).to(tl.float32)
        value = (value / (1.0 + tl.exp(-value))).to(dtype).to(tl.float32) * up.to(dtype).to(tl.float32)
    if HAS_RESIDUAL:
        value += tl.load(residual + rows, mask=is_row, other=0.0).to(tl.float32)
    tl.store(product + rows, value.to(dtype), mask=is_row)


def tiled_linear(states: Tensor, weight: Tensor | Int8Weight, *, shared_bytes: int) -> Tensor:
    """The product (B, N) of the states (B, K) of up to 128 streams with a weight (N, K)."""
    codes, scales = (weight.codes, weight.scales) if isinstance(weight, Int8Weight) else (weight, weight)
    (num_rows, num_columns), num_streams = codes.shape, len(states)
    block_rows, most_parts = (32, 4) if num_streams <= 16 else (64, 2)
    num_parts = 1
    while num_parts < most_parts and triton.cdiv(num_rows, block_rows) * num_parts * 2 <= _PROGRAMS:
        num_parts *= 2
    part_columns = triton.cdiv(num_columns, num_parts * _BLOCK_COLUMNS) * _BLOCK_COLUMNS
    padded_streams = max(16, triton.next_power_of_2(num_streams))
    stage_bytes = _BLOCK_COLUMNS * (block_rows * codes.element_size() + padded_streams * states.element_size())
    parts = torch.empty((num_parts, num_streams, num_rows), dtype=torch.float32, device=states.device)
    _multiply_tiles[(triton.cdiv(num_rows, block_rows), num_parts)](
        states,
        codes,
        scales,
        parts,
        states.stride(0),
        num_rows,
        part_columns,
        num_streams,
        COLUMNS=num_columns,
        STREAMS=padded_streams,
        BLOCK_ROWS=block_rows,
        BLOCK_COLUMNS=_BLOCK_COLUMNS,
        IS_INT8=isinstance(weight, Int8Weight),
        PRECISION="ieee" if states.dtype == torch.float32 else "tf32",
        num_warps=4,
        num_stages=min(max((shared_bytes - _OTHER_SHARED_BYTES) // stage_bytes, 1), 4),  # tiles that are loaded ahead
    )
    return parts.sum(dim=0).to(states.dtype)


@triton.jit
def _multiply_tiles(
    states,
    weight,
    scales,
    parts,
    states_stride,
    num_rows,
    part_columns,
    num_streams,
    COLUMNS: tl.constexpr,
    STREAMS: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
    IS_INT8: tl.constexpr,
    PRECISION: tl.constexpr,
):
    rows = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    streams, columns = tl.arange(0, STREAMS), tl.arange(0, BLOCK_COLUMNS)
    is_row, is_stream = rows < num_rows, streams < num_streams
    first = tl.program_id(1) * part_columns
    last = tl.minimum(first + part_columns, COLUMNS)
    weight += rows[:, None].to(tl.int64) * COLUMNS + columns[None, :]
    states += streams[:, None] * states_stride + columns[None, :]
    product = tl.zeros((BLOCK_ROWS, STREAMS), tl.float32)
    for start in range(first, last, BLOCK_COLUMNS):
        is_column = (start + columns < last)[None, :]
        tile = tl.load(weight + start, mask=is_row[:, None] & is_column, other=0)
        state = tl.load(states + start, mask=is_stream[:, None] & is_column, other=0.0)
        product = tl.dot(tile.to(state.dtype), tl.trans(state), product, input_precision=PRECISION)
    if IS_INT8:
        product *= tl.load(scales + rows, mask=is_row, other=0.0).to(tl.float32)[:, None]
    part = parts + (tl.program_id(1) * num_streams + streams[None, :]) * num_rows + rows[:, None]
    tl.store(part, product, mask=is_row[:, None] & is_stream[None, :])
