"""Which samples share a packed row: drawn in random order, chosen so that they fill it to the last positions."""

from collections.abc import Iterator, Sequence
from itertools import islice

import torch
from torch.utils.data import Sampler


# Samples looked at beyond those that would overflow a row, for some that fill it exactly.
LOOKAHEAD = 64


def fill_rows(lengths: Sequence[int], order: Sequence[int], *, capacity: int) -> list[list[int]]:
    """Rows of at most `capacity` positions, with every index of `order` in one of them.

    A row holds the sample that waits longest and, of those that come next, the first that fill it exactly (else, of
    the first that would overflow it and `LOOKAHEAD` more, those that fill it best): so the order stays nearly the one
    that was drawn. It is a subset-sum by dynamic programming, the sums that can be reached held as the bits of an
    integer.

    >>> fill_rows([5, 4, 3, 6, 1, 2], range(6), capacity=10)
    [[0, 1, 4], [2, 3], [5]]

    Raises:
        ValueError: a sample is longer than a row.
    """
    if any(lengths[index] > capacity for index in order):
        raise ValueError(f"{max(lengths)} positions do not fit pack_to={capacity}; raise it")
    mask = (1 << capacity + 1) - 1
    coming, waiting, rows = iter(order), [], []
    while waiting or (waiting := list(islice(coming, 1))):
        # Bit s of sums[i]: some of the samples 0 .. i, and always the first, add up to s.
        sums, total, beyond, place = [1 << lengths[waiting[0]]], lengths[waiting[0]], 0, 1
        while not sums[-1] >> capacity & 1 and beyond < LOOKAHEAD:
            if place == len(waiting):
                waiting += islice(coming, 1)
            if place == len(waiting):
                break
            length = lengths[waiting[place]]
            sums.append((sums[-1] | sums[-1] << length) & mask)
            total, place = total + length, place + 1
            beyond += total > capacity
        target, chosen = sums[-1].bit_length() - 1, {0}
        for place in range(len(sums) - 1, 0, -1):
            if not sums[place - 1] >> target & 1:
                chosen.add(place)
                target -= lengths[waiting[place]]
        rows.append([waiting[place] for place in sorted(chosen)])
        waiting = [index for place, index in enumerate(waiting) if place not in chosen]
    return rows


class PackedRowSampler(Sampler[list[int]]):
    """Batches of one packed row each; every sample once an epoch, on however many processes.

    All epochs have as many batches: those of the first, made a multiple of the processes by halving the fullest. An
    epoch whose order would take more has the first epoch's rows in an order of its own. Where no row is left to halve,
    each holding one sample, accelerate repeats the first of them for the processes that have none.
    """

    def __init__(self, lengths: Sequence[int], *, capacity: int, seed: int, num_processes: int) -> None:
        self.lengths, self.capacity, self.seed, self.epoch = list(lengths), capacity, seed, 0
        self.first = fill_rows(self.lengths, self._draw(len(self.lengths), epoch=0), capacity=capacity)
        self.num_batches = -(-len(self.first) // num_processes) * num_processes

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[list[int]]:
        order = self._draw(len(self.lengths), epoch=self.epoch)
        rows = fill_rows(self.lengths, order, capacity=self.capacity)
        if len(rows) > self.num_batches:
            rows = list(self.first)
        while len(rows) < self.num_batches and len(fullest := max(rows, key=len)) > 1:
            rows.remove(fullest)
            rows += [fullest[: len(fullest) // 2], fullest[len(fullest) // 2 :]]
        # The last rows are those that were left over, and halves: they stand anywhere.
        return iter([rows[place] for place in self._draw(len(rows), epoch=self.epoch)])

    def _draw(self, size: int, *, epoch: int) -> list[int]:
        return torch.randperm(size, generator=torch.Generator().manual_seed(self.seed + epoch)).tolist()
