"""run.json states the step and the losses of the weights that are saved, which are not always the last ones."""

import json

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers.checkpoints import tiny_folder
from tests.helpers.killed_run import names_in
from tests.helpers.train_once import make_trainer


EVALUATED = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}


def train(folder, values, **fields):
    """Train one step per value: the metrics of its evaluation. Returns run.json."""
    defaults = {"method": "lora", "load_best_model_at_end": True, "max_steps": len(values)} | EVALUATED
    trainer = make_trainer(folder, model_folder=tiny_folder() / "model", **defaults | fields)
    measured, values = trainer.evaluate, iter(values)

    def evaluate(ignore_keys=None):
        metrics = measured() | next(values)
        trainer.state.log_history[-1] |= metrics
        return metrics

    trainer.evaluate = evaluate
    trainer.train()
    trainer.save_model()
    return json.loads((folder / "run.json").read_text())


@pytest.mark.parametrize(
    "metric, values", [("loss_codebook_0", [3.0, 1.0, 2.0]), ("eval_accuracy_codebook_0", [0.1, 0.3, 0.2])]
)
def test_the_best_checkpoint_is_saved_and_recorded(tmp_path, metric, values):
    name = f"eval_{metric.removeprefix('eval_')}"
    record = train(tmp_path, [{name: value} for value in values], metric_for_best_model=metric)
    assert record["steps"] == 2
    assert record["best"] == {"metric": name, "value": values[1], "last_step": 3}
    assert (record["losses"]["step"], record["losses"][name]) == (2, values[1])
    assert record["losses"]["loss"] == next(entry["loss"] for entry in record["log_history"] if entry["step"] == 2)
    assert max(entry["step"] for entry in record["log_history"]) == 3  # the log is of the whole run
    best, saved = (load_file(folder / "adapter_model.safetensors") for folder in (tmp_path / "checkpoint-2", tmp_path))
    assert all(torch.equal(weight, saved[name]) for name, weight in best.items())
    checkpoint = json.loads((tmp_path / "checkpoint-3/run.json").read_text())
    assert (checkpoint["steps"], checkpoint["losses"]["step"]) == (3, 3) and "best" not in checkpoint


def test_only_evaluations_of_saved_weights_count(tmp_path):
    losses = [{"eval_loss": value} for value in (5.0, 4.0, 1.0, 3.0)]
    record = train(tmp_path, losses, save_steps=2)  # transformers would keep step 2, as step 3 is not saved
    assert (record["steps"], record["best"]["value"], record["best"]["last_step"]) == (4, 3.0, 4)


def test_after_the_result_the_best_checkpoint_is_left_of_one(tmp_path):
    losses = [{"eval_loss": value} for value in (2.0, 1.0, 3.0)]
    assert train(tmp_path, losses, save_total_limit=1)["steps"] == 2
    assert {name for name in names_in(tmp_path) if name.startswith("checkpoint")} == {"checkpoint-2"}


def test_without_a_best_checkpoint_the_last_step_is_recorded(tmp_path):
    record = train(tmp_path, [{"eval_loss": value} for value in (1.0, 2.0)], load_best_model_at_end=False)
    assert record["steps"] == 2 and "best" not in record and record["losses"]["eval_loss"] == 2.0
