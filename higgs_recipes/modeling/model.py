"""The door to transformers' Higgs Audio v2 and to peft: load a base, put an adapter on it, take it off, merge it."""

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
from higgs_recipes.modeling.base_files import fetch_base
from higgs_recipes.modeling.fp8 import use_fp8
from higgs_recipes.modeling.lora import ADAPTER_CONFIG, add_lora, fetch_adapter, load_adapter
from higgs_recipes.modeling.nf4 import (
    four_bit_config,
    keep_trainable_on_cpu,
    require_whole_weights,
    unpack_by_torch,
)
from higgs_recipes.samples import LAST_TOKENS


def load_model(
    config: ModelConfig,
    *,
    adapter: str | Path | Snapshot | None = None,
    adapter_revision: str | None = None,
    device: str | torch.device | None = None,
    base: Snapshot | None = None,
) -> tuple[HiggsAudioV2ForConditionalGeneration | PeftModel, PreTrainedTokenizerBase]:
    """The model with its text head, in evaluation mode, and its tokenizer; with an adapter, a `PeftModel`.

    Args:
        adapter: folder or Hub id of a LoRA adapter that was trained on this base, or its files.
        device: where the weights go; None leaves them where transformers puts them, for a Trainer to place. Those in
            four bits stay there.
        base: the files of the base, where they have been fetched already.

    Raises:
        InputError: what `load_base` and `load_tokenizer` raise, or an adapter of another base.
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
    """The base model with its text head, in evaluation mode; `device` as `load_model` has it.

    Raises:
        InputError: a checkpoint of another class or of the old boson_multimodal layout, weights that are missing or
            not safetensors, an `attn_implementation` that is unknown or not installed.
    """
    name, dtype, higgs_config = base.name, getattr(torch, config.dtype), _check_config(base)
    try:
        model, loaded = HiggsAudioV2ForConditionalGeneration.from_pretrained(
            base.folder,
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
    return model.eval()


def load_tokenizer(base: Snapshot) -> PreTrainedTokenizerBase:
    """The tokenizer of a base.

    Raises:
        InputError: no tokenizer, a config that `load_base` would refuse, or token ids that are not the config's.
    """
    config = _check_config(base)
    try:
        tokenizer = AutoTokenizer.from_pretrained(base.folder)
    except (OSError, ValueError) as error:
        raise InputError(f"{base.name}: no tokenizer can be loaded from it: {str(error).splitlines()[0]}") from error
    bos, audio, _, eot = LAST_TOKENS
    expected = {audio: config.audio_token_id, bos: config.audio_bos_token_id, eot: config.eos_token_id}
    found = {token: tokenizer.convert_tokens_to_ids(token) for token in expected}
    if found != expected:
        raise InputError(
            f"{base.name}: the tokenizer has {found}, config.json {expected}; they must be of one checkpoint"
        )
    return tokenizer


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


def build_model(config: SFTConfig, base: Snapshot) -> HiggsAudioV2ForConditionalGeneration | PeftModel:
    """The model to train, with a new adapter or with what is not trained frozen as the recipe says.

    Raises:
        InputError: what `load_base` and `add_lora` raise; `fp8` on a GPU that lacks it; `fp8` or `load_in_4bit` in a
            run that FSDP or ZeRO-3 would shard.
    """
    is_rounded = config.load_in_4bit or config.fp8
    if is_rounded:
        require_whole_weights("fp8" if config.fp8 else "load_in_4bit")
    # What is rounded is rounded where it trains: faster, and a Trainer does not move four bits.
    model = load_base(config, base, device=config.device if is_rounded else None)
    if config.method == "full":
        train_only(model, config)
        return model
    set_seed(config.seed)  # an adapter is drawn before the Trainer sets it
    adapted = add_lora(model, config)
    if config.fp8:
        use_fp8(model, config.device)
    if config.load_in_4bit and config.layers_recompute:
        unpack_by_torch(model)
    return adapted


def _give_audio_the_type_of_text(model: HiggsAudioV2ForConditionalGeneration) -> None:
    """Let the audio embeddings' sum have the type of the text's embeddings, beside which transformers puts it.

    Autocast on CUDA sums in float32, and one of the two may be trained in another type than the other. What type the
    text's weight has tells nothing: FSDP has gathered it, used it and put it away when the audio's turn comes.
    """
    text, made = model.model.embed_tokens, {}
    text.register_forward_hook(lambda module, _, embedded: made.update(dtype=embedded.dtype))
    model.model.embed_audio_tokens.register_forward_hook(lambda module, _, summed: summed.to(made["dtype"]))


def _check_config(base: Snapshot) -> HiggsAudioV2Config:
    name, folder = base.name, base.folder
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
