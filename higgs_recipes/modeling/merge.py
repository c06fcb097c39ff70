"""Merge an adapter into its base: one native transformers checkpoint, with a comparison of the logits."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from higgs_recipes.chatml import conversation
from higgs_recipes.collator import HiggsCollator
from higgs_recipes.configs.inference import MergeConfig
from higgs_recipes.configs.model import ModelConfig
from higgs_recipes.errors import InputError
from higgs_recipes.files import atomic_write
from higgs_recipes.hub.lineage import base_lineage
from higgs_recipes.hub.public import public_path, public_record
from higgs_recipes.hub.run_record import MERGE_INFO, RUN_INFO, read_run
from higgs_recipes.modeling.base_files import copy_base_files, fetch_base
from higgs_recipes.modeling.lora import fetch_adapter, merge_adapter
from higgs_recipes.modeling.model import load_model
from higgs_recipes.output_folder import staged_output
from higgs_recipes.provenance import run_environment
from higgs_recipes.samples import build_sample
from higgs_recipes.unwrap import unwrap_model


CHECK_TEXT = "The birch canoe slid on the smooth planks."
CHECK_SECONDS = 2.0
Speak = Callable[..., Tensor]  # (model, tokenizer, turns, max_seconds=...) -> codes (T, C)
MODEL_INPUTS = ("input_ids", "attention_mask", "audio_input_ids", "audio_input_ids_mask")


def merge(
    config: MergeConfig, *, speak: Speak, finish: Callable[[Path], None] = lambda folder: None
) -> dict[str, Any]:
    """Write the merged checkpoint to `config.output_dir`, which appears when it is complete.

    The folder contains the weights with text head, the base's tokenizer, processor and generation config, `merge.json`
    and the adapter's `run.json`. With `check`, the logits of the base with its adapter and of the merged checkpoint,
    reloaded from its files, are compared at every position of a prompt and the clip generated for it.

    Args:
        config: the recipe.
        speak: generates the codes of the compared clip: `generation.synthesis.speak_greedily`.
        finish: called with the folder after all files are written, before it appears; writes the card.

    Returns:
        The content of `merge.json`.

    Raises:
        InputError: the folder is not empty; whatever `load_model` raises; the adapter contains NaN; the disk is full.
    """
    with staged_output(config, kind="merge") as staging:
        record = _merge_into(staging, config, speak=speak)
        finish(staging)
    return record


def _merge_into(staging: Path, config: MergeConfig, *, speak: Speak) -> dict[str, Any]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    base, adapter = fetch_base(config), fetch_adapter(config.adapter, revision=config.adapter_revision)
    model, tokenizer = load_model(config, adapter=adapter, base=base, device=device)
    batch = _check_batch(model, tokenizer, speak) if config.check else None
    expected = None if batch is None else _logits(model, batch)
    record = run_environment() | {
        "base_model": public_path(config.model_name_or_path),
        "base_revision": base.commit,
        "higgs_license": base_lineage(base).higgs_license,
        "adapter": public_path(config.adapter),
        "adapter_revision": adapter.commit,
        "dtype": config.dtype,
        "max_logit_difference": None,
        "mean_logit_difference": None,
        "likeliest_codes_equal": None,
    }
    try:
        merged = merge_adapter(model)
    except ValueError as error:  # peft's safe_merge
        raise InputError(f"{config.adapter}: {error}") from error
    merged.save_pretrained(staging)
    del model, merged  # free memory on the device for the merged checkpoint
    copy_base_files(base, staging)
    if batch is not None:
        record |= _compare(_logits(_reload(staging, config, device=device), batch), expected)
    atomic_write(staging / MERGE_INFO, json.dumps(record, indent=1) + "\n")
    run = read_run(adapter.folder)
    if run is not None:
        atomic_write(staging / RUN_INFO, json.dumps(public_record(run), indent=1) + "\n")
    return record


def _check_batch(model: nn.Module, tokenizer: PreTrainedTokenizerBase, speak: Speak) -> dict[str, Tensor]:
    """The model inputs of a prompt and the clip that the model generates greedily for it."""
    turns = conversation({"text": CHECK_TEXT}, task="single_speaker_smart_voice")
    codes = speak(model, tokenizer, turns, max_seconds=CHECK_SECONDS)
    sample = build_sample({"id": "check", "messages": turns, "codes": codes}, tokenizer)
    batch = HiggsCollator(unwrap_model(model).config)([sample])
    return {name: batch[name] for name in MODEL_INPUTS}


@torch.inference_mode()
def _logits(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Logits (S, C, V) in float32 on CPU."""
    config, device = unwrap_model(model).config, unwrap_model(model).device
    logits = model(**{name: tensor.to(device) for name, tensor in batch.items()}).logits[0]
    return logits.float().cpu().view(-1, config.num_codebooks, config.codebook_size)


def _compare(merged: Tensor, adapted: Tensor) -> dict[str, float]:
    difference = (merged - adapted).abs()
    return {
        "max_logit_difference": float(difference.max()),
        "mean_logit_difference": float(difference.mean()),
        "likeliest_codes_equal": float((merged.argmax(dim=-1) == adapted.argmax(dim=-1)).float().mean()),
    }


def _reload(folder: Path, config: MergeConfig, *, device: torch.device) -> nn.Module:
    merged = ModelConfig(str(folder), dtype=config.dtype, attn_implementation=config.attn_implementation)
    return load_model(merged, device=device)[0]
