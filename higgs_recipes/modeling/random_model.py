"""Checkpoints with random weights and a byte tokenizer: the real classes, for demos, tests and speed measurements."""

from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import PartialState
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    DacFeatureExtractor,
    GenerationConfig,
    HiggsAudioV2Config,
    HiggsAudioV2ForConditionalGeneration,
    HiggsAudioV2Processor,
    HiggsAudioV2TokenizerModel,
    PreTrainedTokenizerFast,
)

from higgs_recipes.audio.random_codec import init_codec
from higgs_recipes.chatml import CHAT_TEMPLATE
from higgs_recipes.configs.inference import InitConfig
from higgs_recipes.errors import InputError
from higgs_recipes.files import staged_folder
from higgs_recipes.records import read_config


MODEL_FOLDER, CODEC_FOLDER = "model", "codec"  # in a recipe's output_dir

# Marks of the prompt whose ids the model's config does not name; they follow the bytes.
FREE_TOKENS = (
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|scene_desc_start|>",
    "<|scene_desc_end|>",
    "<|audio_eos|>",
)


def byte_tokenizer(config: HiggsAudioV2Config, *, phrases: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """A tokenizer of the 256 bytes and the real model's marks, those of the config at the config's ids.

    It has no merges: a text has as many tokens as UTF-8 bytes, but for the phrases. The vocabulary is our own.

    Args:
        phrases: strings of one token each, with the ids after the marks: the sentences that stand in every prompt,
            which as bytes would be longer than the text to speak.

    Raises:
        InputError: two marks share an id, or one is outside the vocabulary; a phrase is empty or given twice, or finds
            no free id.
    """
    marks = {
        "<|end_of_text|>": config.pad_token_id,
        "<|eot_id|>": config.eos_token_id,
        "<|AUDIO_OUT|>": config.audio_token_id,
        "<|audio_out_bos|>": config.audio_bos_token_id,
        "<|reserved_special_token_6|>": config.audio_delay_token_id,
    }
    free = (index for index in range(256, config.vocab_size) if index not in marks.values())
    marks |= dict(zip(FREE_TOKENS, free, strict=False))
    if len(set(phrases)) < len(phrases) or not all(phrases):
        raise InputError("phrases: an empty one, or one that is given twice; remove it")
    phrase_ids = dict(zip(phrases, free, strict=False))
    if len(phrase_ids) < len(phrases):
        raise InputError(f"phrases: {len(phrases)} of them find {len(phrase_ids)} free ids; raise vocab_size")
    ids = sorted(marks.values())
    if len(set(ids)) < len(FREE_TOKENS) + 5 or not 256 <= ids[0] <= ids[-1] < config.vocab_size:
        raise InputError(
            f"model config: the marks {marks} need ids of their own in 256 .. {config.vocab_size - 1}, as the first "
            "256 are the bytes"
        )
    alphabet = {symbol: index for index, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=alphabet | marks | phrase_ids, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in marks])
    tokenizer.add_tokens([AddedToken(phrase, special=False, normalized=False) for phrase in phrases])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|begin_of_text|>",
        eos_token="<|eot_id|>",
        pad_token="<|end_of_text|>",
        chat_template=CHAT_TEMPLATE,
    )


def init_checkpoint(config: InitConfig) -> tuple[Path, Path | None]:
    """Write `output_dir/model` (weights, tokenizer, processor, generation config) and `output_dir/codec`.

    The weights are those of transformers' own initialization under `seed`, drawn on the GPU where there is one.

    Raises:
        InputError: a config file is missing or of no such class, or the folder is in use.
    """
    model_folder, codec_folder = Path(config.output_dir) / MODEL_FOLDER, Path(config.output_dir) / CODEC_FOLDER
    if config.codec_config is not None:
        with staged_folder(codec_folder, overwrite=config.overwrite_output_dir) as staging:
            init_codec(config.codec_config, seed=config.seed, output_dir=staging)

    higgs_config = read_config(config.model_config, HiggsAudioV2Config)
    tokenizer = byte_tokenizer(higgs_config, phrases=config.phrases)
    model = _random_model(higgs_config, dtype=getattr(torch, config.dtype), seed=config.seed)
    with staged_folder(model_folder, overwrite=config.overwrite_output_dir) as staging:
        model.save_pretrained(staging)
        tokenizer.save_pretrained(staging)
        if config.codec_config is not None:
            _processor(tokenizer, codec_folder).save_pretrained(staging)
    return model_folder, codec_folder if config.codec_config is not None else None


def random_checkpoint(model_config: str, *, folder: Path, seed: int) -> Path:
    """The folder of a model with random weights in bfloat16, in `folder`: made where it is not there, and kept.

    Raises:
        InputError: what `init_checkpoint` raises; or the folder holds a model of another config.
    """
    with PartialState().main_process_first():
        if not (folder / MODEL_FOLDER).is_dir():
            init_checkpoint(InitConfig(model_config=model_config, dtype="bfloat16", seed=seed, output_dir=str(folder)))
    asked, found = (
        read_config(path, HiggsAudioV2Config) for path in (model_config, folder / MODEL_FOLDER / "config.json")
    )
    written = ("architectures", "dtype", "transformers_version")  # by save_pretrained
    asked, found = ({k: v for k, v in each.to_dict().items() if k not in written} for each in (asked, found))
    if asked != found:
        name = next(name for name in asked if asked[name] != found.get(name))
        raise InputError(
            f"{folder}: holds a model with {name} {found.get(name)}, {model_config} says {asked[name]}; remove the "
            "folder or name another one"
        )
    return folder / MODEL_FOLDER


def _random_model(
    config: HiggsAudioV2Config, *, dtype: torch.dtype, seed: int
) -> HiggsAudioV2ForConditionalGeneration:
    torch.manual_seed(seed)
    default_dtype = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
            model = HiggsAudioV2ForConditionalGeneration(config, use_text_head=True)
    finally:
        torch.set_default_dtype(default_dtype)
    model.generation_config = GenerationConfig(
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
        do_sample=True,
        top_k=50,
        top_p=0.95,
        ras_win_len=7,
        ras_win_max_num_repeat=2,
    )
    return model


def _processor(tokenizer: PreTrainedTokenizerFast, codec_folder: Path) -> HiggsAudioV2Processor:
    """transformers' processor; it names the codec's folder as the published one names the codec's id."""
    codec = HiggsAudioV2TokenizerModel.from_pretrained(codec_folder, use_safetensors=True)
    feature_extractor = DacFeatureExtractor.from_pretrained(codec_folder)
    return HiggsAudioV2Processor(feature_extractor, tokenizer, codec, chat_template=CHAT_TEMPLATE)
