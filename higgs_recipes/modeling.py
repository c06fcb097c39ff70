"""The door to transformers' Higgs Audio v2 and to peft: load a base, put an adapter on it, take it off, merge it."""

import json
import logging
import re
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import (
    AutoTokenizer,
    HiggsAudioV2Config,
    HiggsAudioV2ForConditionalGeneration,
    PreTrainedTokenizerBase,
    set_seed,
)

from higgs_recipes.configs import ModelConfig, SFTConfig
from higgs_recipes.delay import BOS_CODE, EOS_CODE
from higgs_recipes.errors import InputError
from higgs_recipes.files import fetch
from higgs_recipes.fingerprint import folder_fingerprint
from higgs_recipes.fp8 import use_fp8
from higgs_recipes.method_config import TRAIN_MODULES
from higgs_recipes.quantization import (
    four_bit_config,
    is_four_bit,
    keep_trainable_on_cpu,
    require_whole_weights,
    unpack_by_torch,
)
from higgs_recipes.records import public_path, read_record
from higgs_recipes.samples import LAST_TOKENS


logger = logging.getLogger(__name__)

# What a recipe names -> the modules of a decoder layer (or the heads), as the end of their full names.
# peft's "all-linear" would adapt audio_lm_head too, and the suffix gate_proj both feed-forward networks.
LORA_TARGETS = {
    "attention": r"self_attn\.(q|k|v|o)_proj",
    "audio_mlp": r"\.audio_mlp\.(gate|up|down)_proj",
    "mlp": r"\.mlp\.(gate|up|down)_proj",
    "heads": r"(audio|text)_lm_head",
}
ADAPTER_WEIGHTS, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
RUN_INFO, MERGE_INFO = "run.json", "merge.json"
MODEL_PATTERNS = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"]


def load_model(
    config: ModelConfig,
    *,
    adapter: str | Path | None = None,
    adapter_revision: str | None = None,
    device: str | torch.device | None = None,
) -> tuple[HiggsAudioV2ForConditionalGeneration | PeftModel, PreTrainedTokenizerBase]:
    """The model with its text head, in evaluation mode, and its tokenizer; with an adapter, a `PeftModel`.

    Args:
        adapter: folder or Hub id of a LoRA adapter that was trained on this base.
        device: where the weights go; None leaves them where transformers puts them, for a Trainer to place. Those in
            four bits stay there.

    Raises:
        InputError: no such checkpoint, one of another class or of the old boson_multimodal layout, weights that are
            missing or no safetensors, an `attn_implementation` that is unknown or not installed, token ids that are
            not the tokenizer's, an adapter of another base.
    """
    folder = fetch(config.model_name_or_path, revision=config.model_revision, allow_patterns=MODEL_PATTERNS)
    name, dtype = config.model_name_or_path, getattr(torch, config.dtype)
    higgs_config = _check_config(folder, name)
    try:
        model, loaded = HiggsAudioV2ForConditionalGeneration.from_pretrained(
            folder,
            config=higgs_config,
            dtype=dtype,
            quantization_config=four_bit_config(dtype) if config.load_in_4bit else None,
            attn_implementation=config.attn_implementation,
            device_map=None if device is None else {"": device},
            use_text_head=True,  # an argument, not in the config: without it the head is dropped in silence
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, SafetensorError) as error:
        raise InputError(f"{name}: the weights cannot be read as safetensors: {error}") from error
    except (ValueError, ImportError) as error:
        asked = f"attn_implementation {config.attn_implementation!r}"
        raise InputError(f"{name}: cannot be loaded with {asked}: {error}") from error
    if loaded["missing_keys"] or loaded["mismatched_keys"]:
        missing = sorted(map(str, [*loaded["missing_keys"], *loaded["mismatched_keys"]]))
        raise InputError(
            f"{name}: {len(missing)} weights are missing or of another shape, the first {missing[0]}: "
            "is it a whole HiggsAudioV2ForConditionalGeneration checkpoint with text head?"
        )
    if config.load_in_4bit:
        keep_trainable_on_cpu(model)
    # What an adapter's config names as its base: the id that others can load. A folder elsewhere on this machine is
    # nobody's business, and its bare name would be taken for a Hub id.
    model.name_or_path = name if public_path(name) == name else None
    _give_audio_the_type_of_text(model)
    tokenizer = _load_tokenizer(folder, higgs_config, name)
    if adapter is not None:
        model = _load_adapter(model, str(adapter), revision=adapter_revision, base=name, base_folder=folder)
    return model.eval(), tokenizer


def load_tokenizer(config: ModelConfig) -> PreTrainedTokenizerBase:
    """The tokenizer of a base, without the model.

    Raises:
        InputError: no such checkpoint, or one whose config and tokenizer `load_model` would refuse.
    """
    folder = fetch(config.model_name_or_path, revision=config.model_revision, allow_patterns=MODEL_PATTERNS)
    return _load_tokenizer(folder, _check_config(folder, config.model_name_or_path), config.model_name_or_path)


def base_fingerprint(config: ModelConfig) -> str:
    """First 16 hexadecimal digits of a SHA-256 over a few rows of the base's weights, rounded to bfloat16.

    Read from the files, so it is the same whatever type the weights are loaded as and however they are sharded.
    """
    folder = fetch(config.model_name_or_path, revision=config.model_revision, allow_patterns=MODEL_PATTERNS)
    return folder_fingerprint(folder)


def add_lora(model: HiggsAudioV2ForConditionalGeneration, config: SFTConfig) -> PeftModel:
    """The model with a new, trainable LoRA adapter on the recipe's targets.

    Raises:
        InputError: a target that names no module.
    """
    patterns = [LORA_TARGETS.get(target, rf"(^|\.){re.escape(target)}") for target in config.lora_targets]
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    for target, pattern in zip(config.lora_targets, patterns, strict=True):
        if not _matching(linear, pattern):
            raise InputError(
                f"lora_targets: {target!r} names no linear module of the model; use {', '.join(LORA_TARGETS)} or full "
                f"names as {linear[0]}"
            )
    lora = LoraConfig(
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=sorted({name for pattern in patterns for name in _matching(linear, pattern)}),
        revision=config.model_revision,
    )
    return get_peft_model(model, lora)


def train_only(model: HiggsAudioV2ForConditionalGeneration, config: SFTConfig) -> None:
    """Freeze what the recipe's `train_modules` does not name, in place; what is trained gets its `trained_dtype`.

    The checkpoint of such a run is a whole model, as that of any full fine-tuning.
    """
    patterns = [TRAIN_MODULES[name] for name in config.train_modules or TRAIN_MODULES]
    for name, weight in model.named_parameters():
        weight.requires_grad_(any(re.search(pattern, name) for pattern in patterns))
        if weight.requires_grad:
            weight.data = weight.data.to(getattr(torch, config.trained_dtype))
    for name, module in model.named_modules():
        if name.endswith("norm"):  # transformers scatters what one norm makes into what another made
            module.register_forward_hook(lambda module, inputs, normed: normed.to(inputs[0].dtype))


def build_model(config: SFTConfig) -> tuple[HiggsAudioV2ForConditionalGeneration | PeftModel, PreTrainedTokenizerBase]:
    """The model to train, with a new adapter or with what is not trained frozen as the recipe says, and its tokenizer.

    Raises:
        InputError: what `load_model` and `add_lora` raise; `fp8` on a GPU that lacks it; `fp8` or `load_in_4bit` in a
            run that FSDP or ZeRO-3 would shard.
    """
    is_rounded = config.load_in_4bit or config.fp8
    if is_rounded:
        require_whole_weights("fp8" if config.fp8 else "load_in_4bit")
    # What is rounded is rounded where it trains: faster, and a Trainer does not move four bits.
    model, tokenizer = load_model(config, device=config.device if is_rounded else None)
    if config.method == "full":
        train_only(model, config)
        return model, tokenizer
    set_seed(config.seed)  # an adapter is drawn before the Trainer sets it
    adapted = add_lora(model, config)
    if config.fp8:
        use_fp8(model, config.device)
    if config.load_in_4bit and config.layers_recompute:
        unpack_by_torch(model)
    return adapted, tokenizer


def load_run(adapter: str | Path, *, revision: str | None = None) -> dict[str, Any] | None:
    """run.json of an adapter or fine-tuned model, by folder or Hub id; None where it has none."""
    path = fetch(adapter, revision=revision, allow_patterns=[RUN_INFO]) / RUN_INFO
    return read_record(path) if path.is_file() else None


def merge_adapter(model: PeftModel) -> HiggsAudioV2ForConditionalGeneration:
    """The base with the adapter's change added to its weights. `model` is used up.

    An adapter that was trained over a base in four bits goes into the base's own weights too: load it without
    `load_in_4bit`.

    Raises:
        ValueError: the merged weights hold NaN, or the base is in four bits, to which the sum would be rounded.
    """
    if is_four_bit(model):
        raise ValueError("the base is in four bits: load it without load_in_4bit to merge an adapter")
    return model.merge_and_unload(safe_merge=True)


def innermost(model: nn.Module) -> HiggsAudioV2ForConditionalGeneration:
    """transformers' model under peft, with the adapter's layers in place."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def _give_audio_the_type_of_text(model: HiggsAudioV2ForConditionalGeneration) -> None:
    """Let the audio embeddings' sum have the type of the text's embeddings, beside which transformers puts it.

    Autocast on CUDA sums in float32, and one of the two may be trained in another type than the other. What type the
    text's weight has tells nothing: FSDP has gathered it, used it and put it away when the audio's turn comes.
    """
    text, made = model.model.embed_tokens, {}
    text.register_forward_hook(lambda module, _, embedded: made.update(dtype=embedded.dtype))
    model.model.embed_audio_tokens.register_forward_hook(lambda module, _, summed: summed.to(made["dtype"]))


def _matching(names: list[str], pattern: str) -> list[str]:
    return [name for name in names if re.search(rf"{pattern}$", name)]


def _check_config(folder: Path, name: str) -> HiggsAudioV2Config:
    path = folder / "config.json"
    if not path.is_file():
        adapter = " (it holds an adapter: give that as --adapter)" if (folder / ADAPTER_CONFIG).is_file() else ""
        raise InputError(f"{name}: no config.json, so no model checkpoint{adapter}")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{name}: config.json is not JSON: {error}") from error
    model_type = fields.get("model_type") if isinstance(fields, dict) else None
    if model_type == "higgs_audio":
        raise InputError(
            f"{name}: a checkpoint in the old boson_multimodal layout (model_type higgs_audio); use the transformers "
            "one, bosonai/higgs-tts-2-3b-base"
        )
    if model_type != HiggsAudioV2Config.model_type:
        raise InputError(f"{name}: config.json has model_type {model_type!r}, not {HiggsAudioV2Config.model_type!r}")
    config = HiggsAudioV2Config.from_pretrained(folder)
    marks = (config.audio_stream_bos_id, config.audio_stream_eos_id)
    if marks != (BOS_CODE, EOS_CODE) or config.codebook_size != EOS_CODE + 1:
        raise InputError(
            f"{name}: codebook_size {config.codebook_size} with stream marks {marks} in config.json; "
            f"Higgs Audio v2 has {EOS_CODE + 1} and {(BOS_CODE, EOS_CODE)}"
        )
    return config


def _load_tokenizer(folder: Path, config: HiggsAudioV2Config, name: str) -> PreTrainedTokenizerBase:
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise InputError(f"{name}: no tokenizer can be loaded from it: {str(error).splitlines()[0]}") from error
    bos, audio, _, eot = LAST_TOKENS
    expected = {audio: config.audio_token_id, bos: config.audio_bos_token_id, eot: config.eos_token_id}
    found = {token: tokenizer.convert_tokens_to_ids(token) for token in expected}
    if found != expected:
        raise InputError(f"{name}: the tokenizer has {found}, config.json {expected}; they must be of one checkpoint")
    return tokenizer


def _load_adapter(model: nn.Module, adapter: str, *, revision: str | None, base: str, base_folder: Path) -> PeftModel:
    folder = fetch(adapter, revision=revision, allow_patterns=[ADAPTER_WEIGHTS, ADAPTER_CONFIG, RUN_INFO])
    for file in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if not (folder / file).is_file():
            raise InputError(f"{adapter}: no {file}, so no LoRA adapter in safetensors")
    fingerprint, run = folder_fingerprint(base_folder), load_run(adapter, revision=revision)
    if run is not None:
        if run.get("base_fingerprint") != fingerprint:
            raise InputError(
                f"{adapter}: trained on {run.get('base_model')} with fingerprint {run.get('base_fingerprint')}; this "
                f"base, {base}, has {fingerprint}: give the adapter's own base as model_name_or_path"
            )
    else:
        logger.warning("%s has no %s: nothing tells whether it was trained on this base", adapter, RUN_INFO)
    try:
        adapted = PeftModel.from_pretrained(model, folder, torch_device="cpu")
    except (RuntimeError, ValueError, SafetensorError) as error:
        raise InputError(f"{adapter}: does not fit the base {base}: {error}") from error
    with safe_open(folder / ADAPTER_WEIGHTS, framework="pt") as weights:
        missing = sorted(set(get_peft_model_state_dict(adapted, save_embedding_layers=False)) - set(weights.keys()))
    if missing:  # peft would leave them as drawn, with a warning
        raise InputError(f"{adapter}: {ADAPTER_WEIGHTS} lacks {len(missing)} weights, the first {missing[0]}")
    return adapted
