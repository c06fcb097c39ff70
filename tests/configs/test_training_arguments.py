"""Every field of transformers' TrainingArguments either works, or is refused by name as the recipe is read."""

import json
import re
from dataclasses import fields
from importlib.util import find_spec
from math import inf, nan

import pytest
import torch
from transformers import TrainingArguments
from transformers.training_args import OptimizerNames
from transformers.utils import logging

from higgs_recipes.configs.sft import SFTConfig
from higgs_recipes.configs.training_arguments import (
    HIGHER_IS_BETTER,
    LEAST,
    OPTIM_PACKAGES,
    REFUSED,
    REFUSED_OPTIMS,
    TORCH_OPTIMS,
)
from higgs_recipes.errors import InputError
from tests.helpers.checkpoints import tiny_folder
from tests.helpers.configs import make
from tests.helpers.paths import ROOT
from tests.helpers.train_once import make_trainer


# Fields that work: with each group, a model is trained.
WORKING = {
    "optimizer": {
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "learning_rate": 1e-3,
        "lr_scheduler_type": "cosine_with_restarts",
        "lr_scheduler_kwargs": {"num_cycles": 2},
        "warmup_steps": 1,
        "optim": "adamw_torch",
        "weight_decay": 0.1,
        "adam_beta1": 0.8,
        "adam_beta2": 0.9,
        "adam_epsilon": 1e-6,
        "max_grad_norm": 0.5,
        "max_steps": 2,
        "seed": 7,
        "data_seed": 8,
        "bf16": True,
        "tf32": False,
        "use_cpu": True,
        "torch_empty_cache_steps": 1,
    },
    "momentum": {
        "optim": "sgd",
        "optim_args": "momentum=0.9, nesterov=true",
        "gradient_checkpointing": True,  # the deprecated names
        "gradient_checkpointing_kwargs": {"use_reentrant": True},
    },
    "logs": {
        "logging_strategy": "steps",
        "logging_steps": 1,
        "logging_first_step": True,
        "logging_nan_inf_filter": True,
        "log_on_each_node": False,
        "log_level": "error",
        "log_level_replica": "critical",
        "disable_tqdm": True,
        "report_to": "none",
        "run_name": "a run",
        "include_num_input_tokens_seen": "all",
        "debug": "underflow_overflow",
        "activation_checkpointing": True,
        "activation_checkpointing_kwargs": {"every_n_layers": 2, "offload": True},
    },
    "evaluation": {
        "do_train": True,
        "do_eval": True,
        "eval_strategy": "steps",
        "eval_steps": 1,
        "eval_delay": 1,
        "eval_on_start": True,
        "per_device_eval_batch_size": 2,
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_accuracy_codebook_0",
        "greater_is_better": True,
        "save_strategy": "steps",
        "save_steps": 1,
        "save_total_limit": 1,
        "save_only_model": True,
        "save_on_each_node": True,
    },
    "data": {
        "max_steps": -1,
        "num_train_epochs": 0.5,
        "per_device_train_batch_size": 3,
        "train_sampling_strategy": "sequential",
        "accelerator_config": {"non_blocking": False},
        "dataloader_drop_last": True,
        "dataloader_num_workers": 1,
        "dataloader_pin_memory": False,
        "dataloader_prefetch_factor": 1,
        "dataloader_multiprocessing_context": "fork",
    },
}
# Fields that another test uses, in this file under tests/.
ELSEWHERE = {
    "output_dir": "configs/test_parser.py",
    "resume_from_checkpoint": "training/test_checkpoints.py",
    "dataloader_persistent_workers": "training/test_trainer.py",
    **dict.fromkeys(("full_determinism", "skip_memory_metrics"), "configs/test_training_arguments.py"),
    **dict.fromkeys(("ddp_find_unused_parameters", "ddp_bucket_cap_mb"), "training/test_trainer.py"),
    **dict.fromkeys(("ddp_broadcast_buffers", "ddp_backend", "ddp_timeout"), "training/test_trainer.py"),
    "deepspeed": "configs/test_training_arguments.py",
    "hub_strategy": "configs/test_training_arguments.py",
    "hub_private_repo": "configs/test_parser.py",
    "hub_token": "hub/test_cards.py",
    "hub_revision": "hub/test_push.py",
    **dict.fromkeys(("push_to_hub", "hub_model_id"), "test_end_to_end.py"),
}


def test_each_field_of_transformers_either_works_or_is_refused():
    works = {name for group in WORKING.values() for name in group}
    tables = [works, set(ELSEWHERE), set(REFUSED)]
    for field in fields(TrainingArguments):
        found = sum(field.name in table for table in tables)
        assert found == 1, f"{field.name} is in {found} of the tables: try it, and add it to one of them"
    for name, file in ELSEWHERE.items():
        assert name in (ROOT / "tests" / file).read_text(encoding="utf-8"), name


@pytest.mark.parametrize("group", WORKING)
def test_a_model_is_trained_with_fields_that_work(group, tmp_path):
    level = logging.get_verbosity()
    fields = {"method": "lora", "max_steps": 1, "per_device_train_batch_size": 4} | WORKING[group]
    trainer = make_trainer(tmp_path, model_folder=tiny_folder() / "model", **fields)
    before = {name: weight.clone() for name, weight in trainer.model.named_parameters()}
    trainer.train()
    trainer.save_model()
    logging.set_verbosity(level)
    assert trainer.state.global_step == (2 if group == "optimizer" else 1)
    changed = [name for name, weight in trainer.model.named_parameters() if not torch.equal(weight, before[name])]
    assert changed or group == "optimizer"  # of its steps, the warmup has the rate 0
    json.dumps(trainer.args.to_dict())


@pytest.mark.slow
@pytest.mark.parametrize("fields", [{"full_determinism": True}, {"skip_memory_metrics": False}])
def test_a_model_is_trained_with_fields_of_the_whole_process(fields, tmp_path):
    trainer = make_trainer(tmp_path, model_folder=tiny_folder() / "model", method="lora", **fields)
    try:
        trainer.train()
    finally:
        torch.use_deterministic_algorithms(False)
    assert trainer.state.global_step == 2


@pytest.mark.parametrize("name", [field.name for field in fields(TrainingArguments) if field.name in REFUSED])
def test_a_refused_field_is_named_with_the_reason(name):
    is_bool = isinstance(getattr(SFTConfig, name, None), bool)
    with pytest.raises(InputError) as error:
        make(SFTConfig, **{name: not getattr(SFTConfig, name) if is_bool else 7})
    assert str(error.value).startswith(f"{name} must be ") and str(error.value).endswith(REFUSED[name])


def test_each_optimizer_either_works_or_is_refused_or_needs_its_package():
    for optim in (name.value for name in OptimizerNames):
        refused = any(re.fullmatch(pattern, optim) for pattern in REFUSED_OPTIMS)
        assert (optim in TORCH_OPTIMS) + (optim in OPTIM_PACKAGES) + refused == 1, optim
        if refused:
            with pytest.raises(InputError, match=f"optim: {optim} is not supported, as it .*; use one of adamw_torch"):
                make(SFTConfig, optim=optim)


def test_the_optimizers_of_torch_change_the_weights(tmp_path):
    trainer = make_trainer(tmp_path, model_folder=tiny_folder() / "model", method="lora")
    weights = [weight for weight in trainer.model.parameters() if weight.requires_grad]
    for optim in TORCH_OPTIMS:
        trainer.args.optim, trainer.optimizer = OptimizerNames(optim), None
        before = [weight.detach().clone() for weight in weights]
        for weight in weights:
            weight.grad = torch.ones_like(weight)
        trainer.create_optimizer().step()
        assert not any(torch.equal(*pair) for pair in zip(weights, before, strict=True)), optim


@pytest.mark.parametrize("name", LEAST)
def test_numbers_that_are_too_small_or_not_finite_are_refused(name):
    for value in (LEAST[name] - 1, nan, inf):
        with pytest.raises(InputError, match=f"{name} must be at least {LEAST[name]}, got {value}"):
            make(SFTConfig, **{name: value})


EVALUATED = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}


@pytest.mark.parametrize("metric", HIGHER_IS_BETTER)
def test_the_direction_of_a_metric_is_that_of_the_table(metric):
    config = make(SFTConfig, metric_for_best_model=metric, load_best_model_at_end=True, **EVALUATED)
    assert config.greater_is_better is metric.startswith(("accuracy", "eos_accuracy"))
    wrong = not config.greater_is_better
    with pytest.raises(InputError, match=f"greater_is_better: {str(wrong).lower()} is wrong for .*: {metric}; remove"):
        make(SFTConfig, metric_for_best_model=f"eval_{metric}", greater_is_better=wrong)


def test_an_unknown_metric_is_refused_with_the_known_ones():
    for metric in ("bleu", "eval_loss_codebook_8", "test_loss", ""):
        with pytest.raises(
            InputError, match=f"metric_for_best_model: {metric} is unknown; use one of loss, loss_text"
        ):
            make(SFTConfig, metric_for_best_model=metric)


def test_the_metric_is_the_loss_where_one_is_needed():
    assert make(SFTConfig).metric_for_best_model is None
    for needing in ({"save_strategy": "best"}, {"lr_scheduler_type": "greedy"}, {"load_best_model_at_end": True}):
        config = make(SFTConfig, **EVALUATED | needing)
        assert (config.metric_for_best_model, config.greater_is_better) == ("loss", False)


def test_without_a_test_split_there_is_no_evaluation():
    assert make(SFTConfig, test_split=None, eval_strategy="steps", eval_steps=1).eval_strategy == "no"


PACKED = {"pack_to": 100, "fill_rows": True, "per_device_train_batch_size": 1}


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"per_device_train_batch_size": 0}, "per_device_train_batch_size must be at least 1, got 0"),
        ({"per_device_eval_batch_size": -1}, "per_device_eval_batch_size must be at least 1, got -1"),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps must be at least 1, got 0"),
        ({"learning_rate": nan}, "learning_rate must be 0 or positive, and finite, got nan"),
        ({"learning_rate": -1e-4}, "learning_rate must be 0 or positive, and finite, got -0.0001"),
        ({"seed": 2**32}, r"^seed must be in 0 .. 2\*\*32 - 1, got 4294967296"),
        ({"data_seed": -1}, r"data_seed must be in 0 .. 2\*\*32 - 1, got -1"),
        ({"adam_beta2": 1.0}, "adam_beta1 and adam_beta2 must be below 1"),
        ({"max_steps": 0}, "max_steps must be positive, or -1 for the length by epochs, got 0"),
        ({"max_steps": -2}, "max_steps must be positive, .* got -2"),
        ({"logging_steps": 0}, "logging_steps must be positive, got 0"),
        ({"save_steps": 0}, "save_steps must be positive, got 0"),
        ({"eval_steps": -1}, "eval_steps must be positive, got -1"),
        (
            {"train_sampling_strategy": "group_by_length"},
            "strategy: group_by_length counts text tokens only: set pack",
        ),
        (
            {"train_sampling_strategy": "batch_rebalance"},
            "train_sampling_strategy: batch_rebalance counts text tokens",
        ),
        (
            {"train_sampling_strategy": "shuffled"},
            "train_sampling_strategy must be one of random, sequential, .*, got",
        ),
        ({"log_level": "loud"}, "log_level must be one of detail, debug, .*, got loud"),
        ({"ddp_backend": "carrier pigeon"}, "ddp_backend must be one of nccl, gloo, .*, got carrier pigeon"),
        (
            PACKED | {"dataloader_drop_last": True},
            "fill_rows makes its own batches, of all rows: remove train_sampling",
        ),
        (PACKED | {"train_sampling_strategy": "sequential"}, "fill_rows makes its own batches, of all rows"),
        ({"dataloader_persistent_workers": True}, "dataloader_persistent_workers requires dataloader_num_workers of"),
        (
            {"dataloader_prefetch_factor": 2},
            "dataloader_prefetch_factor requires dataloader_num_workers of at least 1",
        ),
        ({"dataloader_multiprocessing_context": "spawn"}, "multiprocessing_context requires dataloader_num_workers"),
        ({"accelerator_config": {"split_batches": True}}, "must be a mapping with non_blocking only, got {'split_b"),
        (
            {"accelerator_config": "config.json"},
            "accelerator_config must be a mapping with non_blocking only, got con",
        ),
        (
            {"gradient_checkpointing_kwargs": {"x": 1}},
            "must be a mapping of every_n_layers, offload, use_reentrant, g",
        ),
        (
            {"compile_layers": True, "activation_checkpointing_kwargs": {"offload": True}},
            "activation_checkpointing_kwargs has no effect with compile_layers: remove one",
        ),
        ({"optim_args": "momentum=0.9"}, "optim_args: optim adamw_torch_fused reads no 'momentum=0.9'; .* one of "),
        ({"optim": "sgd", "optim_args": "momentum"}, "optim_args: optim sgd reads no 'momentum'; expected name=value"),
        ({"optim": "sgd", "optim_args": "lr=1"}, "reads no 'lr=1'; expected name=value with one of dampening, moment"),
        ({"debug": "tpu_metrics_debug"}, "debug must be underflow_overflow or empty, got tpu_metrics_debug"),
        ({"do_eval": True}, "do_eval: true evaluates nothing: set eval_strategy"),
        ({"eval_on_start": True}, "eval_on_start needs eval_strategy and test_split"),
        ({"save_strategy": "best"}, "save_strategy: best needs an evaluation: set eval_strategy and test_split"),
        ({"load_best_model_at_end": True, "save_strategy": "no"}, "load_best_model_at_end: true needs an evaluation"),
        (EVALUATED | {"test_split": None, "load_best_model_at_end": True}, "load_best.*: true needs an evaluation"),
        ({"lr_scheduler_type": "greedy"}, "lr_scheduler_type: greedy needs an evaluation"),
        (
            EVALUATED | {"lr_scheduler_type": "reduce_lr_on_plateau", "metric_for_best_model": "eos_accuracy"},
            "reduce_lr_on_plateau by eos_accuracy: set lr_scheduler_kwargs: {mode: max}",
        ),
        (
            {"lr_scheduler_type": "warmup_stable_decay"},
            "warmup_stable_decay with lr_scheduler_kwargs null: .*decay_st",
        ),
        ({"lr_scheduler_type": "cosine_with_min_lr"}, "lr_scheduler_type cosine_with_min_lr with .* null: .* min_lr"),
        ({"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"lr_end": 1.0}}, "polynomial with .*: lr_end"),
        ({"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"lr_end": -1}}, "the learning rate becomes -"),
        ({"lr_scheduler_kwargs": {"last_epoch": 5}}, "lr_scheduler_type linear with .*last_epoch.*: .*initial_lr"),
        ({"lr_scheduler_kwargs": {"cycles": 1}}, "lr_scheduler_type linear with .*cycles.*: .*unexpected keyword"),
        ({"report_to": "wandbb"}, "report_to: wandbb is not installed, or unknown to transformers: install it"),
        ({"report_to": ["none", "x"]}, "report_to: x is not installed, or unknown .* or use one of none"),
        ({"hub_strategy": "every_save"}, "hub_strategy must be end, got every_save: the result is pushed once"),
        ({"hub_strategy": "all_checkpoints"}, "hub_strategy must be end, got all_checkpoints"),
    ],
)
def test_invalid_inherited_fields_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        make(SFTConfig, **fields)


@pytest.mark.skipif(find_spec("deepspeed") is not None, reason="deepspeed is installed")
def test_a_missing_deepspeed_is_an_input_error():
    with pytest.raises(InputError, match="deepspeed needs a package that is not installed: pip install deepspeed"):
        make(SFTConfig, deepspeed="zero2.json")


@pytest.mark.parametrize(
    "optim, package",
    [("adamw_bnb_8bit", "bitsandbytes"), ("paged_adamw_32bit", "bitsandbytes"), ("adamw_torch_8bit", "torchao")],
)
def test_an_optimizer_of_another_package_needs_it(optim, package, monkeypatch):
    monkeypatch.setattr("higgs_recipes.configs.fields.find_spec", lambda name: None)
    with pytest.raises(InputError, match=f"optim: {optim} needs a package .* pip install {package}"):
        make(SFTConfig, optim=optim)


def test_compiled_layers_under_zero3_are_refused(monkeypatch):
    make(SFTConfig, compile_layers=True)
    monkeypatch.setattr("higgs_recipes.configs.training_arguments.is_deepspeed_zero3_enabled", lambda: True)
    with pytest.raises(InputError, match="compile_layers does not support ZeRO-3, .* launch with .*/fsdp2.yaml"):
        make(SFTConfig, compile_layers=True)
