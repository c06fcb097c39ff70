"""Load Higgs Audio v2 and its tokenizer, with or without an adapter, and build the model of a fine-tuning."""

import json
import re
from pathlib import Path

import torch
from peft import PeftModel
from safetensors import SafetensorError
from transformers import (
    AutoTokenizer,
    HiggsAudioV2Config,
    HiggsAudioV2ForConditionalGeneration,
    PreTrainedTokenizerBase,
    set_seed,
)

from higgs_recipes.configs.finetuning import TRAIN_MODULES
from higgs_recipes.configs.model import ModelConfig
from higgs_recipes.configs.sft import SFTConfig
from higgs_recipes.constants import BOS_CODE, EOS_CODE
from higgs_recipes.errors import InputError
from higgs_recipes.hub.download import Snapshot
from higgs_recipes.hub.public import public_path
from higgs_recipes.hub.safe_files import check_checkpoint
from higgs_recipes.modeling.base_files import fetch_base
from higgs_recipes.modeling.fp8 import use_fp8
from higgs_recipes.modeling.lora import ADAPTER_CONFIG, add_lora, continue_lora, fetch_adapter, load_adapter
from higgs_recipes.modeling.nf4 import disable_cpu_repacking, nf4_config, refuse_sharding, use_nf4_linear
from higgs_recipes.samples import LAST_TOKENS


def load_model(
    config: ModelConfig,
    *,
    adapter: str | Path | Snapshot | None = None,
    adapter_revision: str | None = None,
    device: str | torch.device | None = None,
    base: Snapshot | None = None,
) -> tuple[HiggsAudioV2ForConditionalGeneration | PeftModel, PreTrainedTokenizerBase]:
    """Load the model with its text head, in evaluation mode, and its tokenizer; with an adapter, a `PeftModel`.

    Args:
        config: names the base model.
        adapter: folder or Hub id of a LoRA adapter that was trained on this base, or its fetched files.
        adapter_revision: commit, tag or branch of the adapter.
        device: device of the weights; None leaves them where transformers puts them, for a Trainer to place. A Trainer
            does not move 4-bit weights.
        base: the files of the base, if they are fetched already.

    Raises:
        InputError: whatever `load_base` and `load_tokenizer` raise, or the adapter was trained on another base.
    """
    base = base or fetch_base(config)
    tokenizer = load_tokenizer(base)
    model = load_base(config, base, device=device)
    if adapter is not None:
        files = adapter if isinstance(adapter, Snapshot) else fetch_adapter(adapter, revision=adapter_revision)
        model = load_adapter(model, files, base=base)
    return model.eval(), tokenizer


def load_base(
    config: ModelConfig, base: Snapshot, *, device: str | torch.device | None
) -> HiggsAudioV2ForConditionalGeneration:
    """Load the base model with its text head, in evaluation mode; `device` as in `load_model`.

    Raises:
        InputError: the checkpoint is of another class or in the old boson_multimodal layout; weights are missing or
            not in safetensors; `attn_implementation` is unknown or not installed.
    """
    name, dtype, higgs_config = base.name, getattr(torch, config.dtype), _check_config(base)
    check_checkpoint(base.folder, name=name)
    try:
        model, loaded = HiggsAudioV2ForConditionalGeneration.from_pretrained(
            base.folder,
            config=higgs_config,
            dtype=dtype,
            quantization_config=nf4_config(dtype) if config.load_in_4bit else None,
            attn_implementation=config.attn_implementation,
            device_map=None if device is None else {"": device},
            use_text_head=True,  # an argument, not in the config: without it the head is dropped without a warning
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (OSError, SafetensorError) as error:
        raise InputError(f"{name}: the weights cannot be read as safetensors: {error}") from error
    except (ValueError, ImportError) as error:
        attention = f"attn_implementation {config.attn_implementation!r}"
        raise InputError(f"{name}: cannot be loaded with {attention}: {error}") from error
    if loaded["missing_keys"] or loaded["mismatched_keys"]:
        missing = sorted(map(str, [*loaded["missing_keys"], *loaded["mismatched_keys"]]))
        raise InputError(
            f"{name}: {len(missing)} weights are missing or have another shape, e.g. {missing[0]}: "
            "expected a complete HiggsAudioV2ForConditionalGeneration checkpoint with text head"
        )
    if config.load_in_4bit:
        disable_cpu_repacking(model)
    # peft writes this into the adapter's config as its base: an id that others can load. A path on this machine is
    # private, and its last part alone would be read as a Hub id.
    model.name_or_path = name if public_path(name) == name else None
    _match_audio_embedding_dtype(model)
    return model.eval()


def load_tokenizer(base: Snapshot) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a base.

    Raises:
        InputError: there is no tokenizer, `load_base` would refuse the config, or the token ids differ from those of
            the config.
    """
    config = _check_config(base)
    try:
        tokenizer = AutoTokenizer.from_pretrained(base.folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{base.name}: the tokenizer cannot be loaded: {str(error).splitlines()[0]}") from error
    bos, audio, _, eot = LAST_TOKENS
    expected = {audio: config.audio_token_id, bos: config.audio_bos_token_id, eot: config.eos_token_id}
    found = {token: tokenizer.convert_tokens_to_ids(token) for token in expected}
    if found != expected:
        raise InputError(
            f"{base.name}: the tokenizer has {found}, config.json {expected}; use both from one checkpoint"
        )
    return tokenizer


def train_only(model: HiggsAudioV2ForConditionalGeneration, config: SFTConfig) -> None:
    """Freeze all modules that the recipe's `train_modules` does not name, in place; cast the rest to `trained_dtype`.

    The run still saves a complete model, like every full fine-tuning.
    """
    patterns = [TRAIN_MODULES[name] for name in config.train_modules or TRAIN_MODULES]
    for name, weight in model.named_parameters():
        weight.requires_grad_(any(re.search(pattern, name) for pattern in patterns))
        if weight.requires_grad:
            weight.data = weight.data.to(getattr(torch, config.trained_dtype))
    # transformers scatters the output of one norm into that of another, so their types must match.
    for name, module in model.named_modules():
        if name.endswith("norm"):
            module.register_forward_hook(lambda module, inputs, output: output.to(inputs[0].dtype))


def build_model(
    config: SFTConfig, base: Snapshot, *, adapter: Snapshot | None = None
) -> HiggsAudioV2ForConditionalGeneration | PeftModel:
    """Load the base and prepare it for training: with an adapter, or with frozen modules as the recipe says.

    Args:
        config: the recipe.
        base: files of the base model.
        adapter: files of the adapter to train further; None: a new one.

    Raises:
        InputError: whatever `load_base`, `add_lora` and `continue_lora` raise; `fp8` on a GPU without float8 products;
            `fp8` or `load_in_4bit` in a run launched with FSDP or ZeRO-3.
    """
    is_quantized = config.load_in_4bit or config.fp8
    if is_quantized:
        refuse_sharding("fp8" if config.fp8 else "load_in_4bit")
    # Quantize on the device of training: it is faster, and a Trainer does not move 4-bit weights.
    model = load_base(config, base, device=config.device if is_quantized else None)
    if config.method == "full":
        train_only(model, config)
        return model
    set_seed(config.seed)  # the Trainer sets it only after the adapter is initialized
    adapted = add_lora(model, config) if adapter is None else continue_lora(model, config, files=adapter, base=base)
    if config.fp8:
        use_fp8(model, config.device)
    if config.load_in_4bit and config.layers_recompute:
        use_nf4_linear(model)
    return adapted


def _match_audio_embedding_dtype(model: HiggsAudioV2ForConditionalGeneration) -> None:
    """Cast the summed audio embeddings to the type of the text embeddings, into which transformers scatters them.

    The types differ because autocast on CUDA sums in float32, and because one of the two may be trained in another
    type. The type of the text embedding's weight cannot be used: FSDP reshards the weight before audio is embedded.
    """
    text_output = {}
    model.model.embed_tokens.register_forward_hook(lambda module, _, output: text_output.update(dtype=output.dtype))
    model.model.embed_audio_tokens.register_forward_hook(lambda module, _, output: output.to(text_output["dtype"]))


def _check_config(base: Snapshot) -> HiggsAudioV2Config:
    name, folder = base.name, base.folder
    path = folder / "config.json"
    if not path.is_file():
        hint = " (it is an adapter: use --adapter for it)" if (folder / ADAPTER_CONFIG).is_file() else ""
        raise InputError(f"{name}: no config.json, so it is not a model checkpoint{hint}")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{name}: config.json is not JSON: {error}") from error
    model_type = fields.get("model_type") if isinstance(fields, dict) else None
    if model_type == "higgs_audio":
        raise InputError(
            f"{name}: a checkpoint in the old boson_multimodal layout (model_type higgs_audio); use the transformers "
            "checkpoint bosonai/higgs-tts-2-3b-base"
        )
    if model_type != HiggsAudioV2Config.model_type:
        raise InputError(f"{name}: config.json has model_type {model_type!r}, not {HiggsAudioV2Config.model_type!r}")
    config = HiggsAudioV2Config.from_pretrained(folder, trust_remote_code=False)
    bos_eos = (config.audio_stream_bos_id, config.audio_stream_eos_id)
    if bos_eos != (BOS_CODE, EOS_CODE) or config.codebook_size != EOS_CODE + 1:
        raise InputError(
            f"{name}: codebook_size {config.codebook_size} with BOS and EOS codes {bos_eos} in config.json; "
            f"Higgs Audio v2 has {EOS_CODE + 1} and {(BOS_CODE, EOS_CODE)}"
        )
    return config
