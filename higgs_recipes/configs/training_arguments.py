"""Checks of inherited TrainingArguments fields, so that invalid values fail when the recipe is read, not later."""

import re
from math import inf

from transformers import TrainingArguments
from transformers.integrations import get_available_reporting_integrations, is_deepspeed_zero3_enabled
from transformers.trainer_utils import HubStrategy
from transformers.training_args import OptimizerNames

from higgs_recipes.configs.fields import require, require_package


# Optimizer -> package that it needs, such as those with 8-bit states, for full fine-tuning on one GPU.
_BITSANDBYTES = re.compile(r"bnb|paged|^(adamw|lion)_\d+bit|^ademamix")
OPTIM_PACKAGES = {name.value: "bitsandbytes" for name in OptimizerNames if _BITSANDBYTES.search(name.value)}
OPTIM_PACKAGES |= dict.fromkeys(("adamw_torch_8bit", "adamw_torch_4bit"), "torchao")


def check_inherited(args: TrainingArguments) -> None:
    """Raise `InputError` for invalid values, before `__post_init__` of TrainingArguments changes the fields."""
    for name in ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"):
        require(getattr(args, name) >= 1, f"{name} must be at least 1, got {getattr(args, name)}")
    rate, smoothing = args.learning_rate, args.label_smoothing_factor
    require(0 <= rate < inf, f"learning_rate must be 0 or positive, and finite, got {rate}")
    require(smoothing == 0, f"label_smoothing_factor must be 0, got {smoothing}: the loss does not support it")
    require(0 <= args.seed < 2**32, f"seed must be in 0 .. 2**32 - 1, got {args.seed}")  # numpy's range
    require(
        not (args.torch_compile and args.fast_path),
        "torch_compile does not support fast_path: set compile_layers instead",
    )
    strategy, once = HubStrategy(args.hub_strategy), "the result is pushed once, when it is complete"
    require(strategy is HubStrategy.END, f"hub_strategy must be end, got {strategy.value}: {once}")
    require(not args.hub_always_push, f"hub_always_push must be false: {once}")
    if args.deepspeed:
        require_package("deepspeed", "deepspeed")
    if args.optim in OPTIM_PACKAGES:
        require_package(OPTIM_PACKAGES[args.optim], f"optim: {args.optim}")
    requested = [args.report_to] if isinstance(args.report_to, str) else args.report_to or []
    available = get_available_reporting_integrations()
    for name in requested:
        require(
            name in ("none", "all", *available),
            f"report_to: {name} is not installed, or unknown to transformers: install it, or use one of "
            f"{', '.join(['none', *available])}",
        )


def check_launch(args: TrainingArguments) -> None:
    """Raise `InputError` for fields that the launcher does not support, after `__post_init__` of TrainingArguments."""
    require(
        not (args.compile_layers and is_deepspeed_zero3_enabled()),
        "compile_layers does not support ZeRO-3, which gathers weights only after a layer is compiled: set "
        "compile_layers: false, or launch with accelerate_configs/fsdp2.yaml",
    )
