"""Config of scripts/fit_codec.py."""

from dataclasses import dataclass

from higgs_recipes.configs.fields import option, require, require_seed
from higgs_recipes.configs.model import Source


@dataclass
class FitCodecConfig:
    """Fit the mean, components and codebooks of a `MelRVQModel` to corpora that encode reads."""

    sources: list[Source] = option([], "Corpora to fit to, with the same syntax as the sources of encode.")
    columns: dict[str, str] | str | None = option(
        None, "Mapping from our column names to those of the corpora, as for encode; null: the names are equal."
    )
    codec_config: str = option("", "JSON file of a MelRVQConfig.")
    seconds_per_speaker: float = option(
        600.0, "Seconds of audio sampled from each speaker, or all audio of a speaker who has less."
    )
    speeds: list[float] = option(
        [1.0], "Speeds of which one is sampled for each clip, which varies pitch and formants beyond the corpus."
    )
    iterations: int = option(20, "Iterations of k-means for each codebook.")
    refinements: int = option(2, "Rounds of joint refinement of all codebooks after k-means.")
    seed: int = option(0, "Seed that selects clips, speeds and the starting points of k-means.")
    output_dir: str = option("outputs/codec", "Folder of the codec: config.json, model.safetensors and fit.json.")
    overwrite_output_dir: bool = option(False, "Replace an existing output_dir.")

    def __post_init__(self) -> None:
        require(bool(self.sources), "sources is empty: name at least one Hub id or folder")
        require(not isinstance(self.columns, str), f"columns must be a mapping in braces, got {self.columns!r}")
        require(bool(self.codec_config), "codec_config is missing: name a JSON file of a MelRVQConfig")
        require(self.seconds_per_speaker > 0, f"seconds_per_speaker must be positive, got {self.seconds_per_speaker}")
        require(
            bool(self.speeds) and all(0.5 <= speed <= 2 for speed in self.speeds),
            f"speeds must be numbers from 0.5 to 2, got {self.speeds}",
        )
        require(self.iterations >= 1, f"iterations must be positive, got {self.iterations}")
        require(self.refinements >= 0, f"refinements must be 0 or positive, got {self.refinements}")
        require_seed(self.seed)
