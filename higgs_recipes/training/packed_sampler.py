"""Choose which samples share a packed row: in random order, so that rows are full to the last positions."""

from collections.abc import Iterator, Sequence
from itertools import islice

import torch
from torch.utils.data import DataLoader, Sampler

from higgs_recipes.collator import HiggsCollator
from higgs_recipes.configs.sft import SFTConfig
from higgs_recipes.samples import SampleDataset


# Number of samples considered beyond those that fit a row, to find some that fill it exactly.
LOOKAHEAD = 64


def fill_rows(lengths: Sequence[int], order: Sequence[int], *, capacity: int) -> list[list[int]]:
    """Distribute samples over rows of at most `capacity` positions; every index of `order` is in one row.

    A row takes the first remaining sample and, of those after it, the first that fill the row exactly. If none do, it
    takes those that fill it best, of the samples up to the first that would overflow it and `LOOKAHEAD` more. So the
    result nearly keeps the given order. This is subset sum by dynamic programming; the set of reachable sums is stored
    as the bits of an integer.

    Args:
        lengths: positions of each sample.
        order: indexes into `lengths`.
        capacity: positions of a row.

    >>> fill_rows([5, 4, 3, 6, 1, 2], range(6), capacity=10)
    [[0, 1, 4], [2, 3], [5]]

    Raises:
        ValueError: a sample is longer than a row.
    """
    if any(lengths[index] > capacity for index in order):
        raise ValueError(f"{max(lengths)} positions do not fit pack_to={capacity}; raise it")
    mask = (1 << capacity + 1) - 1
    unread, waiting, rows = iter(order), [], []
    while waiting or (waiting := list(islice(unread, 1))):
        # Bit s of sums[i] is set if some of the samples 0 .. i, including sample 0, add up to s.
        sums, total, num_overflowing, position = [1 << lengths[waiting[0]]], lengths[waiting[0]], 0, 1
        while not sums[-1] >> capacity & 1 and num_overflowing < LOOKAHEAD:
            if position == len(waiting):
                waiting += islice(unread, 1)
            if position == len(waiting):
                break
            length = lengths[waiting[position]]
            sums.append((sums[-1] | sums[-1] << length) & mask)
            total, position = total + length, position + 1
            num_overflowing += total > capacity
        target, chosen = sums[-1].bit_length() - 1, {0}
        for position in range(len(sums) - 1, 0, -1):
            if not sums[position - 1] >> target & 1:
                chosen.add(position)
                target -= lengths[waiting[position]]
        rows.append([waiting[position] for position in sorted(chosen)])
        waiting = [index for position, index in enumerate(waiting) if position not in chosen]
    return rows


class PackedRowSampler(Sampler[list[int]]):
    """Batches of one packed row each, with every sample once per epoch, for any number of processes.

    All epochs have the same number of batches: that of the first epoch, rounded up to a multiple of the processes by
    splitting the rows with the most samples in two. An epoch whose order needs more rows uses the first epoch's rows
    in a new order. If no row is left to split (each has one sample), accelerate repeats the first rows for the
    processes that have none.
    """

    def __init__(self, lengths: Sequence[int], *, capacity: int, seed: int, num_processes: int) -> None:
        self.lengths, self.capacity, self.seed, self.epoch = list(lengths), capacity, seed, 0
        self.first_rows = self._rows(0)
        self.num_batches = -(-len(self.first_rows) // num_processes) * num_processes

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[list[int]]:
        rows = self.first_rows if self.epoch == 0 else self._rows(self.epoch)
        rows = list(rows if len(rows) <= self.num_batches else self.first_rows)
        while len(rows) < self.num_batches and len(fullest := max(rows, key=len)) > 1:
            rows.remove(fullest)
            rows += [fullest[: len(fullest) // 2], fullest[len(fullest) // 2 :]]
        # Shuffled, because the last rows are less full: residual samples, and halves.
        return iter([rows[index] for index in self._permutation(len(rows), epoch=self.epoch)])

    def _rows(self, epoch: int) -> list[list[int]]:
        return fill_rows(self.lengths, self._permutation(len(self.lengths), epoch=epoch), capacity=self.capacity)

    def _permutation(self, size: int, *, epoch: int) -> list[int]:
        return torch.randperm(size, generator=torch.Generator().manual_seed(self.seed + epoch)).tolist()


def packed_loader(samples: SampleDataset, collator: HiggsCollator, config: SFTConfig) -> DataLoader:
    """The training batches of a recipe with `fill_rows`."""
    return DataLoader(
        samples,
        batch_sampler=PackedRowSampler(
            samples.num_positions(),
            capacity=config.pack_to,
            seed=config.seed if config.data_seed is None else config.data_seed,
            num_processes=config.world_size,
        ),
        collate_fn=collator,
        num_workers=config.dataloader_num_workers,
        pin_memory=config.dataloader_pin_memory,
        persistent_workers=config.dataloader_persistent_workers,
        prefetch_factor=config.dataloader_prefetch_factor,
        multiprocessing_context=config.dataloader_multiprocessing_context,
    )
