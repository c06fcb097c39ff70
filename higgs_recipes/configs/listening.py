"""The field `listen` of scripts/sft.py: speech of the current weights is scored at each evaluation."""

from dataclasses import dataclass
from typing import Any

from higgs_recipes.configs.field_types import require_fields
from higgs_recipes.configs.fields import option, require, require_package, require_seed
from higgs_recipes.configs.inference import MetricModelsConfig, SamplingConfig
from higgs_recipes.errors import InputError


@dataclass
class ListenConfig(SamplingConfig, MetricModelsConfig):
    """Which held-out rows are spoken, how, and which metric models score the clips."""

    samples: int = option(8, "Number of held-out rows to speak, sampled once by the seed; all if there are fewer.")
    seed: int = option(0, "Seed of the first row; row i has seed + i, at every evaluation.")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.samples >= 1, f"samples must be positive, got {self.samples}")
        require_seed(self.seed)

    @property
    def num_samples(self) -> int:
        """`samples`, by the name of an evaluation's field."""
        return self.samples


def read_listen(values: Any) -> ListenConfig:
    """The config of a recipe's `listen`.

    Raises:
        InputError: not a mapping, an unknown field, an invalid value, or a package is not installed; the message
            begins with `listen`.
    """
    require_fields(ListenConfig, values, where="listen")
    try:
        config = ListenConfig(**values)
    except InputError as error:
        raise InputError(f"listen: {error}") from error
    for package in ("jiwer", "evaluate"):
        require_package(package, "listen")
    for field, name in (("asr", config.asr), ("speaker", config.speaker)):
        if name.startswith("funasr:"):
            require_package("funasr", f"listen: {field}: {name}")
    return config
