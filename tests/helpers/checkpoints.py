"""Tiny checkpoints of the real classes, created once for all processes of a test run, and rows for them."""

import json
from functools import cache
from pathlib import Path

import torch
from filelock import FileLock

from higgs_recipes.chatml import conversation
from higgs_recipes.collator import HiggsCollator
from higgs_recipes.configs.inference import InitConfig
from higgs_recipes.configs.model import ModelConfig
from higgs_recipes.configs.sft import SFTConfig
from higgs_recipes.modeling.base_files import fetch_base
from higgs_recipes.modeling.fingerprint import folder_fingerprint
from higgs_recipes.modeling.model import build_model, load_model, load_tokenizer
from higgs_recipes.modeling.random_model import init_checkpoint
from higgs_recipes.samples import build_sample
from higgs_recipes.unwrap import unwrap_model
from tests.helpers.paths import ROOT
from tests.helpers.shared_folder import shared_folder


@cache
def tiny_folder() -> Path:
    """A folder with `model` and `codec` as of tests/data/random_tiny/init.yaml, but with a smaller model."""
    folder = shared_folder() / "tiny"
    with FileLock(f"{folder}.lock"):
        if not (folder / "complete").exists():
            _create_tiny(folder)
    return folder


def _create_tiny(folder: Path) -> None:
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
    (folder / "complete").touch()


def tiny_model_config() -> ModelConfig:
    return ModelConfig(model_name_or_path=str(tiny_folder() / "model"), dtype="float32")


def sft_config(output_dir: str | Path, **fields) -> SFTConfig:
    """A recipe that fine-tunes the tiny model in float32 on a CPU."""
    defaults = {"output_dir": str(output_dir), "datasets": ["none"], "use_cpu": True, "report_to": "none"}
    model = {"model_name_or_path": str(tiny_folder() / "model"), "dtype": "float32"}
    return SFTConfig(**(defaults | model | fields))


def base_fingerprint(config: ModelConfig) -> str:
    """The fingerprint of a config's base, as in run.json."""
    return folder_fingerprint(fetch_base(config).folder)


def build(config: SFTConfig):
    """The model that a recipe trains, and its tokenizer."""
    base = fetch_base(config)
    return build_model(config, base), load_tokenizer(base)


def load_tiny():
    """A new tiny model and its tokenizer."""
    return load_model(tiny_model_config(), device="cpu")


def first_row_logits(model) -> torch.Tensor:
    """The model's logits for the first row of `random_rows`."""
    sample = build_sample(random_rows(1)[0], load_tokenizer(fetch_base(tiny_model_config())))
    batch = HiggsCollator(unwrap_model(model).config)([sample])
    with torch.no_grad():
        return model(**{name: batch[name] for name in ("input_ids", "audio_input_ids", "audio_input_ids_mask")}).logits


def random_rows(num_rows: int, *, num_steps: int = 10) -> list[dict]:
    """Rows of an encoded corpus with random codes. Each is one step longer than the one before; odd rows clone."""
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
