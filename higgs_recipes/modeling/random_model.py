"""Checkpoints of the real classes with random weights and a byte tokenizer, for demos, tests and benchmarks."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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
from higgs_recipes.files import atomic_write, sha256_file
from higgs_recipes.hub.lineage import INIT_INFO
from higgs_recipes.output_folder import named_paths, staged_folder
from higgs_recipes.provenance import git_commit, library_versions
from higgs_recipes.records import read_config, read_record


MODEL_FOLDER, CODEC_FOLDER = "model", "codec"  # in a recipe's output_dir

# Special tokens of the prompt whose ids are not in the model's config; they follow the bytes.
PROMPT_TOKENS = (
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|scene_desc_start|>",
    "<|scene_desc_end|>",
    "<|audio_eos|>",
)


def byte_tokenizer(config: HiggsAudioV2Config, *, phrases: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """Build a tokenizer of the 256 bytes and the special tokens of Higgs Audio v2, with the ids of the config.

    It has no merges: apart from the phrases, a text has one token per UTF-8 byte. The vocabulary is not the published
    one.

    Args:
        config: config of the model.
        phrases: strings that become one token each, with the ids after the special tokens: the sentences of every
            prompt, which as bytes would be longer than the transcript.

    Raises:
        InputError: two special tokens share an id, or one is outside the vocabulary; a phrase is empty or given twice,
            or there is no free id for it.
    """
    special_tokens = {
        "<|end_of_text|>": config.pad_token_id,
        "<|eot_id|>": config.eos_token_id,
        "<|AUDIO_OUT|>": config.audio_token_id,
        "<|audio_out_bos|>": config.audio_bos_token_id,
        "<|reserved_special_token_6|>": config.audio_delay_token_id,
    }
    free_ids = (index for index in range(256, config.vocab_size) if index not in special_tokens.values())
    special_tokens |= dict(zip(PROMPT_TOKENS, free_ids, strict=False))
    if len(set(phrases)) < len(phrases) or not all(phrases):
        raise InputError("phrases: one is empty or given twice; remove it")
    phrase_ids = dict(zip(phrases, free_ids, strict=False))
    if len(phrase_ids) < len(phrases):
        raise InputError(f"phrases: {len(phrases)} phrases, but only {len(phrase_ids)} free ids; raise vocab_size")
    ids = sorted(special_tokens.values())
    if len(set(ids)) < len(PROMPT_TOKENS) + 5 or not 256 <= ids[0] <= ids[-1] < config.vocab_size:
        raise InputError(
            f"model config: the special tokens {special_tokens} need distinct ids in 256 .. {config.vocab_size - 1}; "
            "the first 256 are the bytes"
        )
    alphabet = {symbol: index for index, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=alphabet | special_tokens | phrase_ids, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special_tokens])
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

    The weights are initialized by transformers with `seed`, on the GPU if there is one.

    Returns:
        The two folders; None for the codec if the recipe has no `codec_config`.

    Raises:
        InputError: a config file is missing or of another class, or the folder is not empty.
    """
    model_folder, codec_folder = Path(config.output_dir) / MODEL_FOLDER, Path(config.output_dir) / CODEC_FOLDER
    options = {"kind": "init_model", "overwrite": config.overwrite_output_dir, "inputs": named_paths(config)}
    with staged_folder(model_folder, **options) as staging:
        higgs_config = read_config(config.model_config, HiggsAudioV2Config)
        tokenizer = byte_tokenizer(higgs_config, phrases=config.phrases)
        model = _random_model(higgs_config, dtype=getattr(torch, config.dtype), seed=config.seed)
        model.save_pretrained(staging)
        tokenizer.save_pretrained(staging)
        if config.codec_config is not None:  # appears before the model: the same command finishes a killed one
            codec_record = _init_record(config.codec_config, seed=config.seed)
            if config.overwrite_output_dir or not _is_made(codec_folder, codec_record):
                with staged_folder(codec_folder, **options) as codec_staging:
                    init_codec(config.codec_config, seed=config.seed, output_dir=codec_staging)
                    atomic_write(codec_staging / INIT_INFO, json.dumps(codec_record, indent=1) + "\n")
            _processor(tokenizer, codec_folder).save_pretrained(staging)
        record = _init_record(config.model_config, seed=config.seed) | {"dtype": config.dtype}
        atomic_write(staging / INIT_INFO, json.dumps(record, indent=1) + "\n")
    return model_folder, codec_folder if config.codec_config is not None else None


def _init_record(config: str, *, seed: int) -> dict[str, Any]:
    """init.json: it tells a model with random weights from one that was trained."""
    digest = sha256_file(config) if Path(config).is_file() else None
    return {"config_sha256": digest, "seed": seed, "git_commit": git_commit(), "versions": library_versions()}


def _is_made(folder: Path, record: Mapping[str, Any]) -> bool:
    return (folder / INIT_INFO).is_file() and read_record(folder / INIT_INFO) == record


def random_checkpoint(model_config: str, *, folder: Path, seed: int) -> Path:
    """A model with random weights in bfloat16, created in `folder` unless it exists.

    Returns:
        The folder of the model.

    Raises:
        InputError: whatever `init_checkpoint` raises, or the folder has a model of another config.
    """
    with PartialState().main_process_first():
        if not (folder / MODEL_FOLDER).is_dir():
            init_checkpoint(InitConfig(model_config=model_config, dtype="bfloat16", seed=seed, output_dir=str(folder)))
    paths = (model_config, folder / MODEL_FOLDER / "config.json")
    ignored = ("architectures", "dtype", "transformers_version")  # added by save_pretrained
    expected, found = (
        {name: value for name, value in read_config(path, HiggsAudioV2Config).to_dict().items() if name not in ignored}
        for path in paths
    )
    if expected != found:
        name = next(name for name in expected if expected[name] != found.get(name))
        raise InputError(
            f"{folder}: its model has {name} {found.get(name)}, {model_config} has {expected[name]}; remove the "
            "folder or choose another one"
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
    """transformers' processor; it refers to the codec by its folder, as the published one does by its Hub id."""
    codec = HiggsAudioV2TokenizerModel.from_pretrained(codec_folder, use_safetensors=True, trust_remote_code=False)
    feature_extractor = DacFeatureExtractor.from_pretrained(codec_folder, trust_remote_code=False)
    return HiggsAudioV2Processor(feature_extractor, tokenizer, codec, chat_template=CHAT_TEMPLATE)
