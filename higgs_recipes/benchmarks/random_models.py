"""The models of the benchmarks, with random weights, and the text that they speak."""

from pathlib import Path

import torch
from transformers import HiggsAudioV2ForConditionalGeneration, PreTrainedTokenizerBase

from higgs_recipes.audio.codec import Codec, load_codec
from higgs_recipes.audio.random_codec import init_codec
from higgs_recipes.configs.benchmark import (
    BenchmarkGenerateConfig,
    BenchmarkStreamConfig,
    BenchmarkTextsConfig,
    RandomCodecConfig,
)
from higgs_recipes.configs.model import ModelConfig
from higgs_recipes.modeling.model import load_model
from higgs_recipes.modeling.random_model import random_checkpoint
from higgs_recipes.output_folder import staged_folder


def load_random_model(
    config: BenchmarkGenerateConfig | BenchmarkStreamConfig | BenchmarkTextsConfig, *, device: torch.device
) -> tuple[HiggsAudioV2ForConditionalGeneration, PreTrainedTokenizerBase]:
    """The model of `checkpoint_dir`, which is created on first use; its clips have their maximum length."""
    base = random_checkpoint(config.model_config, folder=Path(config.checkpoint_dir), seed=config.seed)
    model, tokenizer = load_model(ModelConfig(str(base), dtype=config.dtype), device=device)
    disable_eos(model)
    return model, tokenizer


def disable_eos(model: HiggsAudioV2ForConditionalGeneration) -> None:
    """Set the logit of EOS to 0, in place, so that every clip reaches its maximum length.

    With random weights half of all codes have a higher logit, so EOS is never among the top_k.
    """
    config = model.config
    with torch.no_grad():
        model.audio_lm_head.weight.unflatten(0, (config.num_codebooks, -1))[0, config.audio_stream_eos_id] = 0


def random_codec_folder(config: RandomCodecConfig, *, device: torch.device) -> Path:
    """The folder `codec_dir`, with a codec that is created on first use."""
    folder = Path(config.codec_dir)
    if not folder.is_dir():
        with staged_folder(folder, kind="benchmark") as staging:
            init_codec(config.codec_config, seed=config.seed, output_dir=staging, device=device)
    return folder


def load_random_codec(config: RandomCodecConfig, *, device: torch.device) -> Codec:
    """The codec of `codec_dir`."""
    return load_codec(random_codec_folder(config, device=device), revision=None, device=device)


def text_of_length(num_characters: int) -> str:
    """A text to speak.

    >>> text_of_length(25)
    'The tide comes in. The ti'
    """
    return ("The tide comes in. " * num_characters)[:num_characters]
