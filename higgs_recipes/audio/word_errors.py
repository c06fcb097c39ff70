"""Word and character error rates of transcripts, and bootstrap intervals.

Edits and reference lengths are summed first and divided once. A rate is a share: 1.0 is one edit per reference word.
Without any reference word the rate is None.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import datasets
import evaluate
import jiwer
import numpy as np

from higgs_recipes.errors import InputError
from higgs_recipes.normalizers import NORMALIZERS


Unit = Literal["word", "character"]


@dataclass(frozen=True)
class ErrorCounts:
    """Edits between references and predictions, counted in words or in characters.

    Attributes:
        edits: substitutions, deletions and insertions.
        length: words or characters of the references.
        skipped: utterances whose normalized reference is empty.

    >>> ErrorCounts(edits=1, length=4) + ErrorCounts(edits=0, length=0, skipped=1)
    ErrorCounts(edits=1, length=4, skipped=1)
    >>> ErrorCounts(edits=1, length=4).rate, ErrorCounts(edits=0, length=0, skipped=1).rate
    (0.25, None)
    """

    edits: int
    length: int
    skipped: int = 0

    @property
    def rate(self) -> float | None:
        return self.edits / self.length if self.length else None

    def __add__(self, other: "ErrorCounts") -> "ErrorCounts":
        return ErrorCounts(self.edits + other.edits, self.length + other.length, self.skipped + other.skipped)


def utterance_errors(
    references: Sequence[str], predictions: Sequence[str], *, normalizer: str, unit: Unit = "word"
) -> list[ErrorCounts]:
    """Count the errors of each utterance, after both texts are normalized by `NORMALIZERS[normalizer]`.

    Args:
        unit: "character" includes the spaces between words, as the `cer` of `evaluate` does. The normalizer
            seed_tts_zh makes a word of each character, so both units give the same counts.

    Raises:
        InputError: unknown normalizer, or the numbers of references and predictions differ.

    >>> utterance_errors(["One two!", "..."], ["one too", "hm"], normalizer="basic")
    [ErrorCounts(edits=1, length=2, skipped=0), ErrorCounts(edits=0, length=0, skipped=1)]
    """
    if normalizer not in NORMALIZERS:
        raise InputError(f"unknown normalizer {normalizer!r}: use one of {', '.join(NORMALIZERS)}")
    if len(references) != len(predictions):
        raise InputError(f"{len(references)} references but {len(predictions)} predictions: give one for each")
    normalize = NORMALIZERS[normalizer]
    if normalizer == "seed_tts_zh":
        unit = "word"
    return [
        _count_errors(normalize(reference), normalize(prediction), unit=unit)
        for reference, prediction in zip(references, predictions, strict=True)
    ]


def corpus_errors(
    references: Sequence[str], predictions: Sequence[str], *, normalizer: str, unit: Unit = "word"
) -> ErrorCounts:
    """Sum `utterance_errors`. The `rate` of the result is the corpus WER, or the corpus CER with `unit="character"`.

    >>> corpus_errors(["a b c d", ""], ["a b x", "noise"], normalizer="none")
    ErrorCounts(edits=2, length=4, skipped=1)
    >>> corpus_errors(["four"], ["for"], normalizer="none", unit="character")
    ErrorCounts(edits=1, length=4, skipped=0)
    """
    return sum(utterance_errors(references, predictions, normalizer=normalizer, unit=unit), ErrorCounts(0, 0))


def matched_words(reference: Sequence[str], prediction: Sequence[str]) -> list[tuple[int, int]]:
    """Align two lists of words with the fewest edits and return the index pairs of equal words, in order.

    >>> matched_words(["a", "b", "c"], ["a", "x", "y", "c"])
    [(0, 0), (2, 3)]
    """
    if not reference or not prediction:
        return []
    (chunks,) = jiwer.process_words(" ".join(reference), " ".join(prediction)).alignments
    return [
        (chunk.ref_start_idx + offset, chunk.hyp_start_idx + offset)
        for chunk in chunks
        if chunk.type == "equal"
        for offset in range(chunk.ref_end_idx - chunk.ref_start_idx)
    ]


def _count_errors(reference: str, prediction: str, *, unit: Unit) -> ErrorCounts:
    if not reference.strip():
        return ErrorCounts(edits=0, length=0, skipped=1)
    counts = (jiwer.process_words if unit == "word" else jiwer.process_characters)(reference, prediction)
    edits = counts.substitutions + counts.deletions + counts.insertions
    return ErrorCounts(edits=edits, length=counts.hits + counts.substitutions + counts.deletions)


class ErrorRate(evaluate.Metric):
    """Base class of `WER` and `CER`. They replace `evaluate.load("wer")`, which downloads code from the Hub."""

    rate_name: ClassVar[str]
    unit: ClassVar[Unit]

    def __init__(self, **kwargs: Any) -> None:
        # Without a cache file: a second process on the machine would wait for its lock.
        super().__init__(**{"keep_in_memory": True} | kwargs)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=type(self).__doc__,
            citation="",
            inputs_description="references, predictions: lists of str. normalizer: a key of normalizers.NORMALIZERS.",
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
            ),
        )

    def _compute(
        self, predictions: list[str], references: list[str], normalizer: str = "none"
    ) -> dict[str, float | int | None]:
        errors = corpus_errors(references, predictions, normalizer=normalizer, unit=self.unit)
        return {
            self.rate_name: errors.rate,
            "edits": errors.edits,
            f"{self.unit}s": errors.length,
            "skipped": errors.skipped,
        }


class WER(ErrorRate):
    """Corpus word error rate; `wer` is None if no reference has a word.

    >>> WER().compute(references=["one two"], predictions=["one too"])
    {'wer': 0.5, 'edits': 1, 'words': 2, 'skipped': 0}
    """

    rate_name = "wer"
    unit = "word"


class CER(ErrorRate):
    """Corpus character error rate; `cer` is None if no reference has a character.

    >>> CER().compute(references=["four"], predictions=["for"])
    {'cer': 0.25, 'edits': 1, 'characters': 4, 'skipped': 0}
    """

    rate_name = "cer"
    unit = "character"


def bootstrap_interval(
    values: Sequence[float] | Sequence[tuple[int, int]],
    *,
    seed: int,
    num_resamples: int = 1000,
    level: float = 0.95,
) -> tuple[float, float] | None:
    """Percentile bootstrap interval of a mean, or of sum(edits) / sum(length), over utterances.

    Args:
        values: a number per utterance, or a pair (edits, length); pairs of length 0 are left out.
        seed: of the resampling; the same values and seed give the same interval.
        level: share of the resampled results inside the interval.

    Returns:
        (low, high), or None if there are no values.

    >>> bootstrap_interval([0.5, 0.5, 0.5], seed=0), bootstrap_interval([], seed=0)
    ((0.5, 0.5), None)
    """
    table = np.asarray(values, dtype=np.float64)  # (n,) or (n, 2)
    if table.ndim == 1:
        table = np.stack([table, np.ones_like(table)], axis=1)  # (n, 2): a mean is a sum over a count
    table = table[table[:, 1] > 0]
    if not len(table):
        return None
    if not np.isfinite(table).all():
        raise InputError("bootstrap_interval: a value is not finite; leave out what was not scored")
    indexes = np.random.default_rng(seed).integers(len(table), size=(num_resamples, len(table)))
    sums = table[indexes].sum(axis=1)  # (num_resamples, 2)
    low, high = np.quantile(sums[:, 0] / sums[:, 1], [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
