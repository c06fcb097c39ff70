"""The fields of metrics.json that reports and cards show. Systems, metrics and groups are declared only here."""

from dataclasses import dataclass


# Key of "rows" in metrics.json -> name in a table.
SYSTEMS = {
    "real": "real recordings",
    "codec": "codec resynthesis",
    "base": "base model",
    "finetuned": "fine-tuned model",
}

# Field of metrics.json with the scores of each group -> column of the rows that is grouped by.
GROUPS = {"by_task": "task", "by_speaker": "speaker"}


@dataclass(frozen=True)
class Metric:
    """How a metric of metrics.json is shown.

    Attributes:
        title: column title in a report.
        card_title: column title in a model card, with the unit.
        is_share: shown as a percentage.
    """

    title: str
    card_title: str
    is_share: bool = True

    @property
    def factor(self) -> int:
        return 100 if self.is_share else 1


METRICS = {
    "wer": Metric("word error rate (WER)", "WER %"),
    "cer": Metric("character error rate (CER)", "CER %"),
    "similarity": Metric("speaker similarity", "similarity", is_share=False),
    "stop_rate": Metric("stopped by itself", "stopped by itself %"),
    "duration_ratio": Metric("duration, generated / real", "duration ratio", is_share=False),
    "nearest_speaker": Metric("closest to own speaker", "closest to own speaker %"),
    "turns_in_order": Metric("dialogues with all turns in order", "dialogues, turns in order %"),
    "turn_voice": Metric("turns closest to own speaker", "turns closest to own speaker %"),
}
