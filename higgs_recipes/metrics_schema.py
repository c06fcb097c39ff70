"""The evaluated systems and the metrics of metrics.json, and how reports and cards show them."""

from dataclasses import dataclass


# Row of metrics.json -> its name in a table.
SYSTEMS = {
    "real": "real recordings",
    "codec": "codec resynthesis",
    "base": "base model",
    "finetuned": "fine-tuned model",
}


@dataclass(frozen=True)
class Metric:
    """How a metric of metrics.json is shown.

    Attributes:
        title: column title in a report.
        card_title: column title in a model card.
        is_share: whether it is shown as a percentage.
    """

    title: str
    card_title: str
    is_share: bool = True

    @property
    def factor(self) -> int:
        return 100 if self.is_share else 1


METRICS = {
    "wer": Metric("word errors (WER)", "WER %"),
    "cer": Metric("character errors (CER)", "CER %"),
    "similarity": Metric("speaker similarity", "similarity", is_share=False),
    "stop_rate": Metric("stopped by itself", "stopped by itself %"),
    "duration_ratio": Metric("duration, generated / real", "duration ratio", is_share=False),
    "nearest_speaker": Metric("nearest to own speaker", "nearest to own speaker %"),
    "turns_in_order": Metric("dialogues with all turns in order", "dialogues, turns in order %"),
    "turn_voice": Metric("turns nearest to own speaker", "turns nearest to own speaker %"),
}
