"""95 % confidence intervals of scores over the evaluated texts, and the reason where a score has none.

The sampling unit is an utterance (of dialogues, a dialogue). A share of clips has the exact Clopper-Pearson interval.
A rate (sum of edits / sum of words) or a mean has the bootstrap-t interval: most utterances have no error and a few
have many, and for such samples the percentile bootstrap is too narrow and too low.

Coverage in percent on 4,000 simulated samples, that of the percentile bootstrap in brackets; source:
`tests/evaluation/test_intervals.py`, which measures it again.

| utterances | WER 2 % | WER 6 % | WER 20 % | WER 100 % | similarity | duration ratio | 10 % of clips fail |
|---|---|---|---|---|---|---|---|
| 10 | 99.5 (82) | 94.4 (83) | 95.0 (87) | 94.4 (90) | 94.3 (88) | 94.5 (90) | 84.3 (69) |
| 20 | 96.5 (85) | 96.1 (89) | 95.5 (92) | 94.3 (92) | 94.9 (92) | 94.8 (92) | 90.8 (82) |
| 50 | 96.6 (91) | 94.5 (91) | 94.8 (92) | 94.3 (93) | 95.1 (94) | 94.3 (93) | 95.7 (89) |
| 100 | 95.0 (93) | 95.0 (93) | 94.7 (94) | 94.8 (94) | 95.1 (94) | 95.1 (95) | 95.7 (92) |

The last column is a limit of every method: where one clip in ten fails, an eighth of the samples of 20 has no failure.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from higgs_recipes.errors import InputError


MIN_UTTERANCES = 10  # below, no interval has its nominal coverage
TAIL = 0.025  # probability outside on either side
NUM_RESAMPLES = 2000
MAX_COUNTS = 4_000_000  # numbers of a block of resamples in memory
# The least standard error of a resample, as a share of the sample's. A resample that misses every utterance with an
# error has none, and would leave the interval without an upper end.
MIN_RELATIVE_ERROR = 0.2

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A confidence interval; `low` and `high` are None where there is none.

    Attributes:
        note: the method, or the reason why there is no interval.
    """

    low: float | None
    high: float | None
    note: str


def share_interval(successes: int, n: int) -> Interval:
    """Clopper-Pearson interval of `successes` out of `n` independent clips.

    >>> interval = share_interval(20, 20)
    >>> round(interval.low, 3), interval.high, interval.note
    (0.832, 1.0, 'Clopper-Pearson')
    >>> share_interval(5, 5)
    Interval(low=None, high=None, note='too few: 5, an interval needs 10')

    Raises:
        InputError: not 0 <= successes <= n.
    """
    if not 0 <= successes <= n:
        raise InputError(f"{successes} successes in {n} clips; give a number from 0 to {n}")
    if n < MIN_UTTERANCES:
        return _too_few(n)
    return Interval(_least_share(successes, n), 1 - _least_share(n - successes, n), "Clopper-Pearson")


def rate_interval(pairs: Sequence[tuple[float, float]], *, seed: int, high: float = math.inf) -> Interval:
    """Bootstrap-t interval of sum(edits) / sum(words).

    Without any error the sample has no variance: the upper end is then the exact Poisson bound, 3.7 / words, which
    takes errors as independent of each other.

    Args:
        pairs: (edits, words) of each utterance; those without words are left out.
        seed: the same pairs and seed give the same interval.
        high: the largest possible rate; 1 where edits are a part of the words.

    >>> interval = rate_interval([(0, 10)] * 20, seed=0)
    >>> interval.low, round(interval.high, 3), interval.note
    (0.0, 0.018, 'exact Poisson bound: 0 in 200')

    Raises:
        InputError: a value that is not finite.
    """
    table = _finite(pairs).reshape(-1, 2)
    edits, words = table[table[:, 1] > 0].T  # (n,), (n,)
    if len(edits) < MIN_UTTERANCES:
        return _too_few(len(edits))
    total, bound = round(words.sum()), min(-math.log(TAIL) / float(words.sum()), 1.0)
    if not edits.any():
        return Interval(0.0, bound, f"exact Poisson bound: 0 in {total}")
    if high == 1 and np.array_equal(edits, words):
        return Interval(1 - bound, 1.0, f"exact Poisson bound: {total} in {total}")
    return _studentized(edits, words, seed=seed, low=0.0, high=high)


def mean_interval(values: Sequence[float], *, seed: int, low: float = -math.inf, high: float = math.inf) -> Interval:
    """Bootstrap-t interval of a mean.

    Args:
        values: one for each utterance that has the score.
        seed: the same values and seed give the same interval.
        low: the smallest possible value.
        high: the largest.

    >>> mean_interval([0.5] * 12, seed=0)
    Interval(low=None, high=None, note='all 12 utterances have the same value')

    Raises:
        InputError: a value that is not finite.
    """
    table = _finite(values)
    if len(table) < MIN_UTTERANCES:
        return _too_few(len(table))
    return _studentized(table, np.ones_like(table), seed=seed, low=low, high=high)


def difference_interval(pairs: Sequence[tuple[float, float]], *, seed: int) -> Interval:
    """Paired bootstrap-t interval of the difference of two rates, or means, over the same texts.

    Args:
        pairs: (difference of the two systems' edits, words) of each text; for means (difference, 1).
        seed: the same pairs and seed give the same interval.

    >>> difference_interval([(0, 10)] * 12, seed=0)
    Interval(low=None, high=None, note='all 12 utterances have the same value')

    Raises:
        InputError: a value that is not finite.
    """
    table = _finite(pairs).reshape(-1, 2)
    differences, weights = table[table[:, 1] > 0].T  # (n,), (n,)
    if len(differences) < MIN_UTTERANCES:
        return _too_few(len(differences))
    return _studentized(differences, weights, seed=seed, low=-math.inf, high=math.inf)


def bootstrap_t(numerators: Array, denominators: Array, *, seed: int) -> tuple[Array, Array]:
    """The ends of the bootstrap-t interval of sum(numerators) / sum(denominators), before any range is applied.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 12.5, with the linearized standard error of a ratio
    (for denominators of 1 that of a mean) and `MIN_RELATIVE_ERROR`.

    Args:
        numerators: (..., n), each sample with variance.
        denominators: (..., n), positive.

    Returns:
        low and high, each (...).
    """
    n = numerators.shape[-1]
    squares = (numerators**2, numerators * denominators, denominators**2)
    moments = np.stack([numerators, denominators, *squares], axis=-1)  # (..., n, 5)
    rate, error = _rate_and_error(moments.sum(axis=-2), n)  # (...), (...)
    rng = np.random.default_rng(seed)
    deviations = []
    block = max(1, min(NUM_RESAMPLES, MAX_COUNTS // n))
    for start in range(0, NUM_RESAMPLES, block):
        counts = rng.multinomial(n, np.full(n, 1 / n), size=min(block, NUM_RESAMPLES - start))  # (R, n)
        rates, errors = _rate_and_error(counts.astype(np.float64) @ moments, n)  # (..., R), (..., R)
        least = MIN_RELATIVE_ERROR * error[..., None]
        deviations.append((rates - rate[..., None]) / np.maximum(errors, least))
    low, high = np.quantile(np.concatenate(deviations, axis=-1), [TAIL, 1 - TAIL], axis=-1)
    return rate - high * error, rate - low * error


def _rate_and_error(sums: Array, n: int) -> tuple[Array, Array]:
    """Rate and standard error from the sums (..., 5) of a, b, a * a, a * b and b * b over n utterances."""
    a, b, aa, ab, bb = np.moveaxis(sums, -1, 0)
    rate = a / b
    variance = np.maximum(aa - 2 * rate * ab + rate**2 * bb, 0) * n / (n - 1)
    return rate, np.sqrt(variance) / b


def _studentized(numerators: Array, denominators: Array, *, seed: int, low: float, high: float) -> Interval:
    n = len(numerators)
    if np.ptp(numerators / denominators) <= 1e-12 * np.abs(numerators / denominators).max():  # rounding
        return Interval(None, None, f"all {n} utterances have the same value")
    bounds = bootstrap_t(numerators, denominators, seed=seed)
    return Interval(*(float(np.clip(bound, low, high)) for bound in bounds), note="bootstrap-t")


def _too_few(n: int) -> Interval:
    return Interval(None, None, f"too few: {n}, an interval needs {MIN_UTTERANCES}")


def _finite(values: Sequence[float] | Sequence[tuple[float, float]]) -> Array:
    table = np.asarray(values, dtype=np.float64)
    if not np.isfinite(table).all():
        raise InputError("an interval got a value that is not finite; leave out what was not scored")
    return table


def _least_share(successes: int, n: int) -> float:
    """The share under which `successes` or more out of n have the probability `TAIL`, by bisection."""
    if successes == 0:
        return 0.0
    log_factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    counts = np.arange(successes, n + 1)
    log_ways = log_factorials[n] - log_factorials[counts] - log_factorials[n - counts]
    low, high = 0.0, 1.0
    for _ in range(53):
        middle = (low + high) / 2
        tail = np.exp(log_ways + counts * math.log(middle) + (n - counts) * math.log1p(-middle)).sum()
        low, high = (middle, high) if tail < TAIL else (low, middle)
    return (low + high) / 2
