from dataclasses import fields

from transformers import TrainingArguments

from higgs_recipes.configs.parser import given_fields, parse_recipe
from higgs_recipes.configs.sft import SFTConfig
from higgs_recipes.provenance import resolved_recipe


RECIPE = """
datasets: [outputs/corpus]
output_dir: outputs/voice
eval_strategy: steps
eval_steps: 10
bf16: false
use_cpu: true
"""


def test_a_recorded_recipe_holds_what_was_said_and_all_fields_of_ours(tmp_path):
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    flags = ["--config", str(tmp_path / "recipe.yaml"), "--gradient_checkpointing", "--lora_r=8", "--seed", "7"]
    recorded = resolved_recipe(parse_recipe(SFTConfig, flags), given=given_fields(SFTConfig, flags))
    inherited = {field.name for field in fields(TrainingArguments)}
    ours = {field.name for field in fields(SFTConfig)} - inherited
    assert {name: value for name, value in recorded.items() if name in inherited} == {
        "output_dir": "outputs/voice",
        "eval_strategy": "steps",
        "eval_steps": 10,
        "bf16": False,
        "use_cpu": True,
        "gradient_checkpointing": True,
        "seed": 7,
    }
    assert ours <= set(recorded) and recorded["lora_r"] == 8 and recorded["method"] == "lora"


def test_without_a_recipe_only_flags_are_given():
    assert given_fields(SFTConfig, ["--datasets", "a", "b", "--bf16", "false"]) == {"datasets", "bf16"}
