"""Configs of scripts/benchmark.py: what to measure, at which size, and where to write the results."""

from dataclasses import dataclass
from typing import Any

from higgs_recipes.configs.field_types import require_fields
from higgs_recipes.configs.fields import Dtype, option, require
from higgs_recipes.configs.inference import SamplingConfig
from higgs_recipes.configs.sft import SFTConfig


# Steps between logs, as in the recipes: a log waits for the GPU, so it is part of the cost of training.
LOG_EVERY = 10


@dataclass
class BenchmarkConfig:
    """Options of all benchmarks."""

    seed: int = option(0, "Seed of the random weights and clips.")
    clip_seconds: float = option(10.0, "Length of each clip, in seconds.")
    output: str = option("outputs/benchmark.json", "JSON file of the results, rewritten after each variant.")

    def __post_init__(self) -> None:
        require(0.04 <= self.clip_seconds, f"clip_seconds must be at least one frame, 0.04, got {self.clip_seconds}")


@dataclass
class RandomCodecConfig(BenchmarkConfig):
    """Options of benchmarks of the codec; it has random weights, too."""

    codec_config: str = option("", "JSON file of a HiggsAudioV2TokenizerConfig.")
    codec_dir: str = option(
        "outputs/benchmark_codec", "Folder of the codec with random weights, created on first use and kept."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.codec_config), "codec_config is missing: name a JSON file of a HiggsAudioV2TokenizerConfig")


@dataclass
class ModelBenchmarkConfig(BenchmarkConfig):
    """Options of benchmarks of the model; it has random weights, which affect neither speed nor memory."""

    model_config: str = option("", "JSON file of a HiggsAudioV2Config.")
    checkpoint_dir: str = option(
        "outputs/benchmark_model", "Folder of the model with random weights, created on first use and kept."
    )
    only: list[str] = option([], "Names of the variants to measure; empty: all.")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.model_config), "model_config is missing: name a JSON file of a HiggsAudioV2Config")

    def check_names(self, *groups: dict[str, Any]) -> None:
        """Raise `InputError` unless the variants of all groups have distinct names and `only` names existing ones."""
        names = [name for group in groups for name in group]
        require(len(names) > 0, "variants is empty: name at least one")
        require(len(set(names)) == len(names), f"variants: duplicate name in {', '.join(names)}")
        for name in self.only:
            require(name in names, f"only: no variant {name!r}; the variants are {', '.join(names)}")

    def selected(self, variants: dict[str, Any]) -> list[str]:
        """Names of the variants that `only` selects, in the recipe's order."""
        return [name for name in variants if not self.only or name in self.only]


@dataclass
class BenchmarkTrainConfig(ModelBenchmarkConfig):
    """Measure optimizer steps of variants of an sft recipe, on clips of equal length."""

    common: dict[str, Any] = option({}, "Fields of an sft recipe that all variants share.")
    variants: dict[str, dict] = option({}, "Mapping from the name of a variant to its other fields.")
    plain_variants: dict[str, dict] = option(
        {}, "Variants that are run by unmodified transformers: its Trainer, forward, labels and loss."
    )
    text_positions: int = option(60, "Text positions of each sample, including special tokens.")
    warm_steps: int = option(10, "Warm-up steps before timing starts, for compilation and allocation.")
    timed_steps: int = option(30, "Timed optimizer steps.")

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
                f"{name} must be a multiple of {LOG_EVERY}, the logging interval, got {steps}",
            )


@dataclass
class BenchmarkGenerateConfig(ModelBenchmarkConfig):
    """Measure the generation of clips of equal length."""

    dtype: Dtype = option("bfloat16", "Data type of the weights.")
    streams: list[int] = option([1, 8, 16], "Numbers of clips to generate together, with one measurement each.")
    variants: dict[str, dict] = option({}, "Mapping from the name of a variant to its sampling fields of generate.")
    plain: bool = option(True, "Also measure the generate method of transformers, with and without its static cache.")
    text_characters: int = option(60, "Length of each text, in characters.")
    timed_runs: int = option(1, "Equal runs after the first; the fastest counts: others may use the machine, too.")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_names(
            self.variants, dict.fromkeys(("transformers", "transformers_static") if self.plain else (), {})
        )
        for name, values in self.variants.items():
            require_fields(SamplingConfig, values, where=f"variant {name!r}")
        require(self.timed_runs >= 1, f"timed_runs must be positive, got {self.timed_runs}")
        require(bool(self.streams) and min(self.streams) >= 1, f"streams must be positive, got {self.streams}")
        require(self.text_characters >= 1, f"text_characters must be positive, got {self.text_characters}")


@dataclass
class BenchmarkStreamConfig(RandomCodecConfig, ModelBenchmarkConfig):
    """Measure the time to the first audio of streams that begin at the same time; the codec has random weights too."""

    dtype: Dtype = option("bfloat16", "Data type of the model's weights.")
    streams: list[int] = option([1, 16], "Numbers of streams at once, with one measurement each.")
    text_characters: int = option(60, "Length of each text, in characters.")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(not self.only, "only: the benchmark of streams has no variants; set streams")
        require(bool(self.streams) and min(self.streams) >= 1, f"streams must be positive, got {self.streams}")
        require(self.text_characters >= 1, f"text_characters must be positive, got {self.text_characters}")


@dataclass
class BenchmarkTextsConfig(RandomCodecConfig, ModelBenchmarkConfig):
    """Measure many texts of many lengths, each with its own reference clip, from waveforms to wav files."""

    dtype: Dtype = option("bfloat16", "Data type of the model's weights.")
    num_texts: int = option(1088, "Number of texts; Seed-TTS-eval has 1,088 in English.")
    min_seconds: float = option(2.0, "Shortest clip, in seconds; clip_seconds is the longest.")
    ref_seconds: float = option(3.0, "Length of the reference clips, in seconds.")
    characters_per_second: float = option(15.0, "Length of each text, by that of its clip.")
    variants: dict[str, dict] = option({}, "Mapping from the name of a variant to its sampling fields of generate.")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_names(self.variants)
        for name, values in self.variants.items():
            require_fields(SamplingConfig, values, where=f"variant {name!r}")
        require(self.num_texts >= 1, f"num_texts must be positive, got {self.num_texts}")
        require(
            0.04 <= self.min_seconds <= self.clip_seconds,
            f"min_seconds must be from one frame, 0.04, to clip_seconds, got {self.min_seconds}",
        )
        require(self.ref_seconds >= 0.04, f"ref_seconds must be at least one frame, 0.04, got {self.ref_seconds}")


# Arithmetic of the codec. float32: as in `Codec`; tf32: products with 10-bit mantissas; default: torch's default, in
# which only convolutions use tf32; *_compiled: with torch.compile.
ARITHMETIC = ("float32", "default", "tf32", "bfloat16", "float32_compiled", "tf32_compiled")


@dataclass
class BenchmarkEncodeConfig(RandomCodecConfig):
    """Measure encoding clips of equal length by a codec with random weights and evenly used codes."""

    num_clips: int = option(64, "Number of synthetic clips to encode.")
    batch_sizes: list[int] = option([1, 16, 64], "Numbers of clips to encode together, with one measurement each.")
    arithmetic: list[str] = option(
        ["float32"], f"Arithmetic of the codec, with one measurement each: {', '.join(ARITHMETIC)}."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.num_clips >= 1, f"num_clips must be positive, got {self.num_clips}")
        sizes = self.batch_sizes
        require(bool(sizes) and min(sizes) >= 1, f"batch_sizes must be positive, got {sizes}")
        for size in sizes:
            require(self.num_clips % size == 0, f"batch_sizes: {self.num_clips} clips are not a multiple of {size}")
        require(bool(self.arithmetic), "arithmetic is empty: name at least float32")
        for name in self.arithmetic:
            require(name in ARITHMETIC, f"arithmetic: {name!r} is not one of {', '.join(ARITHMETIC)}")
