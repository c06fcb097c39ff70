"""The fields of an evaluation that choose its protocol."""

from dataclasses import dataclass
from typing import Literal

from higgs_recipes.configs.fields import option, require, require_package


Protocol = Literal["fine_tuned_voice", "seed_tts_eval", "multi_speaker", "emotion"]


@dataclass
class ProtocolConfig:
    """What is evaluated, and on how many texts."""

    protocol: Protocol = option(
        "fine_tuned_voice",
        "fine_tuned_voice: held-out texts of an encoded corpus; seed_tts_eval: cloning of its prompts; multi_speaker: "
        "dialogues; emotion: cloning of emotional references.",
    )
    dataset_revision: str | None = option(None, "Commit, tag or branch of the dataset; null: main.")
    columns: dict[str, str] | str | None = option(
        None, "Mapping from the protocol's column names to those of a benchmark's dataset; null: the names are equal."
    )
    num_samples: int | None = option(
        None, "Evaluate only so many texts, sampled by the seed, for a quick look with wider intervals; null: all."
    )

    def check_protocol(self, *, asr: str, speaker: str) -> None:
        """Check the fields, and that the packages of the metric models are installed."""
        require(
            self.num_samples is None or self.num_samples >= 1, f"num_samples must be positive, got {self.num_samples}"
        )
        require(
            self.columns is None or isinstance(self.columns, dict), f"columns must be a mapping, got {self.columns!r}"
        )
        for field, name in (("asr", asr), ("speaker", speaker)):
            if name.startswith("funasr:"):
                require_package("funasr", f"{field}: {name}")
