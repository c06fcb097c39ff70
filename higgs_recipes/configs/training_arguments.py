"""What TrainingArguments takes and fails on later, or would be ignored here: refused as a recipe is read."""

import re
from math import inf

from transformers import TrainingArguments
from transformers.integrations import get_available_reporting_integrations, is_deepspeed_zero3_enabled
from transformers.training_args import OptimizerNames

from higgs_recipes.configs.fields import require, require_package


# Optimizers that are not torch's own, as those with states of 8 bits, for full fine-tuning on one card.
_OF_BITSANDBYTES = re.compile(r"bnb|paged|^(adamw|lion)_\d+bit|^ademamix")
OPTIM_PACKAGES = {each.value: "bitsandbytes" for each in OptimizerNames if _OF_BITSANDBYTES.search(each.value)}
OPTIM_PACKAGES |= dict.fromkeys(("adamw_torch_8bit", "adamw_torch_4bit"), "torchao")


def check_inherited(args: TrainingArguments) -> None:
    """Raise `InputError` for a field's value, before transformers' own `__post_init__` makes something of it."""
    for name in ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"):
        require(getattr(args, name) >= 1, f"{name} must be at least 1, got {getattr(args, name)}")
    rate, smoothing = args.learning_rate, args.label_smoothing_factor
    require(0 <= rate < inf, f"learning_rate must be 0 or positive, and finite, got {rate}")
    require(smoothing == 0, f"label_smoothing_factor must be 0, got {smoothing}: the losses here smooth no labels")
    require(0 <= args.seed < 2**32, f"seed must be in 0 .. 2**32 - 1, got {args.seed}")  # numpy's
    require(
        not (args.torch_compile and args.fast_path),
        "torch_compile compiles the whole model, which fast_path has changed: set compile_layers instead",
    )
    if args.deepspeed:
        require_package("deepspeed", "deepspeed")
    if args.optim in OPTIM_PACKAGES:
        require_package(OPTIM_PACKAGES[args.optim], f"optim: {args.optim}")
    asked = [args.report_to] if isinstance(args.report_to, str) else args.report_to or []
    available = get_available_reporting_integrations()
    for name in asked:
        require(
            name in ("none", "all", *available),
            f"report_to: {name} is not installed, or unknown to transformers: pip install it, or use "
            f"{', '.join(['none', *available])}",
        )


def check_launch(args: TrainingArguments) -> None:
    """Raise `InputError` for what does not go with how a run is launched, which transformers has found out."""
    require(
        not (args.compile_layers and is_deepspeed_zero3_enabled()),
        "compile_layers does not go with ZeRO-3, whose weights are not there yet when a layer is compiled: set "
        "compile_layers: false, or launch with accelerate_configs/fsdp2.yaml",
    )
