"""Measured training speeds of this code at the size of the published model; none is an estimate."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


# The shape of the published model, 5.77 billion parameters.
PUBLISHED_SHAPE = {"hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 28}
# Fields of an sft recipe that speed and memory depend on, with default values; entries of `SPEEDS` name the fields
# that differ.
SETTINGS: dict[str, Any] = {
    "method": "lora",
    "lora_targets": ["attention"],
    "lora_r": 16,
    "lora_dropout": 0.0,
    "train_modules": None,
    "trained_dtype": "float32",
    "load_in_4bit": False,
    "fp8": False,
    "dtype": "bfloat16",
    "bf16": True,
    "pack_to": None,
    "per_device_train_batch_size": 1,
    "gradient_checkpointing": False,
    "fast_path": True,
    "compile_layers": False,
    "optim": "adamw_torch_fused",
}
# Sharding of accelerate_configs/fsdp2.yaml, and a variant in which each GPU keeps gathered weights for the backward
# pass.
FSDP, FSDP_KEPT = "FSDP2", "FSDP2 without fsdp_reshard_after_forward"
POSITIONS_PER_HOUR = 360 * 319  # clips of 10 s: 250 codec steps, 9 of delay and end, 60 text positions


@dataclass(frozen=True)
class Speed:
    """One measurement, on clips of 10 s.

    Attributes:
        settings: fields of `SETTINGS` that differ.
        positions_per_second: text and audio positions of all processes per second.
        peak_gib: peak memory of each GPU.
        hardware: as `provenance.describe_hardware` returns it.
        made_by: program, commit and versions of the measurement.
        sharded_by: how weights are sharded; None: each GPU has all weights.
    """

    settings: Mapping[str, Any]
    positions_per_second: float
    peak_gib: float
    hardware: str
    made_by: str
    sharded_by: str | None = None


_PLAIN = {"fast_path": False, "per_device_train_batch_size": 16}
# The program that measured speed before scripts/benchmark.py existed.
_TRUE_SIZE = "tests.slow.true_size of commit 3759f03, torch 2.11, transformers 5.17"
# On the H200 machines other variants ran on the other GPUs at the same time.
_BENCHMARK = "scripts/benchmark.py train of commit {}, torch 2.11, transformers 5.17"
_E3CEFF8, _306DA14 = map(_BENCHMARK.format, ("e3ceff8", "306da14"))
_8EC46E3, _B3D37DF = map(_BENCHMARK.format, ("8ec46e3", "b3d37df"))
_H100, _H200, _TWO, _FOUR = "1 x NVIDIA H100 80GB HBM3", "1 x NVIDIA H200", "2 x NVIDIA H200", "4 x NVIDIA H200"
_PACKED = {"pack_to": 8192, "compile_layers": True}
_LONG = _PACKED | {"pack_to": 16384}
_MANY_SPEAKERS = _PACKED | {"lora_targets": ["attention", "audio_mlp"], "lora_r": 32}
_LANGUAGE = _PACKED | {"lora_targets": ["attention", "audio_mlp", "mlp"], "lora_r": 64}
_RECOMPUTED = _PACKED | {"gradient_checkpointing": True}
_QLORA = _RECOMPUTED | {"pack_to": 2048, "load_in_4bit": True}
_AUDIO_EXPERT = {"method": "full", "train_modules": ["audio_expert", "audio_embedding", "audio_head"]}
_FULL = {"method": "full"}
_ROUNDED = _FULL | {"trained_dtype": "bfloat16"}
SPEEDS = (  # the first of equal settings is the one that a recipe's head has
    Speed(_RECOMPUTED, 29618, 12.9, _H100, _B3D37DF),
    Speed(_RECOMPUTED, 30915, 13.0, _H200, _8EC46E3),
    Speed(_PACKED, 39271, 26.9, _H100, _B3D37DF),
    Speed(_PACKED, 42026, 26.9, _H200, _8EC46E3),
    Speed(_PACKED, 83732, 27.0, _TWO, _E3CEFF8),
    Speed(_PACKED, 164969, 27.0, _FOUR, _306DA14),
    Speed(_LONG, 40931, 43.5, _H100, _B3D37DF),
    Speed(_LONG, 42943, 43.5, _H200, _8EC46E3),
    Speed(_LONG, 170439, 43.6, _FOUR, _306DA14),
    Speed(_LONG | {"fp8": True}, 58041, 43.6, _H100, _B3D37DF),
    Speed(_LONG | {"fp8": True}, 62585, 43.6, _H200, _E3CEFF8),
    Speed(_QLORA, 9062, 4.8, _H100, _B3D37DF),
    Speed(_QLORA, 13055, 4.8, _H200, _E3CEFF8),
    Speed(_MANY_SPEAKERS, 34398, 31.3, _H100, _B3D37DF),
    Speed(_MANY_SPEAKERS, 36257, 31.3, _H200, _E3CEFF8),
    Speed(_LANGUAGE, 32720, 33.7, _H100, _B3D37DF),
    Speed(_LANGUAGE, 29316, 33.7, _H200, _E3CEFF8),
    Speed(_PACKED | _AUDIO_EXPERT, 29818, 52.3, _H100, _B3D37DF),
    Speed(_PACKED | _AUDIO_EXPERT, 32399, 52.3, _H200, _E3CEFF8),
    Speed(_PACKED | _FULL, 23861, 96.5, _H200, _8EC46E3),
    Speed(_LONG | _FULL, 27113, 117.6, _H200, _8EC46E3),
    Speed(_PACKED | _ROUNDED, 26215, 52.5, _H100, _B3D37DF),
    Speed(_PACKED | _ROUNDED, 27426, 52.5, _H200, _8EC46E3),
    Speed(_PACKED | _FULL, 45052, 53.8, _TWO, _8EC46E3, FSDP),
    Speed(_LONG | _FULL, 108625, 57.6, _FOUR, _8EC46E3, FSDP),
    Speed(_PACKED | _FULL, 98788, 47.2, _FOUR, _8EC46E3, FSDP_KEPT),
    Speed(_LONG | _FULL, 108322, 67.2, _FOUR, _8EC46E3, FSDP_KEPT),
    Speed(_PLAIN | {"gradient_checkpointing": True}, 7594, 12.6, _H100, _TRUE_SIZE),
    Speed(_PLAIN, 12710, 27.7, _H100, _TRUE_SIZE),
)


def find_speed(
    recipe: Mapping[str, Any], *, hardware: str | None = None, sharded_by: str | None = None
) -> Speed | None:
    """Find the measurement of a recipe's settings; None if they were not measured.

    Args:
        recipe: fields of an sft recipe, at least those of `SETTINGS`.
        hardware: preferred hardware; a measurement on other hardware is returned if there is none on it.
        sharded_by: how weights are sharded; must match, as speeds of sharded and unsharded weights do not compare.

    >>> find_speed(SETTINGS | {"fast_path": False, "per_device_train_batch_size": 16}).peak_gib
    27.7
    """
    found = [
        speed
        for speed in SPEEDS
        if speed.sharded_by == sharded_by
        and all(recipe[name] == value for name, value in (SETTINGS | dict(speed.settings)).items())
    ]
    found.sort(key=lambda speed: speed.hardware != hardware)
    return found[0] if found else None
