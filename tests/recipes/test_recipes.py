"""Every recipe is whole: its own head says how it is launched, and its script's config takes it."""

import re
import shlex
from pathlib import Path

import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from transformers import HiggsAudioV2Config, HiggsAudioV2TokenizerConfig
from transformers.models.higgs_audio_v2 import modeling_higgs_audio_v2

from higgs_recipes.configs.benchmark import BenchmarkEncodeConfig, BenchmarkGenerateConfig, BenchmarkTrainConfig
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


README = (ROOT / "README.md").read_text(encoding="utf-8")
RECIPES = sorted([*(ROOT / "recipes").glob("*/*.yaml"), *(ROOT / "tests/data/random_tiny").glob("*.yaml")])
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
    "benchmark generate": BenchmarkGenerateConfig,
    "benchmark encode": BenchmarkEncodeConfig,
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
    # On a machine that has what the recipe is for.
    monkeypatch.setattr("transformers.training_args.is_torch_bf16_gpu_available", lambda: True)
    monkeypatch.setattr("higgs_recipes.configs.fields.find_spec", lambda package: package)
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
    assert {"model_name_or_path", "codec_name_or_path", "model_config", "codec_config"} & fields.keys()


@pytest.mark.parametrize("recipe", [path for path in RECIPES if "lora" in path.name], ids=name)
def test_an_adapters_targets_are_named_in_the_recipe(recipe):
    assert set(yaml.safe_load(recipe.read_text(encoding="utf-8"))["lora_targets"]) <= LORA_TARGETS.keys()


TRAINING = [path for path in RECIPES if path.parent.name == "higgs-3b" and "scripts/sft.py" in launch_line(path)]
OF_SLOW_TEST = {"voice_qlora": pytest.mark.slow}  # bitsandbytes comes with `make slow_test`
TRAINABLE = [pytest.param(path, id=name(path), marks=OF_SLOW_TEST.get(path.stem, ())) for path in TRAINING]


@pytest.mark.parametrize("recipe", TRAINING, ids=name)
def test_a_recipes_head_has_the_measured_speed_of_its_settings_or_says_that_there_is_none(recipe):
    text = recipe.read_text(encoding="utf-8")
    sharded_by = {"fsdp2": FSDP, "single_gpu": None}[
        re.search(r"accelerate_configs/(\w+)", launch_line(recipe)).group(1)
    ]
    speed = find_speed(SETTINGS | yaml.safe_load(text), sharded_by=sharded_by)
    assert "# Speed, memory, and the time of 1 h of audio once: " + describe_speed(speed) in text.splitlines()


@pytest.mark.parametrize("recipe", TRAINING, ids=name)
def test_the_steps_that_a_recipe_names_are_those_of_its_hours(recipe):
    text = recipe.read_text(encoding="utf-8")
    fields = yaml.safe_load(text)
    said = int(re.search(r"^hours_seen: .*?# ([\d,]+) steps", text, flags=re.MULTILINE).group(1).replace(",", ""))
    launcher = re.search(r"--config_file (\S+)", launch_line(recipe)).group(1)
    num_processes = yaml.safe_load((ROOT / launcher).read_text(encoding="utf-8"))["num_processes"]
    positions = fields["pack_to"] * fields.get("gradient_accumulation_steps", 1) * num_processes
    assert fields["fill_rows"] and fields["hours_seen"] * POSITIONS_PER_HOUR / positions == pytest.approx(
        said, rel=0.01
    )


@pytest.mark.parametrize("recipe", TRAINABLE)
def test_a_recipe_trains_a_small_model_as_it_stands(recipe, tmp_path):
    fields = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    for elsewhere in ("model_name_or_path", "model_revision", "datasets", "output_dir"):
        del fields[elsewhere]
    here = {"max_steps": -1, "hours_seen": 0.004, "optim": "adamw_torch_fused", "report_to": "none"}
    here |= {"compile_layers": False, "dataloader_num_workers": 0}  # either would take longer than all the rest
    here |= {"eval_steps": 2, "logging_steps": 1, "save_strategy": "no"}
    trainer = make_trainer(tmp_path, model_folder=tiny_folder() / "model", **fields | here)
    before = trained_weights(trainer)
    trainer.train()
    assert trainer.state.global_step == 4
    moved = {name for name, weight in trained_weights(trainer).items() if not torch.equal(weight, before[name])}
    assert any("layers.0" in name for name in moved)
    assert ("model.embed_tokens.weight" in moved) == (recipe.stem == "language_full")


def test_readme_names_the_recipes_that_train_the_published_model():
    stems = ("voice_lora", "voice_qlora", "multi_speaker_lora", "language_lora", "language_full", "audio_expert_full")
    assert {path.stem for path in TRAINING} == set(stems)
    (named,) = re.findall(r"^recipes/higgs-3b/ (.*?)^recipes/", README, flags=re.DOTALL | re.MULTILINE)
    assert set(stems) <= set(re.findall(r"\w+", named))


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
