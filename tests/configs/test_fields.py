from dataclasses import dataclass, fields, is_dataclass

import pytest

from higgs_recipes.configs import benchmark, codec, corpus, finetuning, inference, listening, model, segment, sft
from higgs_recipes.configs.fields import option, require, require_package, require_seed
from higgs_recipes.errors import InputError
from tests.helpers.configs import REQUIRED, make


MAX_HELP = 2 * 119  # characters
OWN_CONFIGS = [
    config_class
    for module in (model, sft, inference, listening, finetuning, corpus, segment, codec, benchmark)
    for config_class in vars(module).values()
    if is_dataclass(config_class) and config_class.__module__ == module.__name__
]


@pytest.mark.parametrize("config_class", REQUIRED)
def test_the_required_fields_make_a_config(config_class):
    assert isinstance(make(config_class), config_class)


@pytest.mark.parametrize("config_class", OWN_CONFIGS)
def test_every_option_has_a_help_text_of_one_sentence(config_class):
    for field in fields(config_class):
        if field.name in config_class.__annotations__:
            text = field.metadata["help"]
            assert text[0].isupper() and text.endswith(".") and len(text) <= MAX_HELP, field.name
            assert ". " not in text.replace("... ", ""), f"{field.name} has more than one sentence"


def test_every_config_that_a_script_parses_is_checked():
    abstract = {config_class for config_class in OWN_CONFIGS if config_class not in REQUIRED}
    assert {config_class.__name__ for config_class in abstract} == {
        *("AdapterConfig", "BenchmarkConfig", "ModelBenchmarkConfig")
    }


def test_lists_and_dicts_are_not_shared_between_configs():
    @dataclass
    class Config:
        names: list[str] = option(["a"], "Names.")
        weights: dict[str, int] = option({"a": 1}, "Weights.")

    changed = Config()
    changed.names.append("b")
    changed.weights["b"] = 2
    assert Config() == Config(names=["a"], weights={"a": 1}) != changed


def test_requirements_raise_input_errors():
    require(True, "not raised")
    with pytest.raises(InputError, match="^a message$"):
        require(False, "a message")
    require_package("torch", "an option")
    with pytest.raises(
        InputError, match="optim: x needs a package that is not installed: pip install no_such_package"
    ):
        require_package("no_such_package", "optim: x")


@pytest.mark.parametrize("seed", [0, 2**63 - 1])
def test_seeds_of_63_bits_are_accepted(seed):
    require_seed(seed)


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_other_seeds_are_refused(seed):
    with pytest.raises(InputError, match=rf"seed must be an integer in 0 .. 2\*\*63 - 1, got {seed}"):
        require_seed(seed)
