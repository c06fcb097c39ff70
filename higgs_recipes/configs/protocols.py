"""The fields of an evaluation that choose its protocol."""

from dataclasses import dataclass, fields
from typing import Literal

from higgs_recipes.configs.fields import option, require, require_package


Protocol = Literal["fine_tuned_voice", "seed_tts_eval", "multi_speaker", "emotion", "emergent_tts_eval", "forgetting"]
_JUDGE = ("judge", "judge_url", "judge_key_variable", "judge_seconds", "opponent")
_BY_ROWS = "max_rows"  # benchmarks have num_samples
UNUSED_FIELDS: dict[Protocol, tuple[str, ...]] = {
    "fine_tuned_voice": (*_JUDGE, "columns"),
    "seed_tts_eval": (*_JUDGE, _BY_ROWS),
    "multi_speaker": (*_JUDGE, _BY_ROWS),
    "emotion": (*_JUDGE, _BY_ROWS),
    "emergent_tts_eval": (_BY_ROWS,),
    "forgetting": (*_JUDGE, _BY_ROWS, "columns", "split", "dataset_revision"),
}


@dataclass
class ProtocolConfig:
    """What is evaluated, and on how many texts."""

    protocol: Protocol = option(
        "fine_tuned_voice",
        "fine_tuned_voice: held-out texts of an encoded corpus; seed_tts_eval: cloning of its prompts; multi_speaker: "
        "dialogues; emotion: cloning of emotional references; emergent_tts_eval: difficult texts, for a judge; "
        "forgetting: probes of what the base could do.",
    )
    dataset_revision: str | None = option(None, "Commit, tag or branch of the dataset; null: main.")
    columns: dict[str, str] | str | None = option(
        None, "Mapping from the protocol's column names to those of a benchmark's dataset; null: the names are equal."
    )
    num_samples: int | None = option(
        None, "Evaluate only so many texts, sampled by the seed, for a quick look with wider intervals; null: all."
    )

    judge: str | None = option(
        None, "Model that judges clips in protocol emergent_tts_eval, by its name at the endpoint."
    )
    judge_url: str = option("https://api.openai.com/v1", "Base URL of the judge's OpenAI-compatible endpoint.")
    judge_key_variable: str = option("OPENAI_API_KEY", "Environment variable that has the API key of the endpoint.")
    judge_seconds: float = option(120.0, "Longest wait for one answer, in seconds; it is then asked again.")
    opponent: Literal["base", "dataset"] = option(
        "base", "What the judge compares with: base: the base model on the same seeds; dataset: its column audio."
    )

    def check_protocol(self, *, asr: str, speaker: str) -> None:
        """Check the fields, and that the packages of the metric models are installed."""
        for field in fields(self):
            require(
                field.name not in UNUSED_FIELDS[self.protocol] or getattr(self, field.name) == field.default,
                f"{field.name} has no effect in protocol {self.protocol}: leave it out"
                + (", or use num_samples" if field.name == _BY_ROWS else ""),
            )
        require(
            self.num_samples is None or self.num_samples >= 1, f"num_samples must be positive, got {self.num_samples}"
        )
        require(
            self.columns is None or isinstance(self.columns, dict), f"columns must be a mapping, got {self.columns!r}"
        )
        require(self.judge_seconds > 0, f"judge_seconds must be positive, got {self.judge_seconds}")
        if self.protocol == "emergent_tts_eval":
            require(bool(self.judge), "judge is missing: name a model that hears audio, at judge_url")
            require_package("openai", "protocol: emergent_tts_eval")
        for field, name in (("asr", asr), ("speaker", speaker)):
            if name.startswith("funasr:"):
                require_package("funasr", f"{field}: {name}")
