"""Checks of inherited TrainingArguments fields, so that invalid values fail when the recipe is read, not later.

tests/configs/test_training_arguments.py has a table of all fields: each works, or is in `REFUSED`.
"""

import json
import re
from dataclasses import MISSING, fields
from math import inf
from typing import Any

import torch
from accelerate.utils import parse_flag_from_env
from transformers import TrainingArguments
from transformers.integrations import get_available_reporting_integrations, is_deepspeed_zero3_enabled
from transformers.optimization import get_scheduler
from transformers.trainer_utils import HubStrategy
from transformers.training_args import OptimizerNames

from higgs_recipes.configs.fields import require, require_package
from higgs_recipes.constants import NUM_CODEBOOKS
from higgs_recipes.errors import InputError


# Optimizer -> package that it needs, such as those with 8-bit states, for full fine-tuning on one GPU.
_BITSANDBYTES = re.compile(r"bnb|paged|^(adamw|lion)_\d+bit|^ademamix")
OPTIM_PACKAGES = {name.value: "bitsandbytes" for name in OptimizerNames if _BITSANDBYTES.search(name.value)}
OPTIM_PACKAGES |= dict.fromkeys(("adamw_torch_8bit", "adamw_torch_4bit"), "torchao")
TORCH_OPTIMS = ("adamw_torch", "adamw_torch_fused", "adafactor", "sgd", "adagrad", "rmsprop")
# Optimizer, or how its name begins or ends -> why it is refused.
REFUSED_OPTIMS = {
    r"galore_.*|apollo_.*": "projects the gradients of whole weights; use method: lora",
    r".*lomo": "updates weights in the backward pass, before the loss is checked",
    r"schedule_free_.*": "trains other weights than those to be saved",
    r"adamw_torch_(xla|npu_fused)|adamw_anyprecision|grokadamw|stable_adamw": "has never been tested here",
}
# The optimizers that read optim_args, with the names that they read; transformers ignores all others.
_MOMENTS = {"beta1", "beta2", "beta3", "alpha", "eps", "t_alpha", "t_beta3"}
OPTIM_ARGS = {name: _MOMENTS for name in OPTIM_PACKAGES if "ademamix" in name} | {
    "sgd": {"momentum", "dampening", "nesterov"},
    "adagrad": {"lr_decay", "eps"},
    "rmsprop": {"momentum", "alpha", "eps", "centered"},
}

# Each metric that `HiggsTrainer.evaluate` reports, without its prefix "eval_" -> whether a higher value is better.
HIGHER_IS_BETTER = {"loss": False, "loss_text": False, "eos_loss": False, "eos_accuracy": True}
HIGHER_IS_BETTER |= {f"loss_codebook_{k}": False for k in range(NUM_CODEBOOKS)}
HIGHER_IS_BETTER |= {f"accuracy_codebook_{k}": True for k in range(NUM_CODEBOOKS)}
# The same for the metrics that `listen` adds. No direction of eval_chars_per_second is better.
LISTEN_HIGHER_IS_BETTER = {"wer": False, "cer": False, "similarity": True, "stop_rate": True}

# Schedules that lower the learning rate when `metric_for_best_model` stops to improve.
_BY_METRIC = ("reduce_lr_on_plateau", "greedy")

_ONCE = "the result is pushed once, when it is complete"
_OWN_EVALUATION = "evaluation sums the losses itself and does not use it"
_TRACKIO = "Trackio is not supported: use report_to for another tracker"
_OWN_COMPILE = "set compile_layers: true instead, which compiles the layers and the loss"
# Field -> why it must keep its default.
REFUSED = {
    "label_smoothing_factor": "the loss does not support it",
    "average_tokens_across_devices": "the loss is always divided by the counts of all processes",
    "optim_target_modules": "only GaLore and APOLLO use it, which are not supported",
    "fp16": "the weights have values that float16 cannot represent: set bf16: true",
    **dict.fromkeys(("fp16_full_eval", "bf16_full_eval"), "evaluation has the precision of training: set bf16: true"),
    **dict.fromkeys(("torch_compile", "torch_compile_backend", "torch_compile_mode"), _OWN_COMPILE),
    **dict.fromkeys(("use_liger_kernel", "liger_kernel_config"), "Liger has no kernels for this model"),
    "use_cache": "training does not use a cache of keys and values",
    "neftune_noise_alpha": "its noise is defined for unpacked text: set code_dropout instead",
    "auto_find_batch_size": "the run would not have the batch size of its record: set per_device_train_batch_size",
    **dict.fromkeys(("project", "trackio_space_id", "trackio_bucket_id", "trackio_static_space_id"), _TRACKIO),
    **dict.fromkeys(("prediction_loss_only", "eval_do_concat_batches", "eval_use_gather_object"), _OWN_EVALUATION),
    **dict.fromkeys(("eval_accumulation_steps", "include_for_metrics", "batch_eval_metrics"), _OWN_EVALUATION),
    "enable_jit_checkpoint": "SIGTERM saves a checkpoint without it",
    "hub_always_push": _ONCE,
    "ignore_data_skip": "a resumed run continues with the rows that are left",
    "restore_callback_states_from_checkpoint": "a resumed run restores what it needs",
    "parallelism_config": "only DDP, FSDP and DeepSpeed are supported: see accelerate_configs/",
    **dict.fromkeys(("fsdp", "fsdp_config"), "launch with accelerate_configs/fsdp2.yaml instead"),
    "dataloader_in_order": "batches in another order in each run could not be resumed",
    "remove_unused_columns": "the collator needs the codes",
    **dict.fromkeys(("label_names", "length_column_name"), "the collator determines the labels and lengths"),
    "ddp_static_graph": "the forward passes of evaluations between the steps have another graph",
    "do_predict": "set test_split and eval_strategy, or run scripts/evaluate.py",
    "local_rank": "the launcher sets the rank of a process",
}
# Field -> its least value; null is valid where the default is null.
LEAST = {
    **dict.fromkeys(("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"), 1),
    **dict.fromkeys(("save_total_limit", "dataloader_prefetch_factor", "ddp_timeout", "ddp_bucket_cap_mb"), 1),
    **dict.fromkeys(("dataloader_num_workers", "eval_delay", "warmup_steps", "weight_decay", "adam_epsilon"), 0),
    **dict.fromkeys(("max_grad_norm", "adam_beta1", "adam_beta2"), 0),
}
_CHECKPOINTING_KWARGS = {"use_reentrant", "every_n_layers", "offload"}


def check_inherited(args: TrainingArguments) -> None:
    """Raise `InputError` for invalid values, before `__post_init__` of TrainingArguments changes the fields."""
    for field in fields(args):
        value = getattr(args, field.name)
        default = field.default if field.default is not MISSING else field.default_factory()
        if field.name in REFUSED:
            must_be = f"{field.name} must be {_as_yaml(default)}, got {_as_yaml(value)}"
            require(value == default, f"{must_be}: {REFUSED[field.name]}")
        if field.name in LEAST and value is not None:
            least = LEAST[field.name]
            require(least <= value < inf, f"{field.name} must be at least {least}, got {value}")
        choices = field.metadata.get("choices")
        require(
            choices is None or value in (None, *choices),
            f"{field.name} must be one of {', '.join(choices or ())}, got {value}",
        )
    rate = args.learning_rate
    require(0 <= rate < inf, f"learning_rate must be 0 or positive, and finite, got {rate}")
    require(args.adam_beta1 < 1 and args.adam_beta2 < 1, "adam_beta1 and adam_beta2 must be below 1")
    for name, seed in (("seed", args.seed), ("data_seed", args.data_seed)):
        require(seed is None or 0 <= seed < 2**32, f"{name} must be in 0 .. 2**32 - 1, got {seed}")  # numpy's range
    require(
        args.max_steps == -1 or args.max_steps >= 1,
        f"max_steps must be positive, or -1 for the length by epochs, got {args.max_steps}",
    )
    for name in ("logging_steps", "save_steps", "eval_steps"):
        steps = getattr(args, name)
        require(steps is None or 0 < steps < inf, f"{name} must be positive, got {steps}")
    strategy = HubStrategy(args.hub_strategy)
    require(strategy is HubStrategy.END, f"hub_strategy must be end, got {strategy.value}: {_ONCE}")
    require(not args.do_eval or args.eval_strategy != "no", "do_eval: true evaluates nothing: set eval_strategy")
    require("tpu" not in str(args.debug), f"debug must be underflow_overflow or empty, got {args.debug}")
    if args.deepspeed:
        require_package("deepspeed", "deepspeed")
    _check_data_loading(args)
    _check_optimizer(args)
    _check_checkpointing(args)
    requested = [args.report_to] if isinstance(args.report_to, str) else args.report_to or []
    available = get_available_reporting_integrations()
    for name in requested:
        require(
            name in ("none", "all", *available),
            f"report_to: {name} is not installed, or unknown to transformers: install it, or use one of "
            f"{', '.join(['none', *available])}",
        )


def _check_data_loading(args: TrainingArguments) -> None:
    strategy = args.train_sampling_strategy
    require(
        strategy in ("random", "sequential"),
        f"train_sampling_strategy: {strategy} counts text tokens only: set pack_to and fill_rows: true, which leave "
        "almost no padding",
    )
    require(
        not args.fill_rows or (strategy == "random" and not args.dataloader_drop_last),
        "fill_rows makes its own batches, of all rows: remove train_sampling_strategy and dataloader_drop_last",
    )
    needs_workers = (
        "dataloader_persistent_workers",
        "dataloader_prefetch_factor",
        "dataloader_multiprocessing_context",
    )
    for name in needs_workers:
        has_workers = args.dataloader_num_workers > 0
        require(has_workers or not getattr(args, name), f"{name} requires dataloader_num_workers of at least 1")
    accelerator = args.accelerator_config
    require(
        accelerator is None or (isinstance(accelerator, dict) and set(accelerator) <= {"non_blocking"}),
        f"accelerator_config must be a mapping with non_blocking only, got {accelerator}: its other fields change "
        "which rows a step has",
    )


def _check_optimizer(args: TrainingArguments) -> None:
    name = OptimizerNames(args.optim).value
    reason = next((why for pattern, why in REFUSED_OPTIMS.items() if re.fullmatch(pattern, name)), None)
    known = f"use one of {', '.join([*TORCH_OPTIMS, *OPTIM_PACKAGES])}"
    require(reason is None, f"optim: {name} is not supported, as it {reason}; {known}")
    require(name in TORCH_OPTIMS or name in OPTIM_PACKAGES, f"optim: {name} is unknown here; {known}")
    if name in OPTIM_PACKAGES:
        require_package(OPTIM_PACKAGES[name], f"optim: {name}")
    for mapping in (args.optim_args or "").replace(" ", "").split(",") if args.optim_args else ():
        key, _, value = mapping.partition("=")
        allowed = OPTIM_ARGS.get(name, set())
        require(
            key in allowed and re.fullmatch(r"[-+\w.]+", value) is not None,
            f"optim_args: optim {name} reads no {mapping!r}; expected name=value with one of "
            f"{', '.join(sorted(allowed)) or '(none)'}",
        )


def _check_checkpointing(args: TrainingArguments) -> None:
    for field in fields(args):
        if field.name.endswith("checkpointing_kwargs") and getattr(args, field.name):
            kwargs = getattr(args, field.name)
            require(
                isinstance(kwargs, dict) and set(kwargs) <= _CHECKPOINTING_KWARGS,
                f"{field.name} must be a mapping of {', '.join(sorted(_CHECKPOINTING_KWARGS))}, got {kwargs}",
            )
            require(not args.compile_layers, f"{field.name} has no effect with compile_layers: remove one of the two")


def resolve_best_metric(args: TrainingArguments) -> None:
    """Set `metric_for_best_model` and `greater_is_better` before transformers guesses the latter from the name.

    Raises:
        InputError: the metric is unknown, or `greater_is_better` contradicts it; or the best checkpoint is requested
            without evaluation.
    """
    needs = {
        "load_best_model_at_end: true": args.load_best_model_at_end,
        "save_strategy: best": args.save_strategy == "best",
    }
    needs |= {f"lr_scheduler_type: {name}": args.lr_scheduler_type == name for name in _BY_METRIC}
    needed_by = [name for name, is_set in needs.items() if is_set]
    require(
        not needed_by or args.eval_strategy != "no",
        f"{' and '.join(needed_by)} needs an evaluation: set eval_strategy and test_split",
    )
    require(not args.eval_on_start or args.eval_strategy != "no", "eval_on_start needs eval_strategy and test_split")
    if args.metric_for_best_model is None and needed_by:
        args.metric_for_best_model = "loss"
    if args.metric_for_best_model is None:
        return
    metric = args.metric_for_best_model.removeprefix("eval_")
    require(
        args.listen is not None or metric not in LISTEN_HIGHER_IS_BETTER,
        f"metric_for_best_model: {args.metric_for_best_model} is a score of generated speech, which only listen "
        "measures: set listen",
    )
    table = HIGHER_IS_BETTER | ({} if args.listen is None else LISTEN_HIGHER_IS_BETTER)
    require(
        metric in table,
        f"metric_for_best_model: {args.metric_for_best_model} is unknown; use one of {', '.join(table)}",
    )
    higher = table[metric]
    require(
        args.greater_is_better in (None, higher),
        f"greater_is_better: {str(not higher).lower()} is wrong for metric_for_best_model: {metric}; remove it",
    )
    args.greater_is_better = higher
    mode = "max" if higher else "min"
    kwargs = args.lr_scheduler_kwargs if isinstance(args.lr_scheduler_kwargs, dict) else {}
    require(
        args.lr_scheduler_type not in _BY_METRIC or kwargs.get("mode", "min") == mode,
        f"lr_scheduler_type {args.lr_scheduler_type} by {metric}: set lr_scheduler_kwargs: {{mode: {mode}}}",
    )


def check_listen(args: TrainingArguments) -> None:
    """Raise `InputError` if the recipe sets `listen` and cannot speak during training."""
    require(
        args.eval_strategy != "no", "listen needs an evaluation: set eval_strategy and test_split, or listen: null"
    )
    require(not args.fp8, "listen does not support fp8, whose weights have not been tested in generation: remove one")
    require(
        not parse_flag_from_env("ACCELERATE_USE_FSDP"),
        "listen does not support FSDP, which shards the weights that generate: set listen: null, or launch with "
        "accelerate_configs/ddp.yaml",
    )


def check_resolved(args: TrainingArguments) -> None:
    """Raise `InputError` for what only the resolved fields show, after `__post_init__` of TrainingArguments."""
    require(
        not (args.compile_layers and is_deepspeed_zero3_enabled()),
        "compile_layers does not support ZeRO-3, which gathers weights only after a layer is compiled: set "
        "compile_layers: false, or launch with accelerate_configs/fsdp2.yaml",
    )
    require(
        args.listen is None or not is_deepspeed_zero3_enabled(),
        "listen does not support ZeRO-3, which shards the weights that generate: set listen: null, or launch with "
        "accelerate_configs/zero2.yaml",
    )
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=args.learning_rate)
    name, kwargs = args.lr_scheduler_type.value, args.lr_scheduler_kwargs
    try:
        schedule = get_scheduler(name, optimizer, 1, 4, kwargs)
        for _ in range(4):
            optimizer.step()
            schedule.step(*([1.0] if name in _BY_METRIC else []))
            rate = optimizer.param_groups[0]["lr"]
            require(0 <= rate < inf, f"the learning rate becomes {rate}")
    except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError) as error:
        raise InputError(f"lr_scheduler_type {name} with lr_scheduler_kwargs {_as_yaml(kwargs)}: {error}") from error


def _as_yaml(value: Any) -> str:
    return json.dumps(value, default=str)
