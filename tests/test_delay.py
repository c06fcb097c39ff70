"""The delay pattern: the reference's frames, an obvious slow construction, and the way back."""

import pytest
import torch

from higgs_recipes.constants import BOS_CODE, EOS_CODE, IGNORE_INDEX
from higgs_recipes.delay import delay_codes, delay_targets, undelay_frames
from tests.helpers.tiny import golden_samples, golden_tensors


def drawn_codes(num_steps: int, num_codebooks: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(num_steps * 31 + num_codebooks)
    return torch.randint(0, 1024, (num_steps, num_codebooks), generator=generator, dtype=torch.int16)


def slow_frames(codes: torch.Tensor) -> list[list[int]]:
    """Cell by cell, as the docstring of the module says it in words."""
    num_steps, num_codebooks = codes.shape
    frames = []
    for f in range(num_steps + num_codebooks + 1):
        row = []
        for k in range(num_codebooks):
            step = f - k - 1  # codebook k lags k frames, and a BOS row comes first
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


def test_the_contract_s_example():
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
def test_frames_and_targets_equal_the_obvious_construction(shape):
    codes = drawn_codes(*shape)
    assert delay_codes(codes).tolist() == slow_frames(codes)
    assert delay_targets(codes).tolist() == slow_targets(codes)


@pytest.mark.parametrize("shape", SHAPES)
def test_undelaying_gives_the_codes_back(shape):
    codes = drawn_codes(*shape)
    assert undelay_frames(delay_codes(codes)).tolist() == codes.tolist()


@pytest.mark.parametrize("index", range(4))
def test_frames_and_targets_are_the_reference_s(index):
    sample = golden_samples()[index]
    frames = torch.cat([delay_codes(codes) for codes in sample["codes"]])
    targets = [delay_targets(codes) for codes in sample["codes"]]
    targets = [
        each if supervised else torch.full_like(each, IGNORE_INDEX)
        for each, supervised in zip(targets, sample["supervise"], strict=True)
    ]
    assert torch.equal(frames, golden_tensors()[f"sample{index}.audio_input_ids"])
    assert torch.equal(torch.cat(targets), golden_tensors()[f"sample{index}.audio_labels"])


def test_eos_is_a_target_once_per_codebook():
    for shape in SHAPES:
        assert ((delay_targets(drawn_codes(*shape)) == EOS_CODE).sum(dim=0) == 1).all()


def test_other_marks_are_used_where_they_are_given():
    codes = torch.tensor([[3, 5], [4, 6]])
    assert delay_codes(codes, bos=8, eos=9).tolist() == [[8, 8], [3, 8], [4, 5], [9, 6], [9, 9]]
    assert delay_targets(codes, eos=9).tolist() == [[-100, -100], [3, -100], [4, 5], [9, 6], [-100, 9]]


def test_frames_that_are_no_clip_are_refused():
    with pytest.raises(ValueError, match="8 frames are fewer than the 9 of an empty clip"):
        undelay_frames(torch.zeros((8, 8), dtype=torch.long))
