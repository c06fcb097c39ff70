"""Word and character error rates of transcripts.

Edits and reference lengths are summed first and divided once. A rate is a share: 1.0 is one edit per reference unit.
Without any unit in the references the rate is None.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import datasets
import evaluate
import jiwer

from higgs_recipes.errors import InputError
from higgs_recipes.languages import Unit
from higgs_recipes.normalizers import TextRule, choose_normalizer


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
    references: Sequence[str], predictions: Sequence[str], *, rules: Sequence[TextRule], unit: Unit = "word"
) -> list[ErrorCounts]:
    """Count the errors of each utterance, after its rule normalized both texts.

    Args:
        rules: one per utterance.
        unit: "word" counts in the unit of each rule, which is the character in languages written without spaces.
            "character" counts characters under every rule; under a rule of words these include the spaces between
            words, as in the `cer` of `evaluate`.

    Raises:
        InputError: the numbers of references, predictions and rules differ.

    >>> rules = [choose_normalizer("basic", "en")] * 2
    >>> utterance_errors(["One two!", "..."], ["one too", "hm"], rules=rules)
    [ErrorCounts(edits=1, length=2, skipped=0), ErrorCounts(edits=0, length=0, skipped=1)]
    """
    if not len(references) == len(predictions) == len(rules):
        raise InputError(
            f"{len(references)} references, {len(predictions)} predictions and {len(rules)} text rules: give one of "
            "each per utterance"
        )
    return [_count_errors(*texts, unit=unit) for texts in zip(references, predictions, rules, strict=True)]


def corpus_errors(
    references: Sequence[str], predictions: Sequence[str], *, rules: Sequence[TextRule], unit: Unit = "word"
) -> ErrorCounts:
    """Sum `utterance_errors`. The `rate` of the result is the corpus WER, or the corpus CER with `unit="character"`.

    >>> rule = choose_normalizer("none", "en")
    >>> corpus_errors(["a b c d", ""], ["a b x", "noise"], rules=[rule, rule])
    ErrorCounts(edits=2, length=4, skipped=1)
    >>> corpus_errors(["four"], ["for"], rules=[rule], unit="character")
    ErrorCounts(edits=1, length=4, skipped=0)
    """
    return sum(utterance_errors(references, predictions, rules=rules, unit=unit), ErrorCounts(0, 0))


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


def _count_errors(reference: str, prediction: str, rule: TextRule, *, unit: Unit) -> ErrorCounts:
    expected, recognized = rule.units(reference), rule.units(prediction)
    if not expected:
        return ErrorCounts(edits=0, length=0, skipped=1)
    if unit == "character" and rule.unit == "word":
        counts = jiwer.process_characters(rule.normalize(reference), rule.normalize(prediction))
    else:
        counts = jiwer.process_words(" ".join(expected), " ".join(recognized))
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
            inputs_description=(
                "references, predictions: lists of str. normalizer: one of normalizers.Normalizer. language: code of "
                "the language of the texts."
            ),
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
            ),
        )

    def _compute(
        self, predictions: list[str], references: list[str], normalizer: str = "none", language: str = "en"
    ) -> dict[str, float | int | None]:
        rules = [choose_normalizer(normalizer, language)] * len(references)
        errors = corpus_errors(references, predictions, rules=rules, unit=self.unit)
        return {
            self.rate_name: errors.rate,
            "edits": errors.edits,
            f"{self.unit}s": errors.length,
            "skipped": errors.skipped,
        }


class WER(ErrorRate):
    """Corpus word error rate, in characters in languages written without spaces; None if no reference has a word.

    >>> WER().compute(references=["one two"], predictions=["one too"])
    {'wer': 0.5, 'edits': 1, 'words': 2, 'skipped': 0}
    >>> WER().compute(references=["你好，世界"], predictions=["你好是界"], normalizer="characters", language="zh")
    {'wer': 0.25, 'edits': 1, 'words': 4, 'skipped': 0}
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
