"""Configs of scripts/encode.py, import_corpus.py and export_corpus.py."""

import re
from dataclasses import dataclass
from math import inf
from typing import Literal, get_args

from higgs_recipes.chatml import Task
from higgs_recipes.configs.fields import option, require, require_seed
from higgs_recipes.configs.model import CodecConfig, HubConfig, Source
from higgs_recipes.constants import CODEC_BATCH_SECONDS, MAX_CLIP_SECONDS


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
# Columns that import reads from the fields of a row.
IMPORT_COLUMNS = (
    *("id", "audio", "text", "speaker", "speaker_name", "language", "gender", "scene", "emotion", "ref_audio"),
    *("ref_text", "ref_speakers", "task", "user_instruction", "quality_score", "original_audio_path"),
)
CONSTANTS = ("speaker", "language", "gender", "scene")


@dataclass
class EncodeConfig(CodecConfig, HubConfig):
    """Encode corpora: what to read, what to keep, how to split it, and where to write it.

    A source is a Hub id, a folder (audiofolder, parquet, tar or save_to_disk) or a mapping of
        path: Hub id or folder.
        name, split: configuration and split ("a+b" for several, "a[:10%]" for a part).
        revision: revision of a Hub dataset.
        files: pattern of the files to read, .parquet or .tar.
        streaming: true downloads, encodes and removes one file of a Hub dataset after the other.
        where: mapping from columns to patterns that a row must match.
        columns: mapping of column names, for this source; "meta.text" is a field of the column meta.
        weight: with weights, rows are sampled without replacement in these proportions until the first source is
            used up; without weights, all rows are taken.
        speaker, language, gender, scene: constant values for all rows.
    """

    sources: list[Source] = option(
        [], "Corpora: Hub ids, folders, or mappings with path and any of split, columns, where, weight, speaker ..."
    )
    columns: dict[str, str] | str | None = option(
        None, "Mapping from our column names to the corpus's, such as {text: sentence}; null: the names are equal."
    )
    output_dir: str = option("outputs/corpus", "Folder of the encoded corpus.")
    overwrite_output_dir: bool = option(False, "Replace a finished corpus in output_dir.")
    tasks: dict[str, float] = option(
        {"single_speaker_smart_voice": 1.0},
        "Mapping from tasks to weights, by which each row without a task column is assigned one; dialogue tasks join "
        "single utterances.",
    )
    ref_in_system: bool = option(
        False, "Put reference clips without transcripts into the system turn instead of into separate turns."
    )
    ref_min_seconds: float = option(2.0, "Minimum length of a sampled reference clip, in seconds.")
    ref_max_seconds: float = option(10.0, "Maximum length of a sampled reference clip, in seconds.")
    dialogue_turns: list[int] = option(
        [2, 4], "Minimum and maximum number of turns of a dialogue joined from single utterances."
    )
    dialogue_gap_seconds: list[float] = option(
        [-0.1, 0.6], "Minimum and maximum silence between joined turns, in seconds; negative: overlap."
    )
    min_seconds: float = option(0.3, "Minimum length of a clip, in seconds; shorter clips are rejected.")
    max_seconds: float = option(30.0, "Maximum length of a clip, in seconds; longer clips are rejected.")
    too_long: Literal["reject", "cut_at_turn"] = option(
        "reject",
        "Handling of dialogues longer than max_seconds: reject them, or cut those with one recording per turn between "
        "turns.",
    )
    max_chars_per_second: float = option(
        40.0, "Maximum characters of the transcript per second; rows with more are rejected."
    )
    test_size: float = option(0.1, "Share (below 1) or number of held-out rows; 0: no test split.")
    split_by: Literal["text", "speaker"] = option(
        "text", "Property that training and test rows never share: text or speaker."
    )
    seed: int = option(0, "Seed of the split and of the mixture of sources.")
    keep_audio: Literal["test", "all", "none"] = option(
        "test", "Rows that keep their recording; evaluation needs the recordings of the test split."
    )
    batch_seconds: float = option(CODEC_BATCH_SECONDS, "Audio per batch of the codec, in seconds.")
    exact_codes: bool = option(
        False, "On a GPU, encode in exact float32, as on a CPU, instead of TF32 as transformers does; slower."
    )
    license: str | None = option(
        None, "Hub identifier of the recordings' license for the dataset card, such as cc-by-4.0; null: unknown."
    )
    hub_dataset_id: str | None = option(None, "Dataset repository to push to; null: the name of output_dir.")
    cache_dir: str | None = option(None, "Cache of codes by content and codec; null: a folder in HF_HOME.")
    dry_run: bool = option(False, "Check the corpus without encoding it, and write a report next to output_dir.")

    def __post_init__(self) -> None:
        CodecConfig.__post_init__(self)
        require(bool(self.sources), "sources is empty: name at least one Hub id or folder")
        require(not isinstance(self.columns, str), f"columns must be a mapping in braces, got {self.columns!r}")
        require(
            0 < self.min_seconds < self.max_seconds <= MAX_CLIP_SECONDS,
            f"min_seconds {self.min_seconds} and max_seconds {self.max_seconds}: need 0 < min_seconds < max_seconds, "
            f"and max_seconds finite, at most {MAX_CLIP_SECONDS}",
        )
        require(
            self.max_chars_per_second > 0, f"max_chars_per_second must be positive, got {self.max_chars_per_second}"
        )
        for task, weight in self.tasks.items():
            require(task in get_args(Task), f"tasks: {task!r} is not one of {', '.join(get_args(Task))}")
            number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
            require(
                number and 0 < weight < inf, f"tasks: weight of {task} is {weight!r}; it must be a positive number"
            )
        require(bool(self.tasks), "tasks is empty: name at least one task and its weight")
        require(
            0 < self.ref_min_seconds < self.ref_max_seconds < inf,
            f"ref_min_seconds {self.ref_min_seconds} and ref_max_seconds {self.ref_max_seconds}: need 0 < "
            "ref_min_seconds < ref_max_seconds",
        )
        for name, lowest in (("dialogue_turns", 2), ("dialogue_gap_seconds", -1.0)):
            bounds = getattr(self, name)
            require(
                len(bounds) == 2 and lowest <= bounds[0] <= bounds[1] < inf,
                f"{name} is {bounds}: need two numbers, the smaller first and not below {lowest}",
            )
        require(
            self.license is None or re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", self.license) is not None,
            f"license is {self.license!r}; use the Hub's identifier, e.g. cc-by-4.0, cc0-1.0, apache-2.0 or other",
        )
        require(self.test_size >= 0, f"test_size must be 0 or positive, got {self.test_size}")
        require(0 < self.batch_seconds < inf, f"batch_seconds must be positive and finite, got {self.batch_seconds}")
        require_seed(self.seed)


def require_constants(sources: list[Source]) -> None:
    """Raise `InputError` unless each source is a path, or a mapping of strings with path and any of `CONSTANTS`."""
    for source in sources:
        if isinstance(source, dict):
            wrong = [key for key in source if key not in ("path", *CONSTANTS)]
            require(not wrong, f"sources: unknown key {wrong}; allowed are path, {', '.join(CONSTANTS)}")
            for key in ("path", *source):
                require(isinstance(source.get(key), str), f"sources: {key} of {source} must be a string")


@dataclass
class ImportConfig:
    """Import a corpus into a folder that encode reads, with metadata.jsonl, audio/ and rejects.jsonl."""

    format: Format | None = option(None, "Format of the sources.")
    sources: list[Source] = option(
        [],
        "Folders of this format (ms_swift, gpt_sovits, f5: list files), or mappings with path and constant speaker, "
        "language, gender or scene, which override those of the rows.",
    )
    columns: dict[str, str] | str | None = option(
        None, "Mapping from our column names to fields of ms_swift or audiofolder, such as {text: transcription}."
    )
    audio_dir: str | None = option(
        None,
        "Folder of all recordings: paths are relative to it, and other paths, such as those of another computer, are "
        "found by their longest end in it; null: the folder of the source.",
    )
    copy_audio: bool = option(
        False, "Copy the recordings; otherwise output_dir links to them, and they must not be moved."
    )
    follow_links: bool = option(
        False,
        "Follow links in the sources that lead outside them; only for folders whose links you made, since those of a "
        "stranger may lead to any file of this machine.",
    )
    min_quality_score: float | None = option(
        None, "Minimum quality_score of a row; rows with a lower one are rejected, rows without one are kept."
    )
    output_dir: str = option("outputs/imported", "Folder of the corpus.")
    overwrite_output_dir: bool = option(False, "Replace an existing output_dir.")

    def __post_init__(self) -> None:
        require(self.format is not None, "format is missing: name the format of the sources")
        require(bool(self.sources), "sources is empty: name at least one folder or list")
        require(not isinstance(self.columns, str), f"columns must be a mapping in braces, got {self.columns!r}")
        for name in self.columns or ():
            require(
                name in IMPORT_COLUMNS, f"columns: unknown column {name!r}; allowed are {', '.join(IMPORT_COLUMNS)}"
            )
        require_constants(self.sources)


@dataclass
class ExportConfig:
    """Export a corpus folder in the format of train-higgs-audio."""

    source: str = option("", "Corpus folder with metadata.jsonl or metadata.csv, such as the output of import.")
    follow_links: bool = option(
        False, "Follow links in the source that lead outside, also those that no import on this machine has made."
    )
    output_dir: str = option("outputs/exported", "Folder of metadata.json, the recordings and their transcripts.")
    overwrite_output_dir: bool = option(False, "Replace an existing output_dir.")

    def __post_init__(self) -> None:
        require(bool(self.source), "source is empty: name a corpus folder")
