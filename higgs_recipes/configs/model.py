"""Configs that several scripts share: base model, codec and Hub."""

from dataclasses import dataclass
from typing import Annotated, Any

from higgs_recipes.configs.fields import Dtype, option, require_package


MODEL_ID = "bosonai/higgs-tts-2-3b-base"
MODEL_REVISION = "d80c511612b3040ff2877ce3d408747df1739f11"
CODEC_ID = "bosonai/higgs-audio-v2-tokenizer"
CODEC_REVISION = "403fbacf2f60caaa102f893fdfabb694619b2417"
# A path, or a mapping of fields. The command-line parser does not support this union and reads it as a str.
Source = Annotated[str, dict]


def source_mapping(source: str | dict[str, Any]) -> dict[str, Any]:
    """A source of a recipe as a mapping: a path or Hub id alone is {"path": source}."""
    return {"path": source} if isinstance(source, str) else source


@dataclass
class ModelConfig:
    """The base model: a transformers checkpoint by folder or Hub id."""

    model_name_or_path: str = option(
        MODEL_ID, "Folder or Hub id of a HiggsAudioV2ForConditionalGeneration checkpoint."
    )
    model_revision: str | None = option(
        None, "Commit, tag or branch of the base model; null: a pinned commit for the default model, else main."
    )
    dtype: Dtype = option("bfloat16", "Data type of the base model's weights in memory.")
    attn_implementation: str = option(
        "sdpa", "Attention implementation of transformers: sdpa, eager, flash_attention_2 ..."
    )
    load_in_4bit: bool = option(
        False, "Quantize attention and feed-forward weights to NF4, a quarter of bfloat16's size; with lora: QLoRA."
    )

    def __post_init__(self) -> None:
        if self.load_in_4bit:
            require_package("bitsandbytes", "load_in_4bit")
        if self.model_name_or_path == MODEL_ID and self.model_revision is None:
            self.model_revision = MODEL_REVISION


@dataclass
class CodecConfig:
    """The codec (audio tokenizer): a transformers checkpoint by folder or Hub id."""

    codec_name_or_path: str = option(CODEC_ID, "Folder or Hub id of a HiggsAudioV2TokenizerModel checkpoint.")
    codec_revision: str | None = option(
        None, "Commit, tag or branch of the codec; null: a pinned commit for the default codec, else main."
    )

    def __post_init__(self) -> None:
        if self.codec_name_or_path == CODEC_ID and self.codec_revision is None:
            self.codec_revision = CODEC_REVISION


@dataclass
class HubConfig:
    """Pushing results to the Hub."""

    push_to_hub: bool = option(False, "Push the finished result to the Hub.")
    hub_private_repo: bool = option(True, "Create the repository as private, since a voice is personal data.")
