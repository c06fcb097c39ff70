"""Every recipe is complete: the command at its head parses with its script's config, and its comments are correct."""

import re
import shlex
from itertools import takewhile
from pathlib import Path

import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from transformers import HiggsAudioV2Config, HiggsAudioV2TokenizerConfig
from transformers.models.higgs_audio_v2 import modeling_higgs_audio_v2

from higgs_recipes.configs.benchmark import (
    BenchmarkEncodeConfig,
    BenchmarkGenerateConfig,
    BenchmarkStreamConfig,
    BenchmarkTextsConfig,
    BenchmarkTrainConfig,
)
from higgs_recipes.configs.codec import FitCodecConfig
from higgs_recipes.configs.corpus import EncodeConfig, ExportConfig, ImportConfig
from higgs_recipes.configs.inference import EvaluateConfig, GenerateConfig, InitConfig, MergeConfig
from higgs_recipes.configs.measured_speeds import FSDP, POSITIONS_PER_HOUR, SETTINGS, find_speed
from higgs_recipes.configs.model import CODEC_ID, CODEC_REVISION, MODEL_ID, MODEL_REVISION
from higgs_recipes.configs.parser import parse_recipe
from higgs_recipes.configs.segment import SegmentConfig
from higgs_recipes.configs.sft import SFTConfig
from higgs_recipes.modeling.lora import LORA_TARGETS
from higgs_recipes.training.run_estimate import describe_speed
from tests.helpers.checkpoints import tiny_folder
from tests.helpers.paths import ROOT
from tests.helpers.train_once import make_trainer, trained_weights


RECIPES = sorted([*(ROOT / "recipes").glob("*/*.yaml"), *(ROOT / "tests/data/random_tiny").glob("*.yaml")])
ACCELERATE_CONFIGS = sorted((ROOT / "accelerate_configs").glob("*.yaml"))
CONFIGS = {  # script -> config class
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
    "benchmark generate": BenchmarkGenerateConfig,
    "benchmark stream": BenchmarkStreamConfig,
    "benchmark texts": BenchmarkTextsConfig,
    "benchmark encode": BenchmarkEncodeConfig,
}
COMMAND = r"(?:accelerate launch [^\n]*|python )scripts/(\w+)\.py"


def name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def head(recipe: Path) -> list[str]:
    """The comment lines at the start of a recipe, without "# "."""
    lines = recipe.read_text(encoding="utf-8").splitlines()
    return [line[2:] for line in takewhile(lambda line: line.startswith("#"), lines)]


def launch_line(recipe: Path) -> str:
    """The command at the head of a recipe, continued lines joined."""
    return "\n".join(head(recipe)).replace("\\\n", " ").splitlines()[0]


def parse_command(command: str):
    """The config of a command in a README or a recipe; asserts that its files exist."""
    words = shlex.split(command)
    script = next(word for word in words if word.startswith("scripts/"))
    assert (ROOT / script).is_file(), script
    for flag in ("--config_file", "--config"):
        if flag in words:
            assert (ROOT / words[words.index(flag) + 1]).is_file(), command
    script, args = Path(script).stem, words[words.index(script) + 1 :]
    if script == "benchmark":  # its first argument is the benchmark
        script, args = f"{script} {args[0]}", args[1:]
    return parse_recipe(CONFIGS[script], args)


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("recipe", RECIPES, ids=name)
def test_the_command_at_a_recipes_head_parses(recipe, monkeypatch):
    # As on a machine with the hardware and packages that the recipe needs.
    monkeypatch.setattr("transformers.training_args.is_torch_bf16_gpu_available", lambda: True)
    monkeypatch.setattr("higgs_recipes.configs.fields.find_spec", lambda package: package)
    line = launch_line(recipe)
    assert f"--config {recipe.relative_to(ROOT)}" in line
    assert parse_command(line) is not None


@pytest.mark.parametrize("recipe", [*RECIPES, *ACCELERATE_CONFIGS], ids=name)
def test_comments_of_a_recipe_fit_the_screen(recipe):
    lines = recipe.read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if "# " in line and len(line) >= 120]


@pytest.mark.parametrize("recipe", RECIPES, ids=name)
def test_files_that_a_recipe_names_exist(recipe):
    fields = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    for value in [*fields.values(), *fields.get("sources", [])]:
        if isinstance(value, str) and value.startswith(("recipes/", "tests/")):
            assert (ROOT / value).exists(), value


@pytest.mark.parametrize(
    "recipe", [path for path in RECIPES if path.parent.name in ("higgs-3b", "hub", "benchmarks")], ids=name
)
def test_the_published_model_and_codec_are_pinned(recipe):
    fields = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    if fields.get("model_name_or_path") == MODEL_ID:
        assert fields["model_revision"] == MODEL_REVISION
    if fields.get("codec_name_or_path") == CODEC_ID:
        assert fields["codec_revision"] == CODEC_REVISION
    assert {"model_name_or_path", "codec_name_or_path", "model_config", "codec_config"} & fields.keys()


@pytest.mark.parametrize("recipe", [path for path in RECIPES if "lora" in path.name], ids=name)
def test_a_lora_recipe_names_its_targets(recipe):
    assert set(yaml.safe_load(recipe.read_text(encoding="utf-8"))["lora_targets"]) <= LORA_TARGETS.keys()


TRAINING = [path for path in RECIPES if path.parent.name == "higgs-3b" and "scripts/sft.py" in launch_line(path)]
SLOW = {"voice_qlora": pytest.mark.slow}  # `make slow_test` installs bitsandbytes
TRAINABLE = [pytest.param(path, id=name(path), marks=SLOW.get(path.stem, ())) for path in TRAINING]


@pytest.mark.parametrize("recipe", TRAINING, ids=name)
def test_the_head_of_a_training_recipe_has_the_measured_speed_of_its_settings(recipe):
    fields = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    sharded_by = {"fsdp2": FSDP, "single_gpu": None}[
        re.search(r"accelerate_configs/(\w+)", launch_line(recipe)).group(1)
    ]
    described = describe_speed(find_speed(SETTINGS | fields, sharded_by=sharded_by)).splitlines()
    lines = head(recipe)
    first = lines.index(described[0])
    assert lines[first : first + len(described)] == described


@pytest.mark.parametrize("recipe", TRAINING, ids=name)
def test_the_steps_in_a_comment_are_those_of_hours_seen(recipe):
    text = recipe.read_text(encoding="utf-8")
    fields = yaml.safe_load(text)
    num_steps = int(re.search(r"^hours_seen: .*?# ([\d,]+) steps", text, flags=re.MULTILINE).group(1).replace(",", ""))
    launcher = re.search(r"--config_file (\S+)", launch_line(recipe)).group(1)
    num_processes = yaml.safe_load((ROOT / launcher).read_text(encoding="utf-8"))["num_processes"]
    positions = fields["pack_to"] * fields.get("gradient_accumulation_steps", 1) * num_processes
    assert fields["fill_rows"] and fields["hours_seen"] * POSITIONS_PER_HOUR / positions == pytest.approx(
        num_steps, rel=0.01
    )


@pytest.mark.parametrize("recipe", TRAINABLE)
def test_a_training_recipe_trains_a_tiny_model(recipe, tmp_path):
    fields = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    for replaced in ("model_name_or_path", "model_revision", "datasets", "output_dir"):
        del fields[replaced]
    overrides = {"max_steps": -1, "hours_seen": 0.004, "optim": "adamw_torch_fused", "report_to": "none"}
    overrides |= {"compile_layers": False, "dataloader_num_workers": 0}  # slow on a CPU
    overrides |= {"eval_steps": 2, "logging_steps": 1, "save_strategy": "no"}
    trainer = make_trainer(tmp_path, model_folder=tiny_folder() / "model", **fields | overrides)
    before = trained_weights(trainer)
    trainer.train()
    assert trainer.state.global_step == 4
    changed = {name for name, weight in trained_weights(trainer).items() if not torch.equal(weight, before[name])}
    assert any("layers.0" in name for name in changed)
    assert ("model.embed_tokens.weight" in changed) == (recipe.stem == "language_full")


def test_the_published_model_has_seven_training_recipes():
    stems = {
        "voice_lora",
        "voice_lora_replay",
        "voice_qlora",
        "multi_speaker_lora",
        "language_lora",
        "language_full",
        "audio_expert_full",
    }
    assert {path.stem for path in TRAINING} == stems
    readme = (ROOT / "recipes/higgs-3b/README.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"## Which recipe\n(.*?)\n## ", readme, flags=re.DOTALL)
    assert stems <= set(re.findall(r"`(\w+)\.yaml`", table))


def test_the_model_and_codec_configs_are_of_the_real_classes():
    for path in [*(ROOT / "recipes").glob("*/*model.json"), ROOT / "tests/data/random_tiny/model.json"]:
        config = HiggsAudioV2Config.from_json_file(path)
        assert (config.model_type, config.num_codebooks, config.codebook_size) == ("higgs_audio_v2", 8, 1026)
    for path in (ROOT / "tests/data/random_tiny/codec.json", ROOT / "recipes/higgs-3b/codec.json"):
        codec = HiggsAudioV2TokenizerConfig.from_json_file(path)
        assert (codec.sample_rate, codec.hop_length, codec.num_quantizers, codec.codebook_size) == (
            24_000,
            960,
            8,
            1024,
        )


@pytest.mark.parametrize("path", ACCELERATE_CONFIGS, ids=lambda path: path.stem)
def test_accelerate_loads_its_config_and_the_recipe_sets_the_precision(path):
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


def test_there_are_six_accelerate_configs():
    stems = {path.stem for path in ACCELERATE_CONFIGS}
    assert stems == {"cpu", "single_gpu", "ddp", "zero2", "zero3", "fsdp2"}


def test_the_docstring_of_every_script_has_its_launch_command():
    for script in (ROOT / "scripts").glob("*.py"):
        text = script.read_text(encoding="utf-8")
        assert script.stem in {name.split()[0] for name in CONFIGS}
        assert re.search(COMMAND, text.split('"""')[1]).group(1) == script.stem
        assert len(text.splitlines()) <= 80
