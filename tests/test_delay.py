"""The delay pattern equals the reference and a slow construction cell by cell, and can be inverted."""

import pytest
import torch

from higgs_recipes.constants import BOS_CODE, EOS_CODE, IGNORE_INDEX
from higgs_recipes.delay import delay_clips, delay_codes, delay_targets, share_of_equal_codes, undelay_frames
from tests.helpers.tiny import golden_samples, golden_tensors


def random_codes(num_steps: int, num_codebooks: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(num_steps * 31 + num_codebooks)
    return torch.randint(0, 1024, (num_steps, num_codebooks), generator=generator, dtype=torch.int16)


def slow_frames(codes: torch.Tensor) -> list[list[int]]:
    """Cell by cell, as described in the docstring of the module."""
    num_steps, num_codebooks = codes.shape
    frames = []
    for f in range(num_steps + num_codebooks + 1):
        row = []
        for k in range(num_codebooks):
            step = f - k - 1  # codebook k lags k frames, after a BOS row
            row.append(BOS_CODE if step < 0 else EOS_CODE if step >= num_steps else int(codes[step, k]))
        frames.append(row)
    return frames


def slow_targets(codes: torch.Tensor) -> list[list[int]]:
    num_steps, num_codebooks = codes.shape
    targets = []
    for f in range(num_steps + num_codebooks + 1):
        row = []
        for k in range(num_codebooks):
            step = f - k - 1
            in_clip = 0 <= step < num_steps
            row.append(int(codes[step, k]) if in_clip else EOS_CODE if step == num_steps else IGNORE_INDEX)
        targets.append(row)
    return targets


SHAPES = [(0, 8), (1, 1), (1, 8), (4, 3), (3, 8), (25, 8)]


def test_worked_example():
    codes = torch.tensor([[1, 101, 201], [2, 102, 202], [3, 103, 203], [4, 104, 204]])
    assert delay_codes(codes).tolist() == [
        [1024, 1024, 1024],
        [1, 1024, 1024],
        [2, 101, 1024],
        [3, 102, 201],
        [4, 103, 202],
        [1025, 104, 203],
        [1025, 1025, 204],
        [1025, 1025, 1025],
    ]
    assert delay_targets(codes).tolist() == [
        [-100, -100, -100],
        [1, -100, -100],
        [2, 101, -100],
        [3, 102, 201],
        [4, 103, 202],
        [1025, 104, 203],
        [-100, 1025, 204],
        [-100, -100, 1025],
    ]


@pytest.mark.parametrize("shape", SHAPES)
def test_frames_and_targets_equal_the_slow_construction(shape):
    codes = random_codes(*shape)
    assert delay_codes(codes).tolist() == slow_frames(codes)
    assert delay_targets(codes).tolist() == slow_targets(codes)


@pytest.mark.parametrize("shape", SHAPES)
def test_undelay_inverts_delay(shape):
    codes = random_codes(*shape)
    assert undelay_frames(delay_codes(codes)).tolist() == codes.tolist()


@pytest.mark.parametrize("index", range(4))
def test_frames_and_targets_equal_the_reference(index):
    sample = golden_samples()[index]
    frames = torch.cat([delay_codes(codes) for codes in sample["codes"]])
    targets = [delay_targets(codes) for codes in sample["codes"]]
    targets = [
        clip if supervised else torch.full_like(clip, IGNORE_INDEX)
        for clip, supervised in zip(targets, sample["supervise"], strict=True)
    ]
    assert torch.equal(frames, golden_tensors()[f"sample{index}.audio_input_ids"])
    assert torch.equal(torch.cat(targets), golden_tensors()[f"sample{index}.audio_labels"])


def test_eos_is_a_target_once_per_codebook():
    for shape in SHAPES:
        assert ((delay_targets(random_codes(*shape)) == EOS_CODE).sum(dim=0) == 1).all()


def test_bos_and_eos_can_be_other_codes():
    codes = torch.tensor([[3, 5], [4, 6]])
    assert delay_codes(codes, bos=8, eos=9).tolist() == [[8, 8], [3, 8], [4, 5], [9, 6], [9, 9]]
    assert delay_targets(codes, eos=9).tolist() == [[-100, -100], [3, -100], [4, 5], [9, 6], [-100, 9]]


def test_too_few_frames_are_refused():
    with pytest.raises(ValueError, match="8 frames are fewer than the 9 of an empty clip"):
        undelay_frames(torch.zeros((8, 8), dtype=torch.long))


def test_clips_delayed_together_equal_clips_delayed_alone():
    clips = [random_codes(num_steps, 4) for num_steps in (3, 1, 7)]
    starts, num_rows = [2, 10, 18], 32  # two rows before the first clip, and two after the last
    together = delay_clips(
        [clip.numpy() for clip in clips], starts, shape=(num_rows, 4), before=IGNORE_INDEX, eos=EOS_CODE, after=7
    )
    expected = torch.full((num_rows, 4), 7)
    for clip, start in zip(clips, starts, strict=True):
        frames = delay_targets(clip)
        expected[start : start + len(frames)] = torch.where(frames == IGNORE_INDEX, 7, frames)
        for k in range(4):
            expected[start : start + k + 1, k] = IGNORE_INDEX
    assert together.tolist() == expected.tolist()


def test_no_clips_give_the_rest_of_the_array():
    assert delay_clips([], [], shape=(2, 3), before=0, eos=1, after=5).tolist() == [[5, 5, 5], [5, 5, 5]]
    assert delay_clips([], [], shape=(0, 3), before=0, eos=1, after=5).shape == (0, 3)


def test_steps_of_only_one_clip_are_different_codes():
    codes = random_codes(4, 8)
    assert share_of_equal_codes(codes, codes) == 1
    assert share_of_equal_codes(codes[:2], codes) == share_of_equal_codes(codes, codes[:2].long()) == 0.5
