"""Every recipe is whole: its own head says how it is launched, and its script's config takes it."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from transformers import HiggsAudioV2Config, HiggsAudioV2TokenizerConfig
from transformers.models.higgs_audio_v2 import modeling_higgs_audio_v2

from higgs_recipes.benchmark_config import BenchmarkTrainConfig
from higgs_recipes.codec_fit_config import FitCodecConfig
from higgs_recipes.configs import (
    CODEC_ID,
    CODEC_REVISION,
    MODEL_ID,
    MODEL_REVISION,
    EvaluateConfig,
    GenerateConfig,
    InitConfig,
    MergeConfig,
    SFTConfig,
)
from higgs_recipes.corpus_configs import EncodeConfig, ExportConfig, ImportConfig
from higgs_recipes.modeling import LORA_TARGETS
from higgs_recipes.recipe_parser import parse_recipe
from higgs_recipes.segment_config import SegmentConfig


ROOT = Path(__file__).parents[1]
RECIPES = sorted([*(ROOT / "recipes").glob("*/*.yaml"), *(ROOT / "tests/random_tiny").glob("*.yaml")])
ACCELERATE_CONFIGS = sorted((ROOT / "accelerate_configs").glob("*.yaml"))
CONFIGS = {  # script to its config
    "encode": EncodeConfig,
    "sft": SFTConfig,
    "generate": GenerateConfig,
    "evaluate": EvaluateConfig,
    "merge": MergeConfig,
    "init_model": InitConfig,
    "import_corpus": ImportConfig,
    "export_corpus": ExportConfig,
    "segment": SegmentConfig,
    "fit_codec": FitCodecConfig,
    "benchmark train": BenchmarkTrainConfig,
}
COMMAND = r"(?:accelerate launch [^\n]*|python )scripts/(\w+)\.py"


def name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def launch_line(recipe: Path) -> str:
    """The command at the head of a recipe, its continued lines joined."""
    head = "".join(line[2:] for line in recipe.read_text(encoding="utf-8").splitlines(keepends=True)[:3])
    return head.replace("\\\n", " ").splitlines()[0]


def parse_command(command: str):
    """The config that a command line of the README or of a recipe gives; asserts that its files are there."""
    words = shlex.split(command)
    script = next(word for word in words if word.startswith("scripts/"))
    assert (ROOT / script).is_file(), script
    for flag in ("--config_file", "--config"):
        if flag in words:
            assert (ROOT / words[words.index(flag) + 1]).is_file(), command
    script, args = Path(script).stem, words[words.index(script) + 1 :]
    if script == "benchmark":  # what it measures stands first
        script, args = f"{script} {args[0]}", args[1:]
    return parse_recipe(CONFIGS[script], args)


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("recipe", RECIPES, ids=name)
def test_the_command_at_a_recipes_head_takes_the_recipe(recipe, monkeypatch):
    monkeypatch.setattr("transformers.training_args.is_torch_bf16_gpu_available", lambda: True)
    line = launch_line(recipe)
    assert f"--config {recipe.relative_to(ROOT)}" in line
    assert parse_command(line) is not None


@pytest.mark.parametrize("recipe", RECIPES, ids=name)
def test_a_recipe_refers_to_files_that_are_there(recipe):
    fields = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    for value in [*fields.values(), *fields.get("sources", [])]:
        if isinstance(value, str) and value.startswith(("recipes/", "tests/")):
            assert (ROOT / value).exists(), value


@pytest.mark.parametrize("recipe", [path for path in RECIPES if path.parent.name in ("higgs-3b", "hub")], ids=name)
def test_the_published_model_and_codec_are_pinned(recipe):
    fields = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    if fields.get("model_name_or_path") == MODEL_ID:
        assert fields["model_revision"] == MODEL_REVISION
    if fields.get("codec_name_or_path") == CODEC_ID:
        assert fields["codec_revision"] == CODEC_REVISION
    assert {"model_name_or_path", "codec_name_or_path", "model_config"} & fields.keys()


@pytest.mark.parametrize("recipe", [path for path in RECIPES if "lora" in path.name], ids=name)
def test_an_adapters_targets_are_named_in_the_recipe(recipe):
    assert set(yaml.safe_load(recipe.read_text(encoding="utf-8"))["lora_targets"]) <= LORA_TARGETS.keys()


def test_the_model_and_codec_configs_are_of_the_real_classes():
    for path in [*(ROOT / "recipes").glob("*/*model.json"), ROOT / "tests/random_tiny/model.json"]:
        config = HiggsAudioV2Config.from_json_file(path)
        assert (config.model_type, config.num_codebooks, config.codebook_size) == ("higgs_audio_v2", 8, 1026)
    codec = HiggsAudioV2TokenizerConfig.from_json_file(ROOT / "tests/random_tiny/codec.json")
    assert (codec.sample_rate, codec.hop_length, codec.num_quantizers, codec.codebook_size) == (24_000, 960, 8, 1024)


@pytest.mark.parametrize("path", ACCELERATE_CONFIGS, ids=lambda path: path.stem)
def test_accelerate_takes_its_config_and_leaves_precision_to_the_recipe(path):
    config = load_config_from_file(str(path))
    kinds = {"ddp": "MULTI_GPU", "zero2": "DEEPSPEED", "zero3": "DEEPSPEED", "fsdp2": "FSDP"}
    assert config.distributed_type == kinds.get(path.stem, "NO")
    assert config.mixed_precision == "no"
    assert config.use_cpu == (path.stem == "cpu")
    fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    if path.stem == "fsdp2":
        layer = fields["fsdp_config"]["fsdp_transformer_layer_cls_to_wrap"]
        assert layer in modeling_higgs_audio_v2.__dict__
    if path.stem.startswith("zero"):
        assert fields["deepspeed_config"]["zero_stage"] == int(path.stem[-1])


def test_the_six_accelerate_configs_are_there():
    stems = {path.stem for path in ACCELERATE_CONFIGS}
    assert stems == {"cpu", "single_gpu", "ddp", "zero2", "zero3", "fsdp2"}


def test_every_script_says_how_it_is_launched():
    for script in (ROOT / "scripts").glob("*.py"):
        text = script.read_text(encoding="utf-8")
        assert script.stem in {name.split()[0] for name in CONFIGS}
        assert re.search(COMMAND, text.split('"""')[1]).group(1) == script.stem
        assert len(text.splitlines()) <= 80
