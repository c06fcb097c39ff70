"""The knobs of import and export: other people's corpora into ours, and back."""

from dataclasses import dataclass
from typing import Literal

from higgs_recipes.configs import Source, knob, require


Format = Literal[
    "ms_swift",
    "train_higgs_audio",
    "ljspeech",
    "libritts",
    "vctk",
    "kaldi",
    "audiofolder",
    "gpt_sovits",
    "f5",
]
CONSTANTS = ("speaker", "language", "gender", "scene")


@dataclass
class ImportConfig:
    """A corpus in somebody's layout -> a folder that encode takes: metadata.jsonl, audio/, rejects.jsonl."""

    format: Format | None = knob(None, "Layout of the sources.")
    sources: list[Source] = knob(
        [],
        "Folders of this layout (its list files for ms_swift, gpt_sovits and f5), or mappings with path and any of "
        "constant speaker, language, gender, scene: of one source's rows, whatever they say themselves.",
    )
    columns: dict[str, str] | str | None = knob(
        None, "Our column to a field of the source's rows, e.g. {text: transcription}; ms_swift and audiofolder."
    )
    audio_dir: str | None = knob(
        None, "Folder that paths are relative to and must stay in; default is the source's own folder."
    )
    copy_audio: bool = knob(
        False, "Copy the recordings; else output_dir holds links to them, and they must stay there."
    )
    min_quality_score: float | None = knob(None, "Rows with a lower quality_score, or none, are rejected.")
    output_dir: str = knob("outputs/imported", "Folder of the corpus.")
    overwrite_output_dir: bool = knob(False, "Replace what stands in output_dir.")

    def __post_init__(self) -> None:
        require(self.format is not None, "format is missing: name the layout of the sources")
        require(bool(self.sources), "sources is empty: name at least one folder or list")
        require(not isinstance(self.columns, str), f"columns must be a mapping in braces, got {self.columns!r}")
        for source in self.sources:
            if isinstance(source, dict):
                wrong = [key for key in source if key not in ("path", *CONSTANTS)]
                require(not wrong, f"sources: unknown key {wrong}; allowed are path, {', '.join(CONSTANTS)}")
                for key in ("path", *source):
                    require(isinstance(source.get(key), str), f"sources: {key} of {source} must be a text")


@dataclass
class ExportConfig:
    """A corpus folder (metadata beside recordings) -> the layout of train-higgs-audio."""

    source: str = knob("", "Folder with metadata.jsonl or metadata.csv, as import leaves it.")
    output_dir: str = knob("outputs/exported", "Folder of metadata.json, the recordings and their transcripts.")
    overwrite_output_dir: bool = knob(False, "Replace what stands in output_dir.")

    def __post_init__(self) -> None:
        require(bool(self.source), "source is empty: name a corpus folder")
