"""Whether a run may resume from a checkpoint: the settings in the checkpoint's run.json decide, field by field."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from accelerate.logging import get_logger
from accelerate.utils import parse_flag_from_env
from transformers.trainer import TRAINER_STATE_NAME

from higgs_recipes.configs.sft import SFTConfig
from higgs_recipes.configs.training_arguments import LISTEN_HIGHER_IS_BETTER
from higgs_recipes.errors import InputError
from higgs_recipes.hub.public import public_record
from higgs_recipes.hub.run_record import RUN_INFO
from higgs_recipes.records import read_record


logger = get_logger(__name__)  # logs in the main process only

SETTINGS, RESUMED = "settings", "resumed"  # entries of run.json

# Fields of a recipe that are compared by what they name (its content or commit), or that a resumed run does not read.
_NOT_COMPARED = frozenset(
    "output_dir datasets model_name_or_path model_revision codec_name_or_path codec_revision adapter adapter_revision "
    "max_steps num_train_epochs hours_seen resume_from_checkpoint push_to_hub hub_model_id hub_token hub_private_repo "
    "hub_strategy hub_always_push hub_revision do_train do_eval do_predict local_rank fsdp fsdp_config".split()
)
# Fields that change neither the rows of a step nor its update, apart from rounding.
_MAY_DIFFER = frozenset(
    "logging_strategy logging_steps logging_first_step logging_nan_inf_filter log_on_each_node log_level "
    "log_level_replica include_num_input_tokens_seen disable_tqdm report_to run_name skip_memory_metrics debug "
    "eval_strategy eval_steps eval_delay eval_on_start per_device_eval_batch_size "
    "save_strategy save_steps save_total_limit save_only_model save_on_each_node "
    "dataloader_num_workers dataloader_pin_memory dataloader_persistent_workers dataloader_prefetch_factor "
    "dataloader_multiprocessing_context accelerator_config torch_empty_cache_steps use_cpu allow_untrained "
    "activation_checkpointing activation_checkpointing_kwargs gradient_checkpointing gradient_checkpointing_kwargs "
    "fast_path compile_layers ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers "
    "ddp_backend ddp_timeout".split()
)
# What the record has besides fields of a recipe, and what of it may differ.
_ENVIRONMENT = ("git_commit", "hardware", "base_model", "base_revision")
_VERSION = "version of "
# Schedules whose learning rate at a step does not depend on the length of the run.
_ANY_LENGTH = ("constant", "constant_with_warmup", "inverse_sqrt", "reduce_lr_on_plateau", "greedy")


def run_settings(config: SFTConfig, run: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint records to be compared when a run resumes from it.

    Args:
        config: the recipe.
        run: the other entries of run.json: base, adapter and datasets.
    """
    recipe = {name: value for name, value in config.to_dict().items() if name not in _NOT_COMPARED}
    length = ("max_steps", "hours_seen", "num_train_epochs")
    given = {"max_steps": config.max_steps if config.max_steps > 0 else None, "hours_seen": config.hours_seen}
    given["num_train_epochs"] = config.num_train_epochs
    settings = recipe | {
        "length": next({name: given[name]} for name in length if given[name] is not None),
        "datasets": [dataset["fingerprint"] for dataset in run["datasets"]],
        "base_fingerprint": run["base_fingerprint"],
        "adapter": [run.get("adapter"), run.get("adapter_revision")],
        "num_processes": config.world_size,
        "sharding": [name for name in ("FSDP", "DEEPSPEED") if parse_flag_from_env(f"ACCELERATE_USE_{name}")],
        **{name: run[name] for name in _ENVIRONMENT},
        **{f"{_VERSION}{library}": version for library, version in run["versions"].items()},
    }
    return json.loads(json.dumps(public_record(settings), default=str))


def check_resume(checkpoint: str, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Compare the settings of a run with those of the checkpoint from which it resumes; log what differs.

    Returns:
        The entry "resumed" of run.json: step and changed settings of every start of the run from a checkpoint.

    Raises:
        InputError: the checkpoint has no settings or no state of the optimizer, or a setting differs that must not.
    """
    folder = Path(checkpoint)
    run = read_record(folder / RUN_INFO)
    field = "adapter" if run.get("method") == "lora" else "model_name_or_path"
    further = f"start a new run, which can train it further with {field}: {folder}"
    if not any(folder.glob("rng_state*.pth")):
        raise InputError(f"{folder} has only the weights, as of save_only_model: it cannot be resumed; {further}")
    if SETTINGS not in run:
        raise InputError(f"{folder / RUN_INFO} has no settings to compare, as of an older version; {further}")
    step = read_record(folder / TRAINER_STATE_NAME)["global_step"]
    # A field that transformers has added since has its default.
    before = {field.name: field.default for field in fields(SFTConfig)} | run[SETTINGS]
    changed = {name: [before.get(name), value] for name, value in settings.items() if before.get(name) != value}
    may_differ = {*_MAY_DIFFER, *_ENVIRONMENT} | ({"length"} if _may_change_length(settings, step) else set())
    if (settings["metric_for_best_model"] or "").removeprefix("eval_") not in LISTEN_HIGHER_IS_BETTER:
        may_differ |= {"listen"}  # otherwise the scores of earlier checkpoints would not compare
    refused = {
        name: values for name, values in changed.items() if name not in may_differ and not name.startswith(_VERSION)
    }
    if refused:
        hint = " (the learning rate depends on it)" if "length" in refused else ""
        raise InputError(
            f"{folder} cannot be resumed with this recipe: {_describe(refused)}{hint}: restore the checkpoint's "
            f"values, or {further}"
        )
    if changed:
        logger.warning("resuming from %s with other settings: %s", folder, _describe(changed))
    return [*run.get(RESUMED, []), {"step": step, "changed": changed}]


def _may_change_length(settings: Mapping[str, Any], step: int) -> bool:
    is_complete = 0 < settings["length"].get("max_steps", step + 1) <= step  # no step is left
    by_ratio = settings["lr_scheduler_type"] != "constant" and 0 < settings["warmup_steps"] < 1
    return is_complete or (settings["lr_scheduler_type"] in _ANY_LENGTH and not by_ratio)


def _describe(changed: Mapping[str, Sequence[Any]]) -> str:
    return "; ".join(
        f"{name} is {json.dumps(before)} in the checkpoint, {json.dumps(now)} in this run"
        for name, (before, now) in changed.items()
    )
