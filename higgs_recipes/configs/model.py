"""Every knob of every recipe: one flat dataclass a stage, declared once, with its reason, and checked here."""

from dataclasses import dataclass
from typing import Annotated

from higgs_recipes.configs.fields import Dtype, option, require_package


MODEL_ID = "bosonai/higgs-tts-2-3b-base"
MODEL_REVISION = "d80c511612b3040ff2877ce3d408747df1739f11"
CODEC_ID = "bosonai/higgs-audio-v2-tokenizer"
CODEC_REVISION = "403fbacf2f60caaa102f893fdfabb694619b2417"
# A text, or a mapping of fields; the parser of flags knows no such union, so to it this is a str.
Source = Annotated[str, dict]


@dataclass
class ModelConfig:
    """The base model: a native transformers checkpoint by folder or Hub id."""

    model_name_or_path: str = option(
        MODEL_ID, "Folder or Hub id of a HiggsAudioV2ForConditionalGeneration checkpoint."
    )
    model_revision: str | None = option(None, "Commit, tag or branch of the base model; the known base is pinned.")
    dtype: Dtype = option("bfloat16", "Type of the base weights in memory.")
    attn_implementation: str = option("sdpa", "Attention as transformers names it: sdpa, eager, flash_attention_2 ...")
    load_in_4bit: bool = option(
        False, "Round the base's attention and feed-forward weights to NF4, a quarter of bfloat16; with lora: QLoRA."
    )

    def __post_init__(self) -> None:
        if self.load_in_4bit:
            require_package("bitsandbytes", "load_in_4bit")
        if self.model_name_or_path == MODEL_ID and self.model_revision is None:
            self.model_revision = MODEL_REVISION


@dataclass
class CodecConfig:
    """The audio tokenizer: a transformers checkpoint by folder or Hub id."""

    codec_name_or_path: str = option(CODEC_ID, "Folder or Hub id of a HiggsAudioV2TokenizerModel checkpoint.")
    codec_revision: str | None = option(None, "Commit, tag or branch of the codec; the known codec is pinned.")

    def __post_init__(self) -> None:
        if self.codec_name_or_path == CODEC_ID and self.codec_revision is None:
            self.codec_revision = CODEC_REVISION


@dataclass
class HubConfig:
    """Where results go on the Hub."""

    push_to_hub: bool = option(False, "Push the result to the Hub when it is complete.")
    hub_private_repo: bool = option(True, "Create the repository as private. A voice is personal data.")
