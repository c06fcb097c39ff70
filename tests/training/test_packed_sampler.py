"""Packed rows: every sample once, full to the last positions, reproducible by seed and epoch."""

from math import ceil

import pytest
import torch
from accelerate.data_loader import BatchSamplerShard

from higgs_recipes.training.packed_sampler import PackedRowSampler, fill_rows


def speech_lengths(num_rows: int, *, seed: int = 0) -> list[int]:
    """Positions of clips of 2 to 15 s (log-normal around 5 s), with text and prompt."""
    generator = torch.Generator().manual_seed(seed)
    seconds = (1.6 + 0.5 * torch.randn(num_rows, generator=generator)).exp().clamp(2, 15)
    return (seconds * 25 + 9 + 40 + seconds * 4).long().tolist()


@pytest.mark.parametrize("capacity", [2048, 8192])
def test_rows_of_speech_are_full_and_have_every_sample_once(capacity):
    lengths = speech_lengths(3000)
    rows = fill_rows(lengths, range(3000), capacity=capacity)
    assert sorted(index for row in rows for index in row) == list(range(3000))
    fills = [sum(lengths[index] for index in row) / capacity for row in rows]
    assert max(fills) <= 1 and min(fills[:-1]) > 0.99
    assert len(rows) == ceil(sum(lengths) / capacity)


def test_rows_nearly_keep_the_given_order():
    lengths = speech_lengths(3000)
    rows = fill_rows(lengths, range(3000), capacity=8192)
    positions = [(index, position) for position, row in enumerate(rows) for index in row]
    per_row = 3000 / len(rows)
    assert max(abs(index / per_row - position) for index, position in positions) < 4


def test_equal_lengths_and_lengths_of_a_whole_row_are_packed():
    assert fill_rows([340] * 50, range(50), capacity=8192) == [list(range(24)), list(range(24, 48)), [48, 49]]
    assert fill_rows([10, 3, 10], range(3), capacity=10) == [[0], [1], [2]]
    assert fill_rows([], [], capacity=10) == []


def test_sample_longer_than_a_row_is_refused():
    with pytest.raises(ValueError, match="11 positions do not fit pack_to=10; raise it"):
        fill_rows([3, 11], range(2), capacity=10)


@pytest.mark.parametrize("num_processes", [1, 2, 8])
def test_epochs_have_equal_numbers_of_batches_and_every_sample_once(num_processes):
    lengths = speech_lengths(300)
    sampler = PackedRowSampler(lengths, capacity=2048, seed=3, num_processes=num_processes)
    assert len(sampler) % num_processes == 0
    epochs = []
    for epoch in range(12):
        sampler.set_epoch(epoch)
        epochs.append(list(sampler))
        assert len(epochs[-1]) == len(sampler)
        assert sorted(index for row in epochs[-1] for index in row) == list(range(300))
        assert all(sum(lengths[index] for index in row) <= 2048 for row in epochs[-1])
    assert epochs[0] != epochs[1]
    again = PackedRowSampler(lengths, capacity=2048, seed=3, num_processes=num_processes)
    again.set_epoch(7)
    assert list(again) == epochs[7]


def test_every_process_has_a_batch_if_no_row_can_be_split():
    sampler = PackedRowSampler([300, 310, 320], capacity=500, seed=0, num_processes=2)
    shards = [list(BatchSamplerShard(sampler, 2, process)) for process in range(2)]
    assert [len(shard) for shard in shards] == [2, 2] and len(sampler) == 4
    assert {index for shard in shards for (index,) in shard} == {0, 1, 2}
