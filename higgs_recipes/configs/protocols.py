"""The fields of an evaluation that choose its protocol."""

from dataclasses import dataclass
from typing import Literal

from higgs_recipes.configs.fields import option, require, require_package


Protocol = Literal["fine_tuned_voice", "seed_tts_eval"]


@dataclass
class ProtocolConfig:
    """What is evaluated, and on how many texts."""

    protocol: Protocol = option(
        "fine_tuned_voice",
        "fine_tuned_voice: held-out texts of an encoded corpus; seed_tts_eval: cloning of its prompts.",
    )
    dataset_revision: str | None = option(None, "Commit, tag or branch of the dataset; null: main.")
    num_samples: int | None = option(
        None, "Evaluate only so many texts, sampled by the seed, for a quick look with wider intervals; null: all."
    )

    def check_protocol(self, *, asr: str) -> None:
        """Check the fields, and that the packages of the metric models are installed."""
        require(
            self.num_samples is None or self.num_samples >= 1, f"num_samples must be positive, got {self.num_samples}"
        )
        if asr.startswith("funasr:"):
            require_package("funasr", f"asr: {asr}")
