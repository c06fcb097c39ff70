import pytest
import yaml

from higgs_recipes.configs.listening import ListenConfig, read_listen
from higgs_recipes.configs.parser import parse_recipe
from higgs_recipes.configs.sft import SFTConfig
from higgs_recipes.configs.training_arguments import LISTEN_HIGHER_IS_BETTER
from higgs_recipes.errors import InputError
from tests.helpers.configs import make


EVALUATED = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}


@pytest.mark.parametrize(
    "values, message",
    [
        ({"samples": 0}, "^listen: samples must be positive, got 0"),
        ({"samples": "eight"}, "^listen: 'samples' is 'eight'; it must be int"),
        ({"smaples": 8}, "^listen: 'smaples' is not a field of ListenConfig"),
        ({"seed": -1}, "^listen: seed must be an integer in 0"),
        ({"temperature": -1.0}, "^listen: temperature must be 0"),
        ({"normalizer": "english"}, "^listen: 'normalizer' is 'english'; it must be one of 'auto'"),
        (["samples"], "^listen must be a mapping of fields, got"),
    ],
)
def test_invalid_values_are_refused_by_the_name_of_the_field(values, message):
    with pytest.raises(InputError, match=message):
        make(SFTConfig, listen=values, **EVALUATED)


def test_packages_of_metric_models_are_required_as_the_recipe_is_read(monkeypatch):
    missing = {"funasr"}
    monkeypatch.setattr("higgs_recipes.configs.fields.find_spec", lambda name: None if name in missing else name)
    with pytest.raises(InputError, match="listen: asr: funasr:paraformer-zh needs a package .* pip install funasr"):
        read_listen({"asr": "funasr:paraformer-zh"})
    missing.add("jiwer")
    with pytest.raises(InputError, match="^listen needs a package that is not installed: pip install jiwer"):
        read_listen({})


def test_a_recipe_and_a_flag_set_it_and_the_record_has_the_defaults(tmp_path):
    path = tmp_path / "recipe.yaml"
    fields = {"datasets": ["codes"], "use_cpu": True, "report_to": "none", "listen": {"samples": 4}} | EVALUATED
    path.write_text(yaml.safe_dump(fields))
    config = parse_recipe(SFTConfig, ["--config", str(path)])
    assert config.listening == ListenConfig(samples=4)
    assert config.listen["asr"] == "openai/whisper-large-v3" and config.to_dict()["listen"]["samples"] == 4
    assert parse_recipe(SFTConfig, ["--config", str(path), "--listen", "{seed: 3}"]).listening == ListenConfig(seed=3)
    assert parse_recipe(SFTConfig, ["--config", str(path), "--listen", "null"]).listening is None
    assert make(SFTConfig).listening is None and make(SFTConfig, listen={}, **EVALUATED).listening == ListenConfig()


def test_it_needs_an_evaluation():
    for fields in ({}, {"eval_strategy": "no"}, EVALUATED | {"test_split": None}):
        with pytest.raises(InputError, match="listen needs an evaluation: set eval_strategy and test_split"):
            make(SFTConfig, listen={}, **fields)


def test_what_cannot_speak_in_training_is_refused(monkeypatch):
    with pytest.raises(InputError, match="listen does not support fp8, .*: remove one"):
        make(SFTConfig, listen={}, fp8=True, bf16=True, **EVALUATED)
    with monkeypatch.context() as patch:
        patch.setattr("higgs_recipes.configs.training_arguments.is_deepspeed_zero3_enabled", lambda: True)
        with pytest.raises(InputError, match="listen does not support ZeRO-3, .* accelerate_configs/zero2.yaml"):
            make(SFTConfig, listen={}, **EVALUATED)
    with monkeypatch.context() as patch:
        patch.setattr(
            "higgs_recipes.configs.training_arguments.parse_flag_from_env", lambda name: name == "ACCELERATE_USE_FSDP"
        )
        with pytest.raises(InputError, match="listen does not support FSDP, .* accelerate_configs/ddp.yaml"):
            make(SFTConfig, listen={}, **EVALUATED)


@pytest.mark.parametrize("metric", LISTEN_HIGHER_IS_BETTER)
def test_its_scores_choose_the_best_checkpoint_only_where_it_is_on(metric):
    fields = {"metric_for_best_model": f"eval_{metric}", "load_best_model_at_end": True} | EVALUATED
    assert make(SFTConfig, listen={}, **fields).greater_is_better is (metric in ("similarity", "stop_rate"))
    with pytest.raises(InputError, match=f"eval_{metric} is a score of generated speech, which only listen measures"):
        make(SFTConfig, **fields)


def test_no_speaking_rate_is_the_best():
    with pytest.raises(InputError, match="eval_chars_per_second is unknown; use one of loss, .*, wer, cer, simil"):
        make(SFTConfig, listen={}, metric_for_best_model="eval_chars_per_second", **EVALUATED)
