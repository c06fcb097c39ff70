"""LoRA adapters: add, load and merge."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import HiggsAudioV2ForConditionalGeneration

from higgs_recipes.configs.sft import SFTConfig
from higgs_recipes.errors import InputError
from higgs_recipes.hub.download import Snapshot, fetch
from higgs_recipes.hub.run_record import RUN_INFO, read_run
from higgs_recipes.modeling.fingerprint import folder_fingerprint
from higgs_recipes.modeling.nf4 import is_four_bit


logger = logging.getLogger(__name__)

# A target of a recipe -> the modules of a decoder layer (or the heads), as a pattern for the end of their full names.
# peft's "all-linear" would adapt audio_lm_head too, and the suffix gate_proj matches both feed-forward networks.
LORA_TARGETS = {
    "attention": r"self_attn\.(q|k|v|o)_proj",
    "audio_mlp": r"\.audio_mlp\.(gate|up|down)_proj",
    "mlp": r"\.mlp\.(gate|up|down)_proj",
    "heads": r"(audio|text)_lm_head",
}
ADAPTER_WEIGHTS, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"


def add_lora(model: HiggsAudioV2ForConditionalGeneration, config: SFTConfig) -> PeftModel:
    """Add a new, trainable LoRA adapter on the recipe's targets to a model.

    Raises:
        InputError: a target matches no module.
    """
    lora = LoraConfig(
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=sorted(_target_modules(model, config)),
        revision=config.model_revision,
    )
    return _without_card(get_peft_model(model, lora))


def continue_lora(
    model: HiggsAudioV2ForConditionalGeneration, config: SFTConfig, *, files: Snapshot, base: Snapshot
) -> PeftModel:
    """Load a trained adapter to train it further; `lora_dropout` is the recipe's.

    Raises:
        InputError: as `load_adapter`; or the rank, the scale or the targets of the adapter are not the recipe's.
    """
    lora, targets = read_lora(files), _target_modules(model, config)
    lora.lora_dropout, lora.revision = config.lora_dropout, config.model_revision
    lora.base_model_name_or_path = model.name_or_path  # as of a new adapter: no path of another machine
    for field, value in {"lora_r": lora.r, "lora_alpha": lora.lora_alpha}.items():
        if getattr(config, field) != value:
            raise InputError(f"{field} is {getattr(config, field)}, the adapter {files.name} has {value}: set {value}")
    adapted = load_adapter(model, files, base=base, trained_as=lora)
    adapted_names = [name for name, module in adapted.named_modules() if isinstance(module, LoraLayer)]
    found = {name.removeprefix("base_model.model.") for name in adapted_names}
    if found != targets:
        name = min(found ^ targets)
        who = "only the adapter adapts" if name in found else "only the recipe names"
        raise InputError(f"lora_targets do not name the modules of the adapter {files.name}: {who} {name}")
    return adapted


def read_lora(files: Snapshot) -> LoraConfig:
    """The config of an adapter.

    Raises:
        InputError: it cannot be read, or it is not that of a LoRA.
    """
    try:
        config = PeftConfig.from_pretrained(files.folder)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{files.name}: {ADAPTER_CONFIG} cannot be read: {error}") from error
    if not isinstance(config, LoraConfig):
        raise InputError(f"{files.name}: {ADAPTER_CONFIG} is of a {config.peft_type} adapter, not of a LoRA")
    if config.megatron_config is not None:  # peft would import a module that the config names
        raise InputError(f"{files.name}: {ADAPTER_CONFIG} has a megatron_config, which is not supported: remove it")
    return config


def _target_modules(model: nn.Module, config: SFTConfig) -> set[str]:
    """Full names of the linear modules that the recipe's `lora_targets` match.

    Raises:
        InputError: a target matches none.
    """
    patterns = [LORA_TARGETS.get(target, rf"(^|\.){re.escape(target)}") for target in config.lora_targets]
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    for target, pattern in zip(config.lora_targets, patterns, strict=True):
        if not _matching(linear, pattern):
            raise InputError(
                f"lora_targets: {target!r} matches no linear module of the model; use {', '.join(LORA_TARGETS)} or "
                f"full names such as {linear[0]}"
            )
    return {name for pattern in patterns for name in _matching(linear, pattern)}


def merge_adapter(model: PeftModel) -> HiggsAudioV2ForConditionalGeneration:
    """Merge the adapter into the weights of the base. `model` must not be used afterwards.

    An adapter that was trained on a 4-bit base is merged into the original weights: load the base without
    `load_in_4bit`.

    Raises:
        ValueError: the merged weights contain NaN, or the base is quantized to 4 bits.
    """
    if is_four_bit(model):
        raise ValueError("the base is quantized to 4 bits: load it without load_in_4bit to merge an adapter")
    return model.merge_and_unload(safe_merge=True)


def remove_adapter(model: nn.Module) -> HiggsAudioV2ForConditionalGeneration:
    """The base of a model with an adapter, or the model itself if it has none. `model` must not be used afterwards."""
    return model.unload() if isinstance(model, PeftModel) else model


def _without_card(model: PeftModel) -> PeftModel:
    # peft would write a README.md with the path of the base on this machine; the card is written from run.json.
    model.create_or_update_model_card = lambda output_dir: None
    return model


@contextmanager
def folded_adapters(model: nn.Module) -> Iterator[None]:
    """Add the active LoRA adapters to the weights that they adapt, bit for bit as `merge_adapter` does.

    On exit each weight is the tensor that it was. Adapters of quantized layers stay beside them, and disabled adapters
    change nothing.

    Raises:
        InputError: an adapter holds NaN or infinite weights.
    """
    folded: list[tuple[LoraLayer, nn.Parameter, Tensor]] = []
    try:
        for name, layer in model.named_modules():
            is_active = isinstance(layer, LoraLayer) and not (layer.disable_adapters or layer.merged)
            if is_active and plain_linear(layer.get_base_layer()) is not None:
                weight = layer.get_base_layer().weight
                folded.append((layer, weight, weight.data))
                try:
                    layer.merge(safe_merge=True)  # into a new tensor
                except ValueError as error:
                    raise InputError(f"{name}: the adapter cannot be added to the weights: {error}") from error
        yield
    finally:
        for layer, weight, original in folded:
            weight.data = original
            layer.merged_adapters.clear()


def plain_linear(module: nn.Module) -> nn.Linear | None:
    """The linear layer that does all that a module does: itself, or the base of a folded or disabled adapter.

    None: the module is quantized, has a bias, or has an active adapter beside its weight.
    """
    if isinstance(module, LoraLayer) and (module.merged or module.disable_adapters):
        module = module.get_base_layer()
    return module if type(module) is nn.Linear and module.bias is None else None


def _matching(names: list[str], pattern: str) -> list[str]:
    return [name for name in names if re.search(rf"{pattern}$", name)]


def fetch_adapter(name_or_path: str | Path, *, revision: str | None) -> Snapshot:
    """Fetch the files of a LoRA adapter, with its run.json if there is one.

    Raises:
        InputError: the folder or repository does not exist, cannot be fetched, or is not a LoRA adapter in
            safetensors.
    """
    files = fetch(name_or_path, revision=revision, allow_patterns=[ADAPTER_WEIGHTS, ADAPTER_CONFIG, RUN_INFO])
    for file in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if not (files.folder / file).is_file():
            raise InputError(f"{files.name}: no {file}, so it is not a LoRA adapter in safetensors")
    return files


def load_adapter(
    model: nn.Module, files: Snapshot, *, base: Snapshot, trained_as: LoraConfig | None = None
) -> PeftModel:
    """Load an adapter on the base that it was trained on.

    Args:
        trained_as: config with which the adapter is trained further; None: its weights are frozen.

    Raises:
        InputError: the adapter was trained on another base, does not fit the base, or lacks weights.
    """
    adapter, folder, lora = files.name, files.folder, trained_as or read_lora(files)
    fingerprint, run = folder_fingerprint(base.folder), read_run(folder)
    if run is not None:
        if run.get("base_fingerprint") != fingerprint:
            raise InputError(
                f"{adapter}: trained on {run.get('base_model')} with fingerprint {run.get('base_fingerprint')}; this "
                f"base, {base.name}, has {fingerprint}: set model_name_or_path to the base of the adapter"
            )
    else:
        logger.warning("%s has no %s: cannot check that it was trained on this base", adapter, RUN_INFO)
    try:
        adapted = PeftModel.from_pretrained(
            model, folder, config=lora, is_trainable=trained_as is not None, torch_device="cpu"
        )
    except (RuntimeError, ValueError, SafetensorError) as error:
        raise InputError(f"{adapter}: does not fit the base {base.name}: {error}") from error
    with safe_open(folder / ADAPTER_WEIGHTS, framework="pt") as weights:
        missing = sorted(set(get_peft_model_state_dict(adapted, save_embedding_layers=False)) - set(weights.keys()))
    if missing:  # peft would only warn, and keep their random initialization
        raise InputError(f"{adapter}: {ADAPTER_WEIGHTS} lacks {len(missing)} weights, e.g. {missing[0]}")
    return _without_card(adapted)
