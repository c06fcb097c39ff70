"""Tiny checkpoints of the real classes on disk, made once for all processes of a run of the tests."""

import json
from functools import cache
from pathlib import Path

import torch
from filelock import FileLock

from higgs_recipes.chatml import conversation
from higgs_recipes.configs.inference import InitConfig
from higgs_recipes.configs.model import ModelConfig
from higgs_recipes.configs.sft import SFTConfig
from higgs_recipes.modeling.base_files import fetch_base
from higgs_recipes.modeling.fingerprint import folder_fingerprint
from higgs_recipes.modeling.model import build_model, load_model, load_tokenizer
from higgs_recipes.modeling.random_model import init_checkpoint
from tests.helpers.paths import ROOT
from tests.helpers.shared_folder import shared_folder


@cache
def tiny_folder() -> Path:
    """`model` and `codec` as tests/data/random_tiny/init.yaml makes them, the model smaller still."""
    folder = shared_folder() / "tiny"
    with FileLock(f"{folder}.lock"):
        if not (folder / "whole").exists():
            _make_tiny(folder)
    return folder


def _make_tiny(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    fields = json.loads((ROOT / "tests/data/random_tiny/model.json").read_text(encoding="utf-8"))
    fields |= {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "head_dim": 16}
    (folder / "model.json").write_text(json.dumps(fields), encoding="utf-8")
    init_checkpoint(
        InitConfig(
            model_config=str(folder / "model.json"),
            codec_config=str(ROOT / "tests/data/random_tiny/codec.json"),
            output_dir=str(folder),
        )
    )
    (folder / "whole").touch()


def tiny_model_config() -> ModelConfig:
    return ModelConfig(model_name_or_path=str(tiny_folder() / "model"), dtype="float32")


def base_fingerprint(config: ModelConfig) -> str:
    """What run.json says of the base that the config names."""
    return folder_fingerprint(fetch_base(config).folder)


def build(config: SFTConfig):
    """The model that a recipe trains, and its tokenizer."""
    base = fetch_base(config)
    return build_model(config, base), load_tokenizer(base)


def load_tiny():
    """A new tiny model and its tokenizer."""
    return load_model(tiny_model_config(), device="cpu")


def random_rows(num_rows: int, *, num_steps: int = 10) -> list[dict]:
    """Rows of an encoded corpus with drawn codes; each is a step longer than the one before, the odd ones clone."""
    generator = torch.Generator().manual_seed(0)
    rows = []
    for index in range(num_rows):
        row = {"id": f"row{index}", "text": f"Text number {index}.", "ref_audio": "ref.wav", "ref_text": "Words."}
        task = ("single_speaker_smart_voice", "zero_shot_voice_cloning")[index % 2]
        rows.append(
            row
            | {
                "messages": json.dumps(conversation(row, task=task)),
                "codes": torch.randint(0, 1024, (num_steps + index, 8), generator=generator).tolist(),
                "ref_codes": [torch.randint(0, 1024, (5, 8), generator=generator).tolist()] * (index % 2),
            }
        )
    return rows
