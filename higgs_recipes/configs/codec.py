"""The knobs of fit_codec: recordings -> a `mel_rvq` codec."""

from dataclasses import dataclass

from higgs_recipes.configs.fields import option, require, require_seed
from higgs_recipes.configs.model import Source


@dataclass
class FitCodecConfig:
    """Corpora that encode could read -> the mean, components and codebooks of a MelRVQModel."""

    sources: list[Source] = option([], "Corpora, as encode takes them.")
    columns: dict[str, str] | str | None = option(None, "Our column name to the corpus's, as encode takes them.")
    codec_config: str = option("", "JSON file of a MelRVQConfig.")
    seconds_per_speaker: float = option(
        600.0, "Speech drawn of each speaker, so that none outweighs another; of one who has less, all."
    )
    speeds: list[float] = option(
        [1.0],
        "Each clip is heard at one of these speeds, pitch and formants with it, drawn for the clip: the codec then "
        "carries voices that are not in the corpus.",
    )
    iterations: int = option(20, "Of k-means, for each codebook.")
    refinements: int = option(2, "Rounds in which all codebooks move together, after k-means.")
    seed: int = option(0, "Seed of the draws: which clips, their speeds, where k-means starts.")
    output_dir: str = option("outputs/codec", "Folder of the codec: config.json, model.safetensors and fit.json.")
    overwrite_output_dir: bool = option(False, "Replace what stands in output_dir.")

    def __post_init__(self) -> None:
        require(bool(self.sources), "sources is empty: name at least one Hub id or folder")
        require(not isinstance(self.columns, str), f"columns must be a mapping in braces, got {self.columns!r}")
        require(bool(self.codec_config), "codec_config is missing: name a JSON file of a MelRVQConfig")
        require(self.seconds_per_speaker > 0, f"seconds_per_speaker must be positive, got {self.seconds_per_speaker}")
        require(
            bool(self.speeds) and all(0.5 <= speed <= 2 for speed in self.speeds),
            f"speeds is {self.speeds}: need numbers from 0.5 to 2",
        )
        require(self.iterations >= 1, f"iterations must be positive, got {self.iterations}")
        require(self.refinements >= 0, f"refinements must be 0 or positive, got {self.refinements}")
        require_seed(self.seed)
