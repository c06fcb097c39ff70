"""The knobs of benchmark: what is measured, at which size, and where the numbers go."""

from dataclasses import dataclass, fields
from typing import Any

from higgs_recipes.configs.fields import Dtype, option, require
from higgs_recipes.configs.inference import SamplingConfig
from higgs_recipes.configs.sft import SFTConfig


LOG_EVERY = 10  # steps, as the recipes log: a log waits for the GPU, and is part of what training costs


@dataclass
class BenchmarkConfig:
    """What the three have in common."""

    seed: int = option(0, "Seed of the drawn weights and clips.")
    clip_seconds: float = option(10.0, "Length of every clip.")
    output: str = option("outputs/benchmark.json", "JSON file of the numbers, written anew after each variant.")

    def __post_init__(self) -> None:
        require(0.04 <= self.clip_seconds, f"clip_seconds must be at least a frame, 0.04, got {self.clip_seconds}")


@dataclass
class ModelBenchmarkConfig(BenchmarkConfig):
    """What is measured on a model with random weights: neither speed nor memory cares what they say."""

    model_config: str = option("", "JSON file of a HiggsAudioV2Config.")
    checkpoint_dir: str = option(
        "outputs/benchmark_model", "Folder of the model with random weights: made where it is not there, and kept."
    )
    only: list[str] = option([], "Names of the variants to measure, in the recipe's order; empty is all.")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.model_config), "model_config is missing: name a JSON file of a HiggsAudioV2Config")

    def check_names(self, *groups: dict[str, Any]) -> None:
        """Raise `InputError` unless the variants of all groups have names of their own, and `only` names some."""
        names = [name for group in groups for name in group]
        require(len(names) > 0, "variants is empty: name at least one")
        require(len(set(names)) == len(names), f"variants: a name stands twice among {', '.join(names)}")
        for name in self.only:
            require(name in names, f"only: no variant {name!r}; there are {', '.join(names)}")

    def wanted(self, variants: dict[str, Any]) -> list[str]:
        return [name for name in variants if not self.only or name in self.only]


def require_fields(config_class: type, values: Any, *, where: str) -> None:
    """Raise `InputError` unless `values` is a mapping of fields of the class."""
    require(isinstance(values, dict), f"{where} must be a mapping of fields, got {values!r}")
    unknown = sorted(set(values) - {field.name for field in fields(config_class)})
    require(not unknown, f"{where}: {', '.join(map(repr, unknown))} is no field of {config_class.__name__}")


@dataclass
class BenchmarkTrainConfig(ModelBenchmarkConfig):
    """Optimizer steps of variants of a recipe, on clips of one length."""

    common: dict[str, Any] = option({}, "Fields of a recipe of sft that all variants share.")
    variants: dict[str, dict] = option({}, "Name to the fields that differ.")
    plain_variants: dict[str, dict] = option(
        {}, "The same, run by transformers as it is: its Trainer, its forward, its labels and its loss."
    )
    text_positions: int = option(60, "Positions of text of every sample, the marks among them.")
    warm_steps: int = option(10, "Steps before the clock starts: compilation, allocation.")
    timed_steps: int = option(30, "Optimizer steps that are timed.")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_names(self.variants, self.plain_variants)
        require_fields(SFTConfig, self.common, where="common")
        for name, values in (self.variants | self.plain_variants).items():
            require_fields(SFTConfig, values, where=f"variant {name!r}")
        require(self.text_positions >= 4, f"text_positions must be at least 4, got {self.text_positions}")
        for name in ("warm_steps", "timed_steps"):
            steps = getattr(self, name)
            require(
                steps >= LOG_EVERY and steps % LOG_EVERY == 0,
                f"{name} must be a multiple of {LOG_EVERY}, as often as steps are logged, got {steps}",
            )


@dataclass
class BenchmarkGenerateConfig(ModelBenchmarkConfig):
    """Frames of generated clips, all of one length."""

    dtype: Dtype = option("bfloat16", "Type of the weights.")
    streams: list[int] = option([1, 8, 16], "Clips generated together, a measurement each.")
    variants: dict[str, dict] = option({}, "Name to the fields of a recipe of generate that say how frames are drawn.")
    plain: bool = option(True, "Measure transformers' own generate too, as it is and with its static cache.")
    text_characters: int = option(60, "Length of every text.")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_names(
            self.variants, dict.fromkeys(("transformers", "transformers_static") if self.plain else (), {})
        )
        for name, values in self.variants.items():
            require_fields(SamplingConfig, values, where=f"variant {name!r}")
        require(bool(self.streams) and min(self.streams) >= 1, f"streams must be positive, got {self.streams}")
        require(self.text_characters >= 1, f"text_characters must be positive, got {self.text_characters}")


# How the codec's arithmetic is done. "float32": as `Codec` does it; "tf32": products of 10 bits; "default": what torch
# does unless told otherwise, convolutions alone in tf32; "compiled" goes through torch.compile.
ARITHMETIC = ("float32", "default", "tf32", "bfloat16", "float32_compiled", "tf32_compiled")


@dataclass
class BenchmarkEncodeConfig(BenchmarkConfig):
    """Clips of one length -> codes, by a codec with random weights whose codes are well spread."""

    codec_config: str = option("", "JSON file of a HiggsAudioV2TokenizerConfig.")
    codec_dir: str = option(
        "outputs/benchmark_codec", "Folder of the codec with random weights: made where it is not there, and kept."
    )
    num_clips: int = option(64, "Clips that are encoded, of drawn sounds.")
    batch_sizes: list[int] = option([1, 16, 64], "Clips encoded together, a measurement each.")
    arithmetic: list[str] = option(
        ["float32"], f"The codec's arithmetic, a measurement each: {', '.join(ARITHMETIC)}."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.codec_config), "codec_config is missing: name a JSON file of a HiggsAudioV2TokenizerConfig")
        require(self.num_clips >= 1, f"num_clips must be positive, got {self.num_clips}")
        sizes = self.batch_sizes
        require(bool(sizes) and min(sizes) >= 1, f"batch_sizes must be positive, got {sizes}")
        for size in sizes:
            require(self.num_clips % size == 0, f"batch_sizes: {self.num_clips} clips are not a multiple of {size}")
        require(bool(self.arithmetic), "arithmetic is empty: name at least float32")
        for name in self.arithmetic:
            require(name in ARITHMETIC, f"arithmetic: {name!r} is none of {', '.join(ARITHMETIC)}")
