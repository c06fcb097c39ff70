"""Recipes and flags: valid ones become a config, invalid ones an error with file, field and allowed values."""

from dataclasses import fields

import pytest
import yaml

from higgs_recipes.configs.corpus import EncodeConfig
from higgs_recipes.configs.inference import EvaluateConfig, GenerateConfig, InitConfig, MergeConfig
from higgs_recipes.configs.parser import given_fields, parse_recipe, read_recipe
from higgs_recipes.configs.sft import SFTConfig
from higgs_recipes.errors import InputError


ENCODE = {"sources": ["corpus"]}
SFT = {"datasets": ["codes"], "use_cpu": True, "report_to": "none"}


@pytest.fixture
def recipe(tmp_path):
    def write(content) -> str:
        path = tmp_path / "recipe.yaml"
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return str(path)

    return write


def refused(config_class, *args) -> str:
    with pytest.raises(InputError) as error:
        parse_recipe(config_class, args)
    return str(error.value)


def test_a_recipe_gives_the_config(recipe):
    content = """
sources:
  - corpus
  - {path: other, split: train, weight: 2}
columns: {text: sentence}
split_by: speaker
min_seconds: 1
max_seconds: 2e1
push_to_hub: true
cache_dir: null
"""
    config = parse_recipe(EncodeConfig, ["--config", recipe(content)])
    assert config.sources == ["corpus", {"path": "other", "split": "train", "weight": 2}]
    assert config.columns == {"text": "sentence"} and config.split_by == "speaker"
    assert (config.min_seconds, config.max_seconds) == (1, 20.0)
    assert config.push_to_hub is True and config.cache_dir is None
    assert config == EncodeConfig(
        sources=["corpus", {"path": "other", "split": "train", "weight": 2}],
        columns={"text": "sentence"},
        split_by="speaker",
        min_seconds=1,
        max_seconds=20.0,
        push_to_hub=True,
    )


@pytest.mark.parametrize("written", ["1e-4", "1E-4", "1.0e-4", "0.0001", "+1e-04"])
def test_every_spelling_of_a_small_number_is_read(written, recipe):
    config = parse_recipe(SFTConfig, ["--config", recipe(yaml.safe_dump(SFT) + f"learning_rate: {written}")])
    assert config.learning_rate == 1e-4


def test_small_numbers_in_lists_are_read(recipe):
    content = yaml.safe_dump(SFT) + "codebook_weights: [1e-1, 1, 1, 1, 1, 1, 1, 0]"
    assert parse_recipe(SFTConfig, ["--config", recipe(content)]).codebook_weights == [0.1, 1, 1, 1, 1, 1, 1, 0]


@pytest.mark.parametrize(
    "flags, field, value",
    [
        (["--lora_r", "4"], "lora_r", 4),
        (["--lora-r=4"], "lora_r", 4),
        (["--learning_rate", "3e-5"], "learning_rate", 3e-5),
        (["--method", "full", "--dtype", "float32"], "method", "full"),
        (["--output_dir", "elsewhere"], "output_dir", "elsewhere"),
        (["--lr_scheduler_type", "cosine"], "lr_scheduler_type", "cosine"),
        (["--datasets", "a", "b"], "datasets", ["a", "b"]),
        (["--codebook_weights", *"11111111"], "codebook_weights", [1.0] * 8),
        (["--codebook_weights", "null"], "codebook_weights", None),
        (["--test_split", "null"], "test_split", None),
        (["--pack_to", "null"], "pack_to", None),
        (["--pack_to", "512"], "pack_to", 512),
        (["--allow_untrained"], "allow_untrained", True),
        (["--allow_untrained", "false"], "allow_untrained", False),
        (["--no_hub_private_repo"], "hub_private_repo", False),
        (["--hub_private_repo", "null"], "hub_private_repo", None),
        (["--lr_scheduler_kwargs", '{"num_cycles": 2}'], "lr_scheduler_kwargs", {"num_cycles": 2}),
        (["--lr_scheduler_kwargs", "null"], "lr_scheduler_kwargs", None),
    ],
)
def test_flags_override_every_kind_of_field(flags, field, value, recipe):
    written = {
        "lora_r": 8,
        "learning_rate": 1e-4,
        "method": "lora",
        "output_dir": "here",
        "codebook_weights": [2.0] * 8,
        "test_split": "dev",
        "pack_to": 1024,
        "allow_untrained": False,
        "hub_private_repo": True,
        "lr_scheduler_type": "cosine_with_restarts",
        "lr_scheduler_kwargs": {"num_cycles": 3},
    }
    config = parse_recipe(SFTConfig, ["--config", recipe(SFT | written), *flags])
    assert getattr(config, field) == value
    unchanged = [name for name in written if name != field]
    assert {name: getattr(config, name) for name in unchanged} == {name: written[name] for name in unchanged}


def test_flags_override_mappings_and_lists_of_them(recipe):
    path = recipe(ENCODE | {"columns": {"text": "sentence"}})
    assert parse_recipe(EncodeConfig, ["--config", path, "--columns", "{text: words}"]).columns == {"text": "words"}
    assert parse_recipe(EncodeConfig, ["--config", path, "--columns", "null"]).columns is None
    mixture = parse_recipe(EncodeConfig, ["--config", path, "--sources", "a", "{path: b, weight: 0.5}"]).sources
    assert mixture == ["a", {"path": "b", "weight": 0.5}]


def test_a_text_in_braces_and_the_word_null_remain_strings():
    config = parse_recipe(GenerateConfig, ["--text", "{not a mapping", "null", "--scene", "null"])
    assert config.text == ["{not a mapping", "null"] and config.scene is None


def test_the_word_null_alone_unsets_a_list_of_texts(recipe):
    flags = ["--config", recipe({"text": ["Hello."]}), "--text", "null"]
    with pytest.raises(InputError, match="nothing to speak: .*to speak that word, write it with a period"):
        parse_recipe(GenerateConfig, flags)
    assert parse_recipe(GenerateConfig, [*flags, "--text_file", "texts.txt"]).text == []
    assert parse_recipe(GenerateConfig, ["--text", "null."]).text == ["null."]
    assert parse_recipe(GenerateConfig, ["--config", recipe("text: null\ntext_file: texts.txt")]).text == []
    assert parse_recipe(GenerateConfig, ["--config", recipe('text: "null"')]).text == ["null"]


def test_a_single_string_is_a_list_of_one(recipe):
    config = parse_recipe(GenerateConfig, ["--config", recipe("text: Hello\nref_audio: anna\nvoices_dir: voices")])
    assert (config.text, config.ref_audio, config.ref_text) == (["Hello"], ["anna"], None)
    assert GenerateConfig(text="Hello").text == ["Hello"]


def test_a_config_needs_no_recipe():
    assert parse_recipe(EncodeConfig, ["--sources", "corpus", "--seed", "3"]).seed == 3


def test_the_arguments_of_the_process_are_the_default(monkeypatch, recipe):
    monkeypatch.setattr("sys.argv", ["scripts/encode.py", "--config", recipe(ENCODE), "--seed", "5"])
    assert parse_recipe(EncodeConfig).seed == 5


@pytest.mark.parametrize(
    "content, message",
    [
        ("lora_dropuot: 0", "unknown field 'lora_dropuot'; did you mean 'lora_dropout'?"),
        ("zzzzzz: 4", "unknown field 'zzzzzz'; allowed: "),
        ("lora_r: four", "field 'lora_r' is 'four'; it must be int"),
        ("lora_r: 4.0", "field 'lora_r' is 4.0; it must be int"),
        ("lora_r: true", "field 'lora_r' is True; it must be int"),
        ("lora_r: null", "field 'lora_r' is None; it must be int"),
        ("learning_rate: '1e-4'", "field 'learning_rate' is '1e-4'; it must be float"),
        ("pack_to: [1]", "field 'pack_to' is [1]; it must be int or null"),
        ("allow_untrained: 1", "field 'allow_untrained' is 1; it must be bool"),
        ("model_name_or_path: on", "field 'model_name_or_path' is True; it must be str"),
        ("method: qlora", "field 'method' is 'qlora'; it must be one of 'lora', 'full'"),
        ("dtype: float16", "field 'dtype' is 'float16'; it must be one of 'float32', 'bfloat16'"),
        ("eval_strategy: sometimes", "field 'eval_strategy' is 'sometimes'; it must be one of 'no', 'steps', 'epoch'"),
        ("datasets: codes", "field 'datasets' is 'codes'; it must be list of str"),
        ("datasets: [{a: b}]", "field 'datasets' is [{'a': 'b'}]; it must be list of str"),
        ("codebook_weights: [a]", "field 'codebook_weights' is ['a']; it must be list of float or null"),
        ("lora_r: 4\nseed: 1\nlora_r: 8", "line 3: duplicate field 'lora_r'; keep one"),
        ("lr_scheduler_kwargs:\n  a: 1\n  a: 2", "line 3: duplicate field 'a'; keep one"),
        ("- lora_r", "a recipe must be a mapping of fields, got list"),
        ("", "a recipe must be a mapping of fields, got NoneType"),
        ("lora_r: [", "while parsing a flow node"),
        ("[a]: b", "found unhashable key"),
        ("lora_r: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("seed: 1\nlora_r: !!int four", "line 2: 'four' is not a valid int"),
        ("lora_r: " + "9" * 5000, "has more than 100 digits"),
        ("lora_r: " + "9" * 50, "numbers must be finite, and integers have 64 bits"),
        ("learning_rate: .inf", "field 'learning_rate' is inf; numbers must be finite"),
        ("codebook_weights: [.nan]", "field 'codebook_weights' is [nan]; numbers must be finite"),
        ("datasets: " + "[" * 3000, "nested deeper than 50 levels"),
    ],
)
def test_an_invalid_recipe_is_an_error_with_file_and_field(content, message, recipe):
    path = recipe(content)
    error = refused(SFTConfig, "--config", path)
    assert error.startswith(f"{path}: ") and message in error


def test_a_date_is_a_text(recipe):
    path = recipe("text: [2024-01-31]\nmodel_revision: 2024-02-30")
    config = parse_recipe(GenerateConfig, ["--config", path])
    assert config.text == ["2024-01-31"] and config.model_revision == "2024-02-30"


def test_texts_that_yaml_reads_as_mappings_are_refused(recipe):
    path = recipe("text:\n  - He said: go")
    assert refused(GenerateConfig, "--config", path) == (
        f"{path}: field 'text' is [{{'He said': 'go'}}]; it must be list of str or null or str"
    )


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--lora_alfa", "4"], "command line: unknown flag '--lora_alfa'; did you mean '--lora_alpha'?"),
        (["--lora", "4"], "unknown flag '--lora'; did you mean '--lora_r'?"),
        (["stray"], "command line: unknown flag 'stray'; allowed: "),
        (["--lora_r", "four"], "command line: argument --lora_r/--lora-r: invalid int value: 'four'"),
        (["--method", "qlora"], "argument --method: invalid choice: 'qlora' (choose from "),
        (["--allow_untrained", "maybe"], "Truthy value expected: got maybe"),
        (["--datasets"], "argument --datasets: expected at least one argument"),
        (["--codebook_weights", "1", "null"], "--codebook_weights takes either null or values, not both"),
        (["--lr_scheduler_kwargs", "{a: 1, a: 2}"], "duplicate field 'a'; keep one"),
        (["--lr_scheduler_kwargs", "{a: "], "is not a mapping"),
        (["--lora_r", "0"], "command line: lora_r must be at least 1, got 0"),
        (["--lora_r", "9" * 30], "--lora_r/--lora-r: '999999999999999999999999999999': numbers must be finite"),
        (["--learning_rate", "nan"], "'nan': numbers must be finite"),
        (["--lr_scheduler_kwargs", "{a: .inf}"], "'{a: .inf}': numbers must be finite"),
        (["--lr_scheduler_kwargs", "{a: !!int b}"], "'b' is not a valid int"),
    ],
)
def test_an_invalid_flag_is_an_error_with_its_name(flags, message, recipe):
    path = recipe(SFT)
    error = refused(SFTConfig, "--config", path, *flags)
    assert error.startswith(f"{path} and command line: ") and message in error


def test_a_failed_check_of_the_config_is_an_error_with_the_file(recipe):
    path = recipe({"sources": []})
    assert refused(EncodeConfig, "--config", path) == (f"{path}: sources is empty: name at least one Hub id or folder")


def test_a_missing_recipe_is_refused(tmp_path):
    assert refused(SFTConfig, "--config", str(tmp_path / "no.yaml")) == f"{tmp_path / 'no.yaml'}: no such recipe"
    assert "--config: expected one argument" in refused(SFTConfig, "--config")


def test_a_binary_file_is_refused(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    assert refused(SFTConfig, "--config", str(path)).startswith(f"{path}: ")


def test_a_recipe_sets_no_environment_variable(recipe):
    path = recipe("env: {HF_TOKEN: x}")  # the parser of trl would set it
    assert "unknown field 'env'" in refused(SFTConfig, "--config", path)


@pytest.mark.parametrize("config_class", [EncodeConfig, SFTConfig, GenerateConfig, EvaluateConfig, MergeConfig])
def test_help_lists_every_field_with_its_help_text(config_class, capsys):
    with pytest.raises(SystemExit) as stop:
        parse_recipe(config_class, ["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert stop.value.code == 0 and "--config RECIPE.yaml" in text
    assert all(f"--{field.name} " in text for field in fields(config_class) if field.init)
    own = [field for field in fields(config_class) if field.name in config_class.__annotations__]
    assert all(" ".join(field.metadata["help"].split()) in text for field in own)


def test_read_recipe_returns_the_fields_as_written(recipe):
    path = recipe("model_config: tiny.json\nseed: 1\n")
    assert read_recipe(path, InitConfig) == {"model_config": "tiny.json", "seed": 1}


def test_given_fields_are_those_of_recipe_and_flags(recipe):
    path = recipe({"sources": ["corpus"], "seed": 1})
    assert given_fields(EncodeConfig, ["--config", path, "--dry_run"]) == {"sources", "seed", "dry_run"}
    assert given_fields(EncodeConfig, []) == set()
