"""How wrong a transcript is: edits over words or characters, the protocols' normalizers, and bootstrap intervals.

Edits and words travel as sums and are divided once; an empty result is None, never a number. A rate is a share (1.0 is
one edit for each word), and a name that ends in `_percent` is a hundred times that, as papers print it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import datasets
import evaluate
import jiwer
import numpy as np

from higgs_recipes.errors import InputError
from higgs_recipes.normalizers import NORMALIZERS


Unit = Literal["word", "character"]


@dataclass(frozen=True)
class WordErrors:
    """Edits against reference words, or against reference characters where those were counted.

    >>> WordErrors(edits=1, words=4) + WordErrors(edits=0, words=0, skipped=1)
    WordErrors(edits=1, words=4, skipped=1)
    >>> WordErrors(edits=1, words=4).rate, WordErrors(edits=0, words=0, skipped=1).rate
    (0.25, None)
    """

    edits: int
    words: int
    skipped: int = 0  # utterances whose reference holds no word once normalized

    @property
    def rate(self) -> float | None:
        return self.edits / self.words if self.words else None

    def __add__(self, other: "WordErrors") -> "WordErrors":
        return WordErrors(self.edits + other.edits, self.words + other.words, self.skipped + other.skipped)


def utterance_errors(
    references: Sequence[str], predictions: Sequence[str], *, normalizer: str, unit: Unit = "word"
) -> list[WordErrors]:
    """The errors of each utterance, both texts normalized by `NORMALIZERS[normalizer]`.

    Args:
        unit: "character" counts characters with the spaces between words, as `evaluate` does. Under seed_tts_zh each
            character is a word already, and both units give the same.

    >>> utterance_errors(["One two!", "..."], ["one too", "hm"], normalizer="basic")
    [WordErrors(edits=1, words=2, skipped=0), WordErrors(edits=0, words=0, skipped=1)]

    Raises:
        InputError: no such normalizer, or not one prediction for each reference.
    """
    if normalizer not in NORMALIZERS:
        raise InputError(f"normalizer {normalizer!r} does not exist; use one of {', '.join(NORMALIZERS)}")
    if len(references) != len(predictions):
        raise InputError(f"{len(predictions)} predictions for {len(references)} references; give one for each")
    normalize = NORMALIZERS[normalizer]
    if normalizer == "seed_tts_zh":
        unit = "word"
    return [
        _count_edits(normalize(reference), normalize(prediction), unit=unit)
        for reference, prediction in zip(references, predictions, strict=True)
    ]


def word_errors(references: Sequence[str], predictions: Sequence[str], *, normalizer: str) -> WordErrors:
    """The errors of all utterances together; its `rate` is the corpus WER.

    >>> word_errors(["a b c d", ""], ["a b x", "noise"], normalizer="none")
    WordErrors(edits=2, words=4, skipped=1)
    """
    return sum(utterance_errors(references, predictions, normalizer=normalizer), WordErrors(0, 0))


def character_errors(references: Sequence[str], predictions: Sequence[str], *, normalizer: str) -> WordErrors:
    """`word_errors` in characters; its `rate` is the corpus CER.

    >>> character_errors(["four"], ["for"], normalizer="none")
    WordErrors(edits=1, words=4, skipped=0)
    """
    errors = utterance_errors(references, predictions, normalizer=normalizer, unit="character")
    return sum(errors, WordErrors(0, 0))


def matched_words(reference: Sequence[str], heard: Sequence[str]) -> list[tuple[int, int]]:
    """Indexes (reference, heard) of the words that are equal in an alignment with the fewest edits, in order.

    >>> matched_words(["a", "b", "c"], ["a", "x", "y", "c"])
    [(0, 0), (2, 3)]
    """
    if not reference or not heard:
        return []
    (chunks,) = jiwer.process_words(" ".join(reference), " ".join(heard)).alignments
    return [
        (chunk.ref_start_idx + offset, chunk.hyp_start_idx + offset)
        for chunk in chunks
        if chunk.type == "equal"
        for offset in range(chunk.ref_end_idx - chunk.ref_start_idx)
    ]


def _count_edits(reference: str, prediction: str, *, unit: Unit) -> WordErrors:
    if not reference.strip():
        return WordErrors(edits=0, words=0, skipped=1)
    counts = (jiwer.process_words if unit == "word" else jiwer.process_characters)(reference, prediction)
    edits = counts.substitutions + counts.deletions + counts.insertions
    return WordErrors(edits=edits, words=counts.hits + counts.substitutions + counts.deletions)


class _ErrorRate(evaluate.Metric):
    """`evaluate.load` fetches the code of wer and cer from the Hub at run time; these two are here."""

    def __init__(self, **kwargs) -> None:
        # In memory: a cache file has a lock, for which a second run on the machine would wait.
        super().__init__(**{"keep_in_memory": True} | kwargs)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=type(self).__doc__,
            citation="",
            inputs_description="references, predictions: lists of str. normalizer: a name of metrics.NORMALIZERS.",
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
            ),
        )


class WER(_ErrorRate):
    """Corpus word error rate, `{"wer", "edits", "words", "skipped"}`; wer is None when no reference has a word.

    >>> WER().compute(references=["one two"], predictions=["one too"])
    {'wer': 0.5, 'edits': 1, 'words': 2, 'skipped': 0}
    """

    def _compute(self, predictions: list[str], references: list[str], normalizer: str = "none") -> dict:
        errors = word_errors(references, predictions, normalizer=normalizer)
        return {"wer": errors.rate, "edits": errors.edits, "words": errors.words, "skipped": errors.skipped}


class CER(_ErrorRate):
    """Corpus character error rate, `{"cer", "edits", "characters", "skipped"}`.

    >>> CER().compute(references=["four"], predictions=["for"])
    {'cer': 0.25, 'edits': 1, 'characters': 4, 'skipped': 0}
    """

    def _compute(self, predictions: list[str], references: list[str], normalizer: str = "none") -> dict:
        errors = character_errors(references, predictions, normalizer=normalizer)
        return {"cer": errors.rate, "edits": errors.edits, "characters": errors.words, "skipped": errors.skipped}


@dataclass(frozen=True)
class SeedTTSScore:
    """The score of Seed-TTS-eval and what it leaves untold; the three percents are None when nothing was scored."""

    wer_percent: float | None  # the benchmark's: mean over utterances
    corpus_wer_percent: float | None
    above_half_percent: float | None  # utterances whose WER is more than 50 %
    scored: int
    missing: int  # of those scored
    skipped: int  # references without a word


def seed_tts_score(
    references: Sequence[str],
    predictions: Sequence[str | None],
    *,
    normalizer: Literal["seed_tts_en", "seed_tts_zh"],
) -> SeedTTSScore:
    """Score transcripts as Seed-TTS-eval does, but count a missing one (None) as 100 % instead of passing over it.

    >>> score = seed_tts_score(["one two.", "three"], ["One, two", None], normalizer="seed_tts_en")
    >>> score.wer_percent, score.above_half_percent, score.missing
    (50.0, 50.0, 1)
    """
    # No prediction is every word deleted, which is 100 %.
    heard = ["" if prediction is None else prediction for prediction in predictions]
    errors = utterance_errors(references, heard, normalizer=normalizer)
    rates = [each.rate for each in errors if each.rate is not None]
    missing = sum(
        prediction is None and not each.skipped for prediction, each in zip(predictions, errors, strict=True)
    )
    total = sum(errors, WordErrors(0, 0))
    return SeedTTSScore(
        wer_percent=100 * sum(rates) / len(rates) if rates else None,
        corpus_wer_percent=None if total.rate is None else 100 * total.rate,
        above_half_percent=100 * sum(rate > 0.5 for rate in rates) / len(rates) if rates else None,
        scored=len(rates),
        missing=missing,
        skipped=total.skipped,
    )


def bootstrap_interval(
    values: Sequence[float] | Sequence[tuple[int, int]],
    *,
    seed: int,
    num_resamples: int = 1000,
    level: float = 0.95,
) -> tuple[float, float] | None:
    """Percentile interval of a mean, or of sum(edits) / sum(words), under drawing the utterances again.

    Args:
        values: a number for each utterance, or its (edits, words); pairs without words are left out.
        seed: the same values and seed give the same interval.
        level: the share of resampled results inside.

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
        raise InputError("bootstrap_interval got a value that is not finite; leave out what was not scored")
    drawn = np.random.default_rng(seed).integers(len(table), size=(num_resamples, len(table)))
    sums = table[drawn].sum(axis=1)  # (num_resamples, 2)
    low, high = np.quantile(sums[:, 0] / sums[:, 1], [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
