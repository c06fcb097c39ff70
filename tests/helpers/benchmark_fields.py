"""Fields of small benchmark recipes, for the tests of the benchmarks and of their script."""

from pathlib import Path
from typing import Any

from tests.helpers.checkpoints import tiny_folder
from tests.helpers.paths import ROOT


TRAIN_VARIANTS = {
    "packed": {"pack_to": 64, "fill_rows": True},
    "checkpointed": {"pack_to": 64, "fill_rows": True, "gradient_checkpointing": True},
    "padded": {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 2},
    "full": {"method": "full", "pack_to": 64, "fill_rows": True},
}
TRANSFORMERS_VARIANTS = {"transformers": {"per_device_train_batch_size": 4}}


def model_fields(folder: Path) -> dict[str, Any]:
    return {
        "model_config": str(tiny_folder() / "model.json"),
        "checkpoint_dir": str(folder / "model"),
    }


def codec_fields(folder: Path) -> dict[str, Any]:
    return {
        "codec_config": str(ROOT / "tests/data/random_tiny/codec.json"),
        "codec_dir": str(folder / "codec"),
    }


def train_fields(folder: Path, **changed) -> dict[str, Any]:
    return (
        model_fields(folder)
        | {
            "clip_seconds": 0.2,  # 26 positions, with 12 of text
            "text_positions": 12,
            "warm_steps": 10,
            "timed_steps": 10,
            "common": {"dtype": "float32", "use_cpu": True, "per_device_train_batch_size": 1},
            "variants": TRAIN_VARIANTS,
            "plain_variants": TRANSFORMERS_VARIANTS,
            "output": str(folder / "results" / "train.json"),
        }
        | changed
    )


def generate_fields(folder: Path, **changed) -> dict[str, Any]:
    return (
        model_fields(folder)
        | {
            "dtype": "float32",
            "streams": [1, 3],
            "clip_seconds": 0.4,
            "text_characters": 20,
            "variants": {"sampled": {}, "greedy": {"temperature": 0.0}},
            "output": str(folder / "results" / "generate.json"),
        }
        | changed
    )


def encode_fields(folder: Path, **changed) -> dict[str, Any]:
    return (
        codec_fields(folder)
        | {
            "clip_seconds": 1.0,
            "num_clips": 4,
            "batch_sizes": [1, 4],
            "arithmetic": ["float32", "default", "bfloat16"],
            "output": str(folder / "results" / "encode.json"),
        }
        | changed
    )


def texts_fields(folder: Path, **changed) -> dict[str, Any]:
    return (
        model_fields(folder)
        | codec_fields(folder)
        | {
            "dtype": "float32",
            "num_texts": 5,
            "min_seconds": 0.2,
            "clip_seconds": 0.6,
            "ref_seconds": 0.4,
            "variants": {"two": {"batch_size": 2}, "greedy": {"temperature": 0.0}},
            "output": str(folder / "results" / "texts.json"),
        }
        | changed
    )


def stream_fields(folder: Path, **changed) -> dict[str, Any]:
    return (
        model_fields(folder)
        | codec_fields(folder)
        | {
            "dtype": "float32",
            "streams": [1, 3],
            "clip_seconds": 1.2,
            "text_characters": 20,
            "output": str(folder / "results" / "stream.json"),
        }
        | changed
    )
