"""The fields of metrics.json that reports and cards show, and what both say of them. Systems, metrics and groups are
declared only here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


# Key of "rows" in metrics.json -> name in a table.
SYSTEMS = {
    "real": "real recordings",
    "codec": "codec resynthesis",
    "base": "base model",
    "finetuned": "fine-tuned model",
}

# The same for the groups of benchmarks.
BENCHMARK_GROUPS = {"by_emotion": "emotion", "by_category": "category", "by_ability": "ability"}

# Field of metrics.json with the scores of each group -> column of the rows that is grouped by.
GROUPS = {"by_task": "task", "by_speaker": "speaker", "by_language": "language"}


@dataclass(frozen=True)
class Metric:
    """How a metric of metrics.json is shown.

    Attributes:
        title: column title in a report.
        card_title: column title in a model card, with the unit.
        is_share: shown as a percentage.
        better: which values are better; None if neither is.
        is_hundredfold: shown times 100 without a percent sign, as papers print similarities.
    """

    title: str
    card_title: str
    is_share: bool = True
    better: Literal["lower", "higher"] | None = "higher"
    is_hundredfold: bool = False

    @property
    def factor(self) -> int:
        return 100 if self.is_share or self.is_hundredfold else 1


METRICS = {
    "wer_macro": Metric("WER, mean over texts", "WER %, mean over texts", better="lower"),
    "wer": Metric("word error rate (WER)", "WER %", better="lower"),
    "cer": Metric("character error rate (CER)", "CER %", better="lower"),
    "wer_above_50": Metric("texts with WER above 50 %", "texts with WER above 50 %, %", better="lower"),
    "similarity": Metric("speaker similarity", "similarity", is_share=False),
    "prompt_similarity": Metric(
        "similarity to the prompt, × 100", "similarity to the prompt × 100", is_share=False, is_hundredfold=True
    ),
    "emotion_similarity": Metric(
        "similarity of emotion, × 100", "similarity of emotion × 100", is_share=False, is_hundredfold=True
    ),
    "dialogue_voices": Metric(
        "voices of dialogues, × 100", "voices of dialogues × 100", is_share=False, is_hundredfold=True
    ),
    "intra_speaker": Metric(
        "intra-speaker similarity, × 100", "intra-speaker similarity × 100", is_share=False, is_hundredfold=True
    ),
    "inter_speaker": Metric(
        "inter-speaker dissimilarity, × 100", "inter-speaker dissimilarity × 100", is_share=False, is_hundredfold=True
    ),
    "win_rate": Metric("wins against the other, by the judge", "wins, by the judge %"),
    "stop_rate": Metric("stopped by itself", "stopped by itself %"),
    "duration_ratio": Metric("duration, generated / real", "duration ratio", is_share=False, better=None),
    "nearest_speaker": Metric("closest to own speaker", "closest to own speaker %"),
    "turns_in_order": Metric("dialogues with all turns in order", "dialogues, turns in order %"),
    "turn_voice": Metric("turns closest to own speaker", "turns closest to own speaker %"),
}


def metrics_of(scores: Mapping[Any, Mapping[str, Any]]) -> list[str]:
    """The metrics that any system has, in the order of `METRICS`.

    Args:
        scores: system -> metric -> score.
    """
    return [metric for metric in METRICS if any(metric in of_system for of_system in scores.values())]


Languages = Mapping[str, Mapping[str, Any]]  # field of metrics.json: code -> {"normalizer", "unit", "n"}


def languages_in_characters(languages: Languages) -> list[str]:
    """The languages whose errors are counted in characters."""
    return [code for code, language in languages.items() if language["unit"] == "character"]


def unit_note(languages: Languages) -> str | None:
    """What WER counts; None if it counts words in every language.

    >>> unit_note({"en": {"unit": "word"}, "zh": {"unit": "character"}})
    'WER counts characters, not words, in zh, so WER over all texts mixes two units: compare WER by language'
    """
    in_characters = languages_in_characters(languages)
    if not in_characters:
        return None
    note = f"WER counts characters, not words, in {', '.join(in_characters)}"
    if len(in_characters) == len(languages):
        return note
    return f"{note}, so WER over all texts mixes two units: compare WER by language"


def describe_languages(languages: Languages) -> str:
    """The languages with their number of texts, unit and normalizer.

    >>> describe_languages({"en": {"normalizer": "whisper_en", "unit": "word", "n": 20}})
    'en (20 texts, in words, normalizer whisper_en)'
    """
    return ", ".join(
        f"{code} ({language['n']} texts, in {language['unit']}s, normalizer {language['normalizer']})"
        for code, language in languages.items()
    )


def is_held_out(metrics: Mapping[str, Any]) -> bool:
    """Whether the model is known not to have been trained on the texts of an evaluation."""
    return metrics["held_out"] is True and not metrics["shared_with_train"]


def held_out_warning(metrics: Mapping[str, Any]) -> str | None:
    """The warning of a report or card on texts that the model may have been trained on, if there is one."""
    if metrics["held_out"] is False:
        return (
            f"The model was trained on these texts: split {metrics['split']} of {metrics['dataset']} is part of its "
            "training data. The scores do not show how it speaks other texts."
        )
    if metrics["shared_with_train"]:
        return (
            f"{metrics['shared_with_train']} of these {len(metrics['clips'])} recordings are also in the train split "
            f"of {metrics['dataset']}. A model that was trained on that split has seen them."
        )
    return None


def no_effect_warning(codes: Mapping[str, Any] | None) -> str | None:
    """The warning of a report or card if the fine-tuned model speaks exactly as the base model does."""
    if codes is None or codes["identical"] < codes["n"]:
        return None
    return (
        f"The fine-tuning has no effect: on all {codes['n']} texts the base and the fine-tuned model generated the "
        "same codes from the same seeds. Check that the adapter is the trained one, that its weights are not all "
        "zero, and that it was trained from this base model."
    )
