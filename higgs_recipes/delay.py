"""The delay pattern of Higgs Audio v2: codebook k lags k frames behind the first.

Letters, used everywhere: B batch, S text positions, T codec steps, F delayed frames, C codebooks, V codes per
codebook, N audio samples. `codes` (T, C) are undelayed, `frames` (F, C) delayed, `targets` (F, C) what the loss sees.
F = T + C + 1: a BOS row, the codes and an EOS row, shifted down by k; the gap above is BOS, below EOS. The pattern is
MusicGen's (arXiv 2306.05284); the rows around it are those that the published model was trained with.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from higgs_recipes.constants import BOS_CODE, EOS_CODE, IGNORE_INDEX


def delay_codes(codes: Tensor, *, bos: int = BOS_CODE, eos: int = EOS_CODE) -> Tensor:
    """Delay codes (T, C) into the frames (T + C + 1, C) that the model reads.

    >>> delay_codes(torch.tensor([[1, 101], [2, 102], [3, 103]])).T.tolist()         # T=3, C=2 -> F=6
    [[1024, 1, 2, 3, 1025, 1025], [1024, 1024, 101, 102, 103, 1025]]
    """
    return _shift_down(codes, above=bos, first=bos, last=eos, below=eos)


def delay_targets(codes: Tensor, *, eos: int = EOS_CODE) -> Tensor:
    """Targets (T + C + 1, C) of codes (T, C): the codes and ONE EOS per codebook; `IGNORE_INDEX` elsewhere.

    `targets[f]` is what the model should say at frame f, so the loss compares it with the logits of frame f - 1.

    >>> delay_targets(torch.tensor([[1, 101], [2, 102], [3, 103]])).T.tolist()
    [[-100, 1, 2, 3, 1025, -100], [-100, -100, 101, 102, 103, 1025]]
    """
    return _shift_down(codes, above=IGNORE_INDEX, first=IGNORE_INDEX, last=eos, below=IGNORE_INDEX)


def undelay_frames(frames: Tensor) -> Tensor:
    """Inverse of `delay_codes`: frames (T + C + 1, C) -> codes (T, C), without the BOS and EOS rows.

    Raises:
        ValueError: fewer frames than the pattern itself has.

    >>> undelay_frames(delay_codes(torch.tensor([[1, 101], [2, 102], [3, 103]]))).tolist()
    [[1, 101], [2, 102], [3, 103]]
    """
    num_frames, num_codebooks = frames.shape  # (F, C)
    num_steps = num_frames - num_codebooks - 1
    if num_steps < 0:
        raise ValueError(f"{num_frames} frames are fewer than the {num_codebooks + 1} of an empty clip")
    return torch.stack([frames[k + 1 : k + 1 + num_steps, k] for k in range(num_codebooks)], dim=1)


def shift_columns(rows: np.ndarray, starts: Sequence[int], *, above: int) -> np.ndarray:
    """The delay of many clips at once: column k of `rows` (F, C) k rows lower, with `above` over each clip's start.

    Args:
        rows: the clips end to end, each with its row of BOS, its codes, its row of EOS and at least C - 1 rows below.
        starts: the first row of each clip, in `rows` and in what is returned.
        above: what stands over a column.

    >>> clip = [[1024, 1024], [1, 101], [2, 102], [1025, 1025], [1025, 1025]]
    >>> shift_columns(np.array(clip), [0], above=1024).tolist() == delay_codes(torch.tensor(clip[1:3])).tolist()
    True
    """
    num_rows, num_codebooks = rows.shape  # (F, C)
    shifted = rows.copy()
    gap_rows, gap_columns = np.tril_indices(num_codebooks, -1)[::-1]  # row f of column k for f < k
    for k in range(num_codebooks):
        shifted[k:, k] = rows[: num_rows - k, k]
    shifted[np.add.outer(np.asarray(starts, dtype=np.int64), gap_rows), gap_columns] = above
    return shifted


def _shift_down(codes: Tensor, *, above: int, first: int, last: int, below: int) -> Tensor:
    """Put `first`, a codebook's codes and `last` in a column, the k-th k rows lower: (T, C) -> (T + C + 1, C)."""
    num_steps, num_codebooks = codes.shape  # (T, C)
    columns = torch.full((num_steps + num_codebooks + 1, num_codebooks), below, dtype=torch.long, device=codes.device)
    for k in range(num_codebooks):
        columns[:k, k] = above
        columns[k, k] = first
        columns[k + 1 : k + 1 + num_steps, k] = codes[:, k]
        columns[k + 1 + num_steps, k] = last
    return columns
