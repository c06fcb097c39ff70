"""The delay pattern of Higgs Audio v2: codebook k lags k frames behind the first.

Letters, used everywhere: B batch, S text positions, T codec steps, F delayed frames, C codebooks, V codes per
codebook, N audio samples. `codes` (T, C) are undelayed, `frames` (F, C) are delayed, `targets` (F, C) enter the loss.
F = T + C + 1: a BOS row, the codes and an EOS row, with column k shifted down by k; the gap above is BOS, below EOS.
The pattern is MusicGen's (arXiv 2306.05284); the BOS and EOS rows are those of the published model.
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
    return _delay_one(codes, before=bos, eos=eos, after=eos)


def delayed_length(num_steps: int, num_codebooks: int) -> int:
    """The frames F of a clip of T steps: one for BOS, and one for the EOS of each codebook."""
    return num_steps + num_codebooks + 1


def delay_targets(codes: Tensor, *, eos: int = EOS_CODE) -> Tensor:
    """Targets (T + C + 1, C) of codes (T, C): the codes and ONE EOS per codebook; `IGNORE_INDEX` elsewhere.

    `targets[f]` is what the model predicts for frame f: the loss compares it with the logits of frame f - 1.

    >>> delay_targets(torch.tensor([[1, 101], [2, 102], [3, 103]])).T.tolist()
    [[-100, 1, 2, 3, 1025, -100], [-100, -100, 101, 102, 103, 1025]]
    """
    return _delay_one(codes, before=IGNORE_INDEX, eos=eos, after=IGNORE_INDEX)


def undelay_frames(frames: Tensor) -> Tensor:
    """Invert `delay_codes`: frames (T + C + 1, C) -> codes (T, C), without the BOS and EOS rows.

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


def share_of_equal_codes(codes: Tensor, other: Tensor) -> float:
    """Share of equal codes of two clips (T_i, C); steps that only one of them has count as different.

    >>> share_of_equal_codes(torch.tensor([[1, 2], [3, 4]]), torch.tensor([[1, 9]]))
    0.25
    """
    num_steps = min(len(codes), len(other))
    return int((codes[:num_steps] == other[:num_steps]).sum()) / max(codes.numel(), other.numel())


def delay_clips(
    clips: Sequence[np.ndarray], starts: Sequence[int], *, shape: tuple[int, int], before: int, eos: int, after: int
) -> np.ndarray:
    """Delay many clips at once, into one array: clip i into the T_i + C + 1 rows from `starts[i]` on.

    Args:
        clips: codes (T_i, C) of each clip.
        starts: the first row of each clip; clips do not overlap.
        shape: (rows, C) of the returned array.
        before: value above a codebook's codes.
        eos: value directly below a codebook's codes.
        after: value below that, and in all rows that belong to no clip.

    >>> clips = [np.array([[1, 101], [2, 102]]), np.array([[3, 103]])]
    >>> delay_clips(clips, [0, 5], shape=(9, 2), before=1024, eos=1025, after=1025).T.tolist()
    [[1024, 1, 2, 1025, 1025, 1024, 3, 1025, 1025], [1024, 1024, 101, 102, 1025, 1024, 1024, 103, 1025]]
    """
    num_rows, num_codebooks = shape
    rows = np.full(shape, after)  # before the shift: a row for `before`, T_i rows of codes, a row of EOS, C - 1 more
    for codes, start in zip(clips, starts, strict=True):
        rows[start + 1 : start + 1 + len(codes)] = codes
        rows[start + 1 + len(codes)] = eos
    delayed = rows.copy()
    for k in range(num_codebooks):
        delayed[k:, k] = rows[: num_rows - k, k]
    # The first k + 1 rows of a clip's column k now hold the end of the clip above it.
    gap_rows, gap_columns = np.tril_indices(num_codebooks)[::-1]  # (row f, column k) with f <= k
    delayed[np.add.outer(np.asarray(starts, dtype=np.int64), gap_rows), gap_columns] = before
    return delayed


def _delay_one(codes: Tensor, *, before: int, eos: int, after: int) -> Tensor:
    num_steps, num_codebooks = codes.shape  # (T, C)
    shape = (delayed_length(num_steps, num_codebooks), num_codebooks)
    delayed = delay_clips([codes.cpu().numpy()], [0], shape=shape, before=before, eos=eos, after=after)
    return torch.from_numpy(delayed).to(codes.device)  # (T + C + 1, C)
