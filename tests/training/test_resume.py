"""A run resumes only from a checkpoint of the same run, and then ends like an uninterrupted one."""

import json
import shutil
from pathlib import Path

import pytest

from higgs_recipes.errors import InputError
from higgs_recipes.training.resume import check_resume
from tests.helpers.fine_tuned import codes_folder, fine_tuned, recipe
from tests.helpers.killed_run import names_in
from tests.training.test_checkpoints import assert_same_adapter


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A complete run of four steps, with all its checkpoints."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    fine_tuned(folder)
    return folder


@pytest.fixture
def killed(finished, tmp_path):
    """Copies the run as it was when it was killed after a step."""

    def copy(step: int) -> Path:
        folder = tmp_path / f"killed after {step}"
        for number in range(1, step + 1):
            shutil.copytree(finished / f"checkpoint-{number}", folder / f"checkpoint-{number}")
        shutil.copy(finished / "state.json", folder)
        return folder

    return copy


def record(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text())


@pytest.mark.parametrize("step", [2, pytest.param(1, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_a_resumed_run_ends_bit_equal(finished, killed, step):
    folder = killed(step)
    fine_tuned(folder, resume_from_checkpoint="true")
    assert_same_adapter(finished, folder)
    assert record(folder)["steps"] == 4
    assert record(folder)["resumed"] == [{"step": step, "changed": {}}]
    assert "settings" in record(folder / "checkpoint-4") and "settings" not in record(folder)


@pytest.mark.parametrize("max_steps", [pytest.param(4, marks=pytest.mark.slow), 3])
def test_from_a_checkpoint_with_all_steps_nothing_is_trained(finished, killed, max_steps):
    folder = killed(4)
    trainer = fine_tuned(folder, resume_from_checkpoint="true", max_steps=max_steps)
    assert trainer.state.global_step == 4
    assert_same_adapter(finished, folder)
    assert record(folder)["steps"] == 4 and "checkpoint-5" not in names_in(folder)


def test_a_run_that_was_killed_before_its_result_is_finished_by_the_same_command(finished, killed):
    folder = killed(4)
    fine_tuned(folder)
    assert_same_adapter(finished, folder)
    (folder / "run.json").unlink()
    with pytest.raises(InputError, match="checkpoint-4 belongs to an unfinished run: pass --resume_from_checkpoint"):
        fine_tuned(folder, seed=1)
    with pytest.raises(InputError, match="checkpoint-3 belongs to an unfinished run: pass --resume_from_checkpoint"):
        fine_tuned(killed(3))


CHANGED = {
    "learning_rate": 2e-2,
    "seed": 1,
    "lora_r": 8,
    "lora_alpha": 16,
    "lora_targets": ["audio_mlp"],
    "method": "full",
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "lr_scheduler_type": "linear",
    "optim": "sgd",
    "pack_to": 2000,
    "bf16": True,
    "train_sampling_strategy": "sequential",
    "early_stopping_patience": 2,
}


@pytest.mark.parametrize("name", CHANGED)
def test_another_setting_is_refused_by_name(finished, tmp_path, name):
    before = record(finished / "checkpoint-2")["settings"]
    with pytest.raises(InputError) as error:
        check_resume(str(finished / "checkpoint-2"), before | {name: CHANGED[name]})
    found, expected = json.dumps(before[name]), json.dumps(CHANGED[name])
    assert f"checkpoint-2 cannot be resumed with this recipe: {name} is {found} in the checkpoint, {expected} in" in (
        str(error.value)
    )
    assert str(error.value).endswith(f"can train it further with adapter: {finished / 'checkpoint-2'}")


@pytest.mark.parametrize("name", ["datasets", "base_fingerprint", "adapter", "num_processes", "sharding"])
def test_other_data_or_another_base_is_refused(finished, name):
    settings = record(finished / "checkpoint-2")["settings"]
    with pytest.raises(
        InputError, match=f"cannot be resumed with this recipe: {name} is .* in the checkpoint, .other"
    ):
        check_resume(str(finished / "checkpoint-2"), settings | {name: "other"})


def test_a_refused_run_says_all_that_differs_before_the_model_is_loaded(killed, monkeypatch):
    folder = killed(2)
    monkeypatch.setattr("higgs_recipes.training.fine_tune.build_model", lambda *args, **kwargs: pytest.fail("loaded"))
    other = {"lora_r": 4, "learning_rate": 1.0, "datasets": [str(codes_folder(num_rows=9))]}
    message = r"/checkpoint-2 cannot be resumed .*: lora_r is 16 .*; learning_rate is 0.01 .*; datasets is \["
    with pytest.raises(InputError, match=message):
        fine_tuned(folder, resume_from_checkpoint="true", **other)
    assert names_in(folder) == {"checkpoint-1", "checkpoint-2", "state.json"}


def test_what_may_differ_is_logged_and_recorded(finished, killed, caplog):
    folder = killed(2)
    fields = {"logging_steps": 2, "save_steps": 3, "eval_strategy": "steps", "eval_steps": 2, "max_steps": 5}
    fine_tuned(folder, resume_from_checkpoint="true", **fields)
    changed = record(folder)["resumed"][0]["changed"]
    assert changed["logging_steps"] == [1, 2] and changed["save_steps"] == [1, 3]
    assert changed["length"] == [{"max_steps": 4}, {"max_steps": 5}]
    assert set(changed) == {"logging_steps", "save_steps", "eval_strategy", "eval_steps", "length"}
    assert "checkpoint-2 with other settings: logging_steps is 1 in the checkpoint, 2 in this run; eval" in caplog.text
    assert record(folder)["recipe"]["logging_steps"] == 2 and record(folder)["steps"] == 5


def test_a_longer_run_is_refused_where_the_rate_depends_on_the_length(finished, tmp_path):
    checkpoint = shutil.copytree(finished / "checkpoint-2", tmp_path / "checkpoint-2")
    settings = record(checkpoint)["settings"]
    longer = {"length": {"max_steps": 9}}
    (resumed,) = check_resume(str(checkpoint), settings | longer)
    assert resumed == {"step": 2, "changed": {"length": [{"max_steps": 4}, {"max_steps": 9}]}}
    for schedule in ({"lr_scheduler_type": "cosine"}, {"lr_scheduler_type": "inverse_sqrt", "warmup_steps": 0.1}):
        (checkpoint / "run.json").write_text(json.dumps({"settings": settings | schedule}))
        with pytest.raises(InputError, match=r": length is .*4.* in the checkpoint, .*9.* rate depends on it"):
            check_resume(str(checkpoint), settings | schedule | longer)


def test_fields_of_another_version_of_transformers_are_compared_with_their_defaults(finished, tmp_path):
    checkpoint = shutil.copytree(finished / "checkpoint-2", tmp_path / "checkpoint-2")
    settings = record(checkpoint)["settings"]
    older = {name: value for name, value in settings.items() if name != "weight_decay"} | {"removed_field": 1}
    (checkpoint / "run.json").write_text(json.dumps({"settings": older}))
    assert check_resume(str(checkpoint), settings) == [{"step": 2, "changed": {}}]
    with pytest.raises(InputError, match=r"weight_decay is 0.0 in the checkpoint, 0.1 in this run"):
        check_resume(str(checkpoint), settings | {"weight_decay": 0.1})
    version = "version of torch"
    (resumed,) = check_resume(str(checkpoint), settings | {version: "9.9", "git_commit": "c", "hardware": "h"})
    assert set(resumed["changed"]) == {version, "git_commit", "hardware"}


ONLY_WEIGHTS = "checkpoint-2 has only the weights, as of save_only_model: it cannot be resumed; start a new run, which"


def test_a_checkpoint_of_weights_only_and_one_without_settings_are_refused(finished, tmp_path):
    checkpoint = shutil.copytree(finished / "checkpoint-2", tmp_path / "checkpoint-2")
    settings = record(checkpoint)["settings"]
    (checkpoint / "run.json").write_text("{}")
    with pytest.raises(InputError, match="run.json has no settings to compare, as of an older version; start a new"):
        check_resume(str(checkpoint), settings)
    (checkpoint / "rng_state.pth").unlink()
    with pytest.raises(InputError, match=ONLY_WEIGHTS):
        check_resume(str(checkpoint), settings)


@pytest.mark.slow
def test_a_run_that_saved_only_weights_is_refused(tmp_path):
    fine_tuned(tmp_path, save_only_model=True, max_steps=2)
    (tmp_path / "run.json").unlink()
    with pytest.raises(InputError, match=ONLY_WEIGHTS):
        fine_tuned(tmp_path, resume_from_checkpoint="true", max_steps=3)


@pytest.mark.slow
def test_early_stopping_counts_on_in_a_resumed_run_of_another_folder(tmp_path):
    fields = {"early_stopping_patience": 2, "load_best_model_at_end": True, "learning_rate": 0.0, "max_steps": 9}
    fields |= {"eval_strategy": "steps", "eval_steps": 1}
    stopped = fine_tuned(tmp_path / "stopped", **fields)
    assert stopped.state.global_step == 3  # the first evaluation is the best one
    moved = tmp_path / "moved"
    for step in (1, 2):
        shutil.copytree(tmp_path / f"stopped/checkpoint-{step}", moved / f"checkpoint-{step}")
    shutil.rmtree(tmp_path / "stopped/checkpoint-1")
    resumed = fine_tuned(moved, resume_from_checkpoint="true", **fields)
    assert resumed.state.global_step == 3
    assert record(moved)["steps"] == 1 and record(moved)["best"] == record(tmp_path / "stopped")["best"]
    (moved / "run.json").unlink()
    assert fine_tuned(moved, **fields).state.global_step == 3  # the result alone was missing


def test_settings_are_those_of_the_whole_recipe(finished):
    settings = record(finished / "checkpoint-2")["settings"]
    assert settings["weight_decay"] == recipe(finished).weight_decay and settings["length"] == {"max_steps": 4}
    assert str(finished) not in json.dumps(settings)
