"""The length of a run, logged before its first step, and the estimates of its time and memory."""

import json
import logging
from dataclasses import replace
from datetime import datetime, timezone
from types import SimpleNamespace

import pytest
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType

from higgs_recipes.configs.measured_speeds import FSDP, SETTINGS, Speed
from higgs_recipes.configs.sft import SFTConfig
from higgs_recipes.training.data import EncodedSamples, tokenize_rows
from higgs_recipes.training.run_estimate import (
    TIMED_STEPS,
    WARM_STEPS,
    RunLength,
    describe_forecast,
    describe_speed,
    epochs_to_train,
)
from tests.helpers.checkpoints import load_tiny, random_rows, tiny_folder
from tests.helpers.train_once import NUM_ROWS, make_trainer


HOURS = sum(10 + index for index in range(NUM_ROWS)) / 25 / 3600  # of `random_rows`


def config(**fields) -> SFTConfig:
    return SFTConfig(datasets=["none"], report_to="none", use_cpu=True, **fields)


@pytest.mark.parametrize("cut", [(2, 1), (2, 2), (1, 3)], ids=str)
def test_hours_seen_become_steps_for_any_batch_size(tmp_path, cut, caplog):
    batch_size, accumulation = cut
    caplog.set_level(logging.INFO, logger="higgs_recipes")
    trainer = make_trainer(
        tmp_path,
        model_folder=tiny_folder() / "model",
        max_steps=-1,
        hours_seen=1.5 * HOURS,
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=accumulation,
    )
    trainer.train()
    trainer.save_model()
    per_epoch = -(-NUM_ROWS // (batch_size * accumulation))
    steps = -(-3 * per_epoch // 2)
    assert trainer.state.global_step == steps
    length = json.loads((tmp_path / "run.json").read_text())["length"]
    positions = sum(trainer.train_dataset.num_positions())
    assert length["steps"] == steps and length["audio_hours"] == pytest.approx(steps / per_epoch * HOURS)
    assert length["positions"] == round(steps / per_epoch * positions)
    assert length["expected"] == {"seconds": None, "measured": None} and "forecast" not in length
    messages = [record.getMessage() for record in caplog.records if "this run: " in record.getMessage()]
    start = f"this run: {steps} steps, {length['positions']:,} positions, 0.00 h"
    assert len(messages) == 1 and messages[0].startswith(start)
    assert "Time and memory: not measured for these settings" in messages[0]


def test_epochs_are_those_of_the_recipe_or_those_of_its_hours(tmp_path):
    samples = make_trainer(tmp_path, model_folder=tiny_folder() / "model").train_dataset
    assert epochs_to_train(config(num_train_epochs=5), samples) == 5
    assert epochs_to_train(config(hours_seen=2 * HOURS), samples) == pytest.approx(2)


def test_encoded_samples_have_the_hours_of_their_rows(as_dataset):
    _, tokenizer = load_tiny()
    samples = EncodedSamples(tokenize_rows(as_dataset(random_rows(NUM_ROWS)), tokenizer), tokenizer)
    assert samples.audio_seconds() / 3600 == pytest.approx(HOURS)


def test_first_steps_of_a_run_estimate_its_end(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="higgs_recipes")
    trainer = make_trainer(
        tmp_path,
        model_folder=tiny_folder() / "model",
        max_steps=WARM_STEPS + TIMED_STEPS + 4,
        per_device_train_batch_size=4,
        eval_strategy="steps",
        eval_steps=15,
    )
    trainer.train()
    forecast = trainer.run_estimate.record["forecast"]
    assert forecast["step"] == WARM_STEPS + TIMED_STEPS
    assert forecast["seconds_left"] == pytest.approx(4 * forecast["seconds_per_step"])
    logged = [entry["positions_per_second"] for entry in trainer.state.log_history if "loss" in entry]
    timed = logged[WARM_STEPS : WARM_STEPS + TIMED_STEPS]  # the evaluation among them is not counted
    assert min(timed) < forecast["positions_per_second"] < max(timed)
    (message,) = [record.getMessage() for record in caplog.records if "this run ends at" in record.getMessage()]
    assert message == f"step {forecast['step']}: {describe_forecast(forecast)}"


@pytest.mark.parametrize(
    "kind, plugin, seconds",
    [
        ("MULTI_GPU", {}, 0.2),
        ("FSDP", {"fsdp_version": 2, "reshard_after_forward": True}, 0.4),
        ("FSDP", {"fsdp_version": 2, "reshard_after_forward": False}, None),
        ("FSDP", {"fsdp_version": 1, "reshard_after_forward": True}, None),
        ("DEEPSPEED", {}, None),
    ],
)
def test_speed_of_unsharded_weights_is_not_used_for_sharded_ones(kind, plugin, seconds, tmp_path, monkeypatch):
    trainer = make_trainer(tmp_path, model_folder=tiny_folder() / "model", max_steps=2)
    positions, rows = sum(trainer.train_dataset.num_positions()), trainer.get_train_dataloader()
    settings = {name: getattr(trainer.args, name) for name in SETTINGS}
    speed = positions / len(rows) * 10
    measured = Speed(settings, speed, peak_gib=1.0, hardware="1 x Big", made_by="a program")
    sharded = replace(measured, positions_per_second=speed / 2, sharded_by=FSDP)
    monkeypatch.setattr("higgs_recipes.configs.measured_speeds.SPEEDS", (sharded, measured))
    # The state of a process of another launch.
    monkeypatch.setitem(vars(PartialState()), "distributed_type", DistributedType(kind))
    monkeypatch.setitem(vars(AcceleratorState()), "fsdp_plugin", SimpleNamespace(**plugin))
    trainer.run_estimate.is_published_size, trainer.state.max_steps = True, 2
    trainer.run_estimate.on_train_begin(trainer.args, trainer.state, None, train_dataloader=rows)
    assert trainer.run_estimate.record["expected"]["seconds"] == (seconds and pytest.approx(seconds))


def length(**changed) -> RunLength:
    defaults = {"steps": 300, "steps_done": 0, "steps_per_epoch": 100, "positions_per_epoch": 800_000}
    return RunLength(**defaults | {"hours_per_epoch": 7.0, "speed": None} | changed)


def test_description_has_time_and_memory_and_their_source():
    measured = Speed({}, positions_per_second=8000.0, peak_gib=12.6, hardware="1 x Big", made_by="a program")
    text = length(speed=measured).describe(hardware="1 x Big")
    assert text == (
        "300 steps, 2,400,000 positions, 21.00 h of audio: 3.00 epochs of 7.00 h. Time 5 min 0 s at 8,000 "
        "positions/s, memory 12.6 GiB: measured on 1 x Big (a program)"
    )
    other = length(speed=measured, steps_done=150).describe(hardware="1 x Small")
    assert "300 steps (150 left)" in other and "Time 2 min 30 s" in other
    assert other.endswith("measured on 1 x Big (a program); not measured on this hardware, 1 x Small")
    sharded = length(speed=replace(measured, sharded_by=FSDP)).describe(hardware="1 x Big")
    assert sharded.endswith("measured on 1 x Big by FSDP2 (a program)")


def test_a_recipe_head_has_the_speed_on_one_line_and_its_source_on_the_next():
    measured = Speed({}, positions_per_second=42_026.0, peak_gib=26.9, hardware="1 x Big", made_by="a program")
    assert describe_speed(measured).splitlines() == [
        "42,026 positions/s, 26.9 GiB, 3 s per hour of audio on 1 x Big",
        "Measured by a program",
    ]
    assert "on 1 x Big by FSDP2\n" in describe_speed(replace(measured, sharded_by=FSDP))
    assert describe_speed(None) == "Speed and memory: not measured with these settings"


def test_forecast_is_of_the_remaining_steps():
    now = datetime(2026, 1, 1, 23, 59, tzinfo=timezone.utc)
    forecast = length().forecast(0.5, step=30, now=now, peak_gib=10.25)
    assert forecast["positions_per_second"] == 16_000 and forecast["seconds_left"] == 135
    assert describe_forecast(forecast).startswith(
        "at 16,000 positions/s, 0.5 s per step, this run ends at 2026-01-02 00:01+00:00, in 2 min 15 s, plus "
    )
