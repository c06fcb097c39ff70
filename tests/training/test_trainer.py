"""The trainer: updates that do not depend on the split of a step, logs, resuming, pre-flight and saved files."""

import errno
import json
import math
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from higgs_recipes.collator import HiggsCollator
from higgs_recipes.configs.model import ModelConfig
from higgs_recipes.configs.training_arguments import HIGHER_IS_BETTER
from higgs_recipes.errors import InputError
from higgs_recipes.loss import dual_ffn_losses
from higgs_recipes.modeling.model import load_model
from higgs_recipes.samples import SampleDataset
from higgs_recipes.training.checkpoints import checkpoint_to_resume
from higgs_recipes.training.metrics import summarize
from higgs_recipes.unwrap import unwrap_model
from tests.helpers import forked_python
from tests.helpers.checkpoints import sft_config, tiny_folder
from tests.helpers.train_once import make_trainer, trained_weights


def run(folder, **fields):
    trainer = make_trainer(folder, model_folder=tiny_folder() / "model", **fields)
    trainer.train()
    return trainer


def assert_same_weights(expected: dict, found: dict, *, tolerance: float = 1e-5) -> None:
    assert expected.keys() == found.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(
            found[name], weight, atol=tolerance, rtol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The weights after two optimizer steps on all 8 rows, and their logs."""
    trainer = run(tmp_path_factory.mktemp("reference"), per_device_train_batch_size=8)
    return trained_weights(trainer), trainer.state.log_history


@pytest.mark.parametrize("batch_size", [8, 4, 2, 1])
@pytest.mark.parametrize("pack_to", [None, 200], ids=["padded", "packed"])
def test_update_does_not_depend_on_how_the_step_is_split(tmp_path, reference, batch_size, pack_to):
    split = {"per_device_train_batch_size": batch_size, "gradient_accumulation_steps": 8 // batch_size}
    trainer = run(tmp_path, pack_to=pack_to, **split)
    weights, log = reference
    assert_same_weights(weights, trained_weights(trainer))
    for expected, found in zip(log[:2], trainer.state.log_history[:2], strict=True):
        for name in ("loss", "loss_text", "loss_codebook_0", "loss_codebook_7", "eos_loss"):
            assert found[name] == pytest.approx(expected[name], abs=2e-5), name


def test_update_changes_the_weights(reference):
    initial = load_file(tiny_folder() / "model" / "model.safetensors")
    weights, _ = reference
    changed = {name for name, weight in weights.items() if (weight - initial[name]).abs().max() > 1e-4}
    assert {"text_lm_head.weight", "audio_lm_head.weight", "model.layers.0.audio_mlp.up_proj.weight"} <= changed


def test_two_processes_give_the_update_and_the_evaluation_of_one(tmp_path, reference):
    fields = {"model_folder": str(tiny_folder() / "model"), "per_device_train_batch_size": 4, "ddp_timeout": 60}
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = forked_python.run("-m", "tests.helpers.train_on_two", tmp_path / "run", json.dumps(fields), env=env)
    assert done.returncode == 0, done.stderr
    about = json.loads((tmp_path / "run/about.json").read_text())
    weights, log = reference
    assert about["processes"] == 2 and about["distributed_type"] == "MULTI_CPU"
    assert about["finds_unused"] is False
    assert_same_weights(weights, load_file(tmp_path / "run/model.safetensors"))
    assert about["log"][0]["loss"] == pytest.approx(log[0]["loss"], abs=2e-5)
    alone = run(tmp_path / "alone", per_device_train_batch_size=8).evaluate()
    for name, value in alone.items():
        assert about["metrics"][name] == pytest.approx(value, abs=2e-5), name


@pytest.mark.slow
def test_two_processes_train_with_the_fields_of_ddp(tmp_path, reference):
    fields = {"model_folder": str(tiny_folder() / "model"), "per_device_train_batch_size": 4, "ddp_timeout": 60}
    fields |= {"ddp_find_unused_parameters": True, "ddp_bucket_cap_mb": 5, "ddp_broadcast_buffers": False}
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    run_fields = json.dumps(fields | {"ddp_backend": "gloo"})
    done = forked_python.run("-m", "tests.helpers.train_on_two", tmp_path / "run", run_fields, env=env)
    assert done.returncode == 0, done.stderr
    assert_same_weights(reference[0], load_file(tmp_path / "run/model.safetensors"))


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_gradient_checkpointing_gives_the_same_update(compiled, tmp_path, reference):
    fields = {"gradient_checkpointing": True, "compile_layers": compiled}
    checkpointed = run(tmp_path, per_device_train_batch_size=8, **fields)
    assert_same_weights(reference[0], trained_weights(checkpointed))
    # Compiled layers recompute themselves, so checkpointing around them is off.
    layers = unwrap_model(checkpointed.model).model.layers
    assert all(layer.gradient_checkpointing is not compiled for layer in layers)


def test_bf16_computes_in_bfloat16_and_keeps_float32_weights(tmp_path, reference):
    trainer = run(tmp_path, per_device_train_batch_size=8, bf16=True)
    assert {weight.dtype for weight in trained_weights(trainer).values()} == {torch.float32}
    loss = trainer.state.log_history[0]["loss"]
    assert loss == pytest.approx(reference[1][0]["loss"], rel=0.01) and loss != reference[1][0]["loss"]


def test_collators_are_those_of_the_recipe(tmp_path):
    fields = {"pack_to": 400, "code_dropout": 0.25, "seed": 7}
    trainer = make_trainer(tmp_path, model_folder=tiny_folder() / "model", **fields)
    collator = trainer.data_collator
    assert (collator.pack_to, collator.code_dropout, collator.seed, collator.flat) == (400, 0.25, 7, True)
    assert (trainer.eval_collator.pack_to, trainer.eval_collator.code_dropout) == (None, 0.0)
    assert not trainer.eval_collator.flat


def test_one_process_uses_one_of_several_gpus(tmp_path):
    config = sft_config(tmp_path, per_device_train_batch_size=3)
    config._n_gpu = 8
    assert config.n_gpu == 1 and config.train_batch_size == 3


def test_weights_of_text_audio_and_codebooks_scale_their_losses(tmp_path):
    weights = {"text_loss_weight": 0.5, "audio_loss_weight": 2.0, "codebook_weights": [1.0] + [0.0] * 7}
    (first, *_) = run(tmp_path, per_device_train_batch_size=8, max_steps=1, **weights).state.log_history
    assert first["loss"] == pytest.approx(0.5 * first["loss_text"] + 2.0 * first["loss_codebook_0"], abs=1e-4)


def test_log_has_losses_speed_and_memory(reference):
    first = reference[1][0]
    by_codebook = [first[f"loss_codebook_{k}"] for k in range(8)]
    assert first["loss"] == pytest.approx(first["loss_text"] + sum(by_codebook) / 8, abs=1e-4)
    assert 0 <= first["eos_accuracy"] <= 1 and 0 < first["eos_loss"] < 20
    assert first["positions_per_second"] > first["audio_seconds_per_second"] > 0
    assert 0.01 < first["peak_memory_gib"] < 64


class SlowSamples(SampleDataset):
    def __getitem__(self, index: int) -> dict:
        time.sleep(0.1)
        return super().__getitem__(index)


def test_log_has_the_share_of_time_spent_waiting_for_data(tmp_path):
    shares = {}
    for kind in (SampleDataset, SlowSamples):
        trainer = make_trainer(
            tmp_path / kind.__name__,
            model_folder=tiny_folder() / "model",
            per_device_train_batch_size=4,
            max_steps=3,
        )
        trainer.train_dataset = kind(trainer.train_dataset.rows, trainer.train_dataset.tokenizer)
        trainer.train()
        shares[kind] = [entry["data_wait_share"] for entry in trainer.state.log_history if "loss" in entry]
        trainer.save_model()
        losses = json.loads((tmp_path / kind.__name__ / "run.json").read_text())["losses"]
        assert losses["data_wait_share"] == shares[kind][-1]
    assert all(0 < share < 0.5 for share in shares[SampleDataset][1:])
    assert all(0.5 < share < 1 for share in (shares[SlowSamples][0], shares[SlowSamples][2]))  # two batches per epoch


def test_evaluation_counts_each_row_once(tmp_path):
    trainer = make_trainer(tmp_path, model_folder=tiny_folder() / "model", per_device_eval_batch_size=2)
    metrics = trainer.evaluate()
    batch = HiggsCollator(trainer.model.config)([trainer.eval_dataset[index] for index in range(5)])
    with torch.inference_mode():
        expected = summarize(dual_ffn_losses(trainer.model, batch))
    for name, value in expected.items():
        assert metrics[f"eval_{name}"] == pytest.approx(value, abs=1e-5), name
    audio = sum(expected[f"loss_codebook_{k}"] for k in range(8)) / 8
    assert metrics["eval_loss"] == pytest.approx(expected["loss_text"] + audio, abs=1e-4)


def test_evaluation_takes_several_datasets_by_name_and_none_without_rows(tmp_path):
    trainer = make_trainer(tmp_path, model_folder=tiny_folder() / "model")
    alone = trainer.evaluate()
    assert {name.removeprefix("eval_") for name in alone} == HIGHER_IS_BETTER.keys()
    empty = SampleDataset([], trainer.eval_dataset.tokenizer)
    with pytest.raises(ValueError, match="an eval_dataset with rows"):
        trainer.evaluate(empty)
    both = trainer.evaluate({"voice": trainer.eval_dataset, "train": trainer.train_dataset})
    assert both.keys() == {f"eval_{part}_{name}" for part in ("voice", "train") for name in HIGHER_IS_BETTER}
    assert both["eval_voice_loss"] == alone["eval_loss"] != both["eval_train_loss"]
    trainer.eval_dataset = {"voice": trainer.eval_dataset}
    assert trainer.evaluate() == {name.replace("eval_", "eval_voice_", 1): value for name, value in alone.items()}


def test_rows_that_do_not_fill_a_batch_are_refused_with_drop_last(tmp_path):
    with pytest.raises(
        InputError, match="dataloader_drop_last: the 8 rows do not fill a batch of 9 for each of 1 pro"
    ):
        run(tmp_path, per_device_train_batch_size=9, dataloader_drop_last=True)


class Terminate(TrainerCallback):
    """Send SIGTERM, as a cluster does to stop a job."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_run_stopped_by_sigterm_and_resumed_is_bit_equal_to_an_uninterrupted_one(tmp_path, method):
    fields = {"method": method, "optim": "adamw_torch", "lr_scheduler_type": "linear", "learning_rate": 1e-3}
    fields |= {"max_steps": 6, "per_device_train_batch_size": 2, "lora_dropout": 0.1 * (method == "lora")}
    uninterrupted = run(tmp_path / "uninterrupted", **fields)
    assert not uninterrupted.stopped_early

    interrupted = make_trainer(tmp_path / "interrupted", model_folder=tiny_folder() / "model", **fields)
    interrupted.add_callback(Terminate(step=2))
    interrupted.train()
    assert interrupted.stopped_early and interrupted.state.global_step == 3

    resumed = make_trainer(
        tmp_path / "interrupted", model_folder=tiny_folder() / "model", resume_from_checkpoint="true", **fields
    )
    checkpoint = checkpoint_to_resume(resumed.args)
    assert Path(checkpoint).name == "checkpoint-3"
    resumed.train(resume_from_checkpoint=checkpoint)
    assert not resumed.stopped_early
    expected, found = trained_weights(uninterrupted), trained_weights(resumed)
    assert all(torch.equal(weight, found[name]) for name, weight in expected.items())
    assert uninterrupted.state.log_history[-2]["loss"] == resumed.state.log_history[-2]["loss"]


def test_training_stops_after_evaluations_that_do_not_improve(tmp_path):
    fields = {"learning_rate": 0.0, "max_steps": 20, "early_stopping_patience": 2, "load_best_model_at_end": True}
    fields |= dict.fromkeys(("eval_strategy", "save_strategy"), "steps") | {"eval_steps": 1, "save_steps": 1}
    trainer = run(tmp_path, **fields)
    assert trainer.state.global_step == 3  # the first evaluation is the best one, two do not improve it
    assert not trainer.stopped_early  # the run is complete: only SIGTERM leaves one to resume


def test_code_dropout_is_for_training_only_and_equal_with_workers_and_after_a_resume(tmp_path):
    # Four steps per epoch; the run is interrupted in the second.
    fields = {"max_steps": 8, "per_device_train_batch_size": 2, "code_dropout": 0.5}

    def evaluated(trainer) -> dict[str, float]:
        return trainer.evaluate() | trainer.preflight()

    without, uninterrupted = (
        make_trainer(tmp_path / name, model_folder=tiny_folder() / "model", **fields | {"code_dropout": share})
        for name, share in (("without", 0.0), ("uninterrupted", 0.5))
    )
    assert evaluated(without) == evaluated(uninterrupted)
    uninterrupted.train()
    without.train()
    assert [entry["loss"] for entry in uninterrupted.state.log_history[1:-1]] != [
        entry["loss"] for entry in without.state.log_history[1:-1]
    ]

    interrupted = make_trainer(tmp_path / "interrupted", model_folder=tiny_folder() / "model", **fields)
    interrupted.add_callback(Terminate(step=5))
    interrupted.train()
    resumed = make_trainer(
        tmp_path / "interrupted", model_folder=tiny_folder() / "model", resume_from_checkpoint="true", **fields
    )
    resumed.train(resume_from_checkpoint=checkpoint_to_resume(resumed.args))
    workers = {"dataloader_num_workers": 1, "dataloader_persistent_workers": True}
    with_workers = run(tmp_path / "workers", **fields, **workers)
    # If left to garbage collection, torch waits 5 s for the worker.
    with_workers.callback_handler.train_dataloader._iterator._shutdown_workers()
    expected = trained_weights(uninterrupted)
    for trainer in (resumed, with_workers):
        assert all(torch.equal(weight, expected[name]) for name, weight in trained_weights(trainer).items())


@pytest.mark.slow
def test_packed_rows_have_every_row_once_per_epoch_and_resume_bit_equal(tmp_path):
    fields = {"pack_to": 400, "fill_rows": True, "per_device_train_batch_size": 1, "max_steps": 7, "code_dropout": 0.2}
    uninterrupted = make_trainer(tmp_path / "uninterrupted", model_folder=tiny_folder() / "model", **fields)
    uninterrupted.train()
    num_batches = len(uninterrupted.packed_sampler)
    assert 2 <= num_batches < 6  # some of the 8 rows share a batch; 7 steps are more than an epoch
    batches = list(uninterrupted.get_train_dataloader())
    assert {tuple(batch["input_ids"].shape) for batch in batches} == {(1, 400)}
    assert sorted(torch.cat([batch["row_index"] for batch in batches]).tolist()) == list(range(8))

    interrupted = make_trainer(tmp_path / "interrupted", model_folder=tiny_folder() / "model", **fields)
    interrupted.add_callback(Terminate(step=num_batches))
    interrupted.train()
    resumed = make_trainer(
        tmp_path / "interrupted", model_folder=tiny_folder() / "model", resume_from_checkpoint="true", **fields
    )
    resumed.train(resume_from_checkpoint=checkpoint_to_resume(resumed.args))
    expected = trained_weights(uninterrupted)
    assert all(torch.equal(weight, expected[name]) for name, weight in trained_weights(resumed).items())


def test_handler_of_sigterm_is_restored_after_training(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    run(tmp_path, per_device_train_batch_size=8, max_steps=1)
    assert signal.getsignal(signal.SIGTERM) is before


class SetNaN(TrainerCallback):
    """Set a weight of the audio head to NaN at the second step."""

    def on_step_begin(self, args, state, control, model=None, **kwargs) -> None:
        if state.global_step == 1:
            model.audio_lm_head.weight.data[0, 0] = math.nan


def test_nan_loss_stops_the_run_with_the_step_and_the_rows(tmp_path):
    trainer = make_trainer(tmp_path, model_folder=tiny_folder() / "model", per_device_train_batch_size=3)
    trainer.add_callback(SetNaN())
    with pytest.raises(
        FloatingPointError, match=r"step 2: the loss is not finite; rows of the batch: (row\d, ){2}row\d\."
    ):
        trainer.train()
    before = load_file(tiny_folder() / "model" / "model.safetensors")["model.norm.weight"]
    assert trainer.state.global_step == 1 and trainer.model.model.norm.weight.isfinite().all()
    assert not torch.equal(before, trainer.model.model.norm.weight)  # step 1 updated the weights


def test_preflight_refuses_an_untrained_model(tmp_path):
    with pytest.raises(InputError, match=r"loss by codebook is .* below chance, 6.93, .* allow_untrained: true"):
        run(tmp_path, allow_untrained=False)
    assert not list(tmp_path.glob("checkpoint-*"))


def test_preflight_refuses_a_model_with_nan_in_one_codebook(tmp_path):
    trainer = run(tmp_path, per_device_train_batch_size=8, max_steps=4, learning_rate=1.0)
    trainer.args.allow_untrained = False
    trainer.preflight()
    trainer.model.audio_lm_head.weight.data.view(8, 1026, -1)[1, 0] = math.nan
    with pytest.raises(InputError, match=r"loss by codebook is \d\.\d\d, nan, \d"):
        trainer.preflight()


def test_fully_fine_tuned_model_loads_like_its_base(tmp_path):
    trainer = run(tmp_path, per_device_train_batch_size=8, max_steps=1)
    trainer.save_model()
    model, tokenizer = load_model(ModelConfig(model_name_or_path=str(tmp_path), dtype="float32"))
    assert tokenizer.convert_tokens_to_ids("<|AUDIO_OUT|>") == model.config.audio_token_id
    for name, weight in trained_weights(trainer).items():
        assert torch.equal(weight, model.get_parameter(name)), name


def test_full_disk_while_saving_is_one_message_and_leaves_no_checkpoint(tmp_path, monkeypatch):
    def no_space(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("torch.save", no_space)  # the optimizer state, which is saved after the weights
    with pytest.raises(InputError, match="disk full at .*: .* MB free; make room"):
        run(tmp_path, per_device_train_batch_size=8, max_steps=1, save_strategy="steps", save_steps=1)
    assert not [path for path in tmp_path.rglob("*") if "checkpoint" in path.name]


def test_saved_run_has_its_record_and_no_pickle(tmp_path):
    trainer = run(tmp_path, per_device_train_batch_size=8, method="lora", eval_strategy="steps", eval_steps=1)
    trainer.save_model()
    assert not list(tmp_path.glob("*.bin"))
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["method"] == "lora" and record["steps"] == 2
    assert record["losses"]["loss_codebook_3"] == record["log_history"][-3]["loss_codebook_3"]
    assert record["losses"]["eval_loss"] == record["log_history"][-2]["eval_loss"]
    with pytest.raises(InputError, match="holds a finished run; choose another output_dir"):
        checkpoint_to_resume(trainer.args)
