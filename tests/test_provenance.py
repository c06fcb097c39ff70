"""Provenance: the commit of the checkout, and the recipe as it was given."""

import subprocess
from dataclasses import fields

from transformers import TrainingArguments

from higgs_recipes.configs.parser import given_fields, parse_recipe
from higgs_recipes.configs.sft import SFTConfig
from higgs_recipes.provenance import LIBRARIES, git_commit, library_versions, resolved_recipe, run_environment
from tests.helpers.paths import ROOT


RECIPE = """
datasets: [outputs/corpus]
output_dir: outputs/voice
eval_strategy: steps
eval_steps: 10
bf16: false
use_cpu: true
"""


def test_recorded_recipe_has_the_given_fields_and_all_fields_of_this_project(tmp_path):
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    flags = ["--config", str(tmp_path / "recipe.yaml"), "--gradient_checkpointing", "--lora_r=8", "--seed", "7"]
    recorded = resolved_recipe(parse_recipe(SFTConfig, flags), given=given_fields(SFTConfig, flags))
    inherited = {field.name for field in fields(TrainingArguments)}
    own = {field.name for field in fields(SFTConfig)} - inherited
    assert {name: value for name, value in recorded.items() if name in inherited} == {
        "output_dir": "outputs/voice",
        "eval_strategy": "steps",
        "eval_steps": 10,
        "bf16": False,
        "use_cpu": True,
        "gradient_checkpointing": True,
        "seed": 7,
    }
    assert own <= set(recorded) and recorded["lora_r"] == 8 and recorded["method"] == "lora"


def test_without_a_recipe_only_the_flags_are_given():
    assert given_fields(SFTConfig, ["--datasets", "a", "b", "--bf16", "false"]) == {"datasets", "bf16"}


def test_git_commit_names_the_checkout():
    head = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True)
    if head.returncode:
        assert git_commit() is None
    else:
        assert git_commit().removesuffix("-dirty") == head.stdout.strip()


def test_git_commit_is_none_without_git(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert git_commit() is None


def test_environment_has_commit_versions_and_hardware(monkeypatch):
    monkeypatch.setattr("higgs_recipes.provenance.LIBRARIES", (*LIBRARIES, "no-such-library"))
    assert library_versions()["no-such-library"] is None
    environment = run_environment()
    assert set(environment) == {"git_commit", "versions", "hardware"}
    assert environment["versions"]["torch"] and environment["hardware"]
