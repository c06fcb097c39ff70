"""The knobs of a corpus: encode, import and export."""

import re
from dataclasses import dataclass
from math import inf
from typing import Literal, get_args

from higgs_recipes.chatml import Task
from higgs_recipes.configs.fields import option, require, require_seed
from higgs_recipes.configs.model import CodecConfig, HubConfig, Source
from higgs_recipes.constants import CODEC_BATCH_SECONDS


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
class EncodeConfig(CodecConfig, HubConfig):
    """Corpus -> codes: what to read, what to keep, how to split it, where it goes."""

    sources: list[Source] = option(
        [],
        "Corpora: a Hub id, a folder (audiofolder, parquet, save_to_disk) or a mapping with path and any of name, "
        "split (several: a+b), revision, files (those of a Hub id that match, .parquet or .tar), streaming (true has "
        "one file of a Hub id on the disk at a time: fetched, encoded, removed), where (its columns "
        "to patterns that rows must match), weight, columns, and constant speaker, language, gender, scene. Without "
        "weights all rows are taken; with them, rows are drawn in these proportions until the first corpus is used "
        "up, and no row twice.",
    )
    columns: dict[str, str] | str | None = option(
        None, "Our column name to the corpus's, e.g. {text: sentence, speaker: client_id}; one source can override."
    )
    output_dir: str = option("outputs/corpus", "Folder of the encoded corpus.")
    overwrite_output_dir: bool = option(False, "Replace a finished corpus in output_dir.")
    tasks: dict[str, float] = option(
        {"single_speaker_smart_voice": 1.0},
        "What the rows teach: task to weight. Each row that names none itself, in a column task, is drawn one; a "
        "dialogue task joins single utterances.",
    )
    ref_in_system: bool = option(
        False, "Name reference clips in the system turn, without their texts, and not as turns."
    )
    ref_min_seconds: float = option(2.0, "A reference drawn from the speaker's other clips is at least this long.")
    ref_max_seconds: float = option(10.0, "And at most this long.")
    dialogue_turns: list[int] = option([2, 4], "Fewest and most turns of a dialogue joined from single utterances.")
    dialogue_gap_seconds: list[float] = option(
        [-0.1, 0.6], "Least and longest silence between turns; below 0 they overlap."
    )
    min_seconds: float = option(0.3, "Shorter clips are rejected.")
    max_seconds: float = option(30.0, "Longer clips are rejected.")
    too_long: Literal["reject", "cut_at_turn"] = option(
        "reject",
        "A dialogue whose turns are recordings of their own and that together exceed max_seconds is rejected, or cut "
        "between turns into as many dialogues as it takes. One recording of a dialogue cannot be cut: it is rejected.",
    )
    max_chars_per_second: float = option(40.0, "A transcript that cannot be spoken in its clip is rejected.")
    test_size: float = option(0.1, "Share (below 1) or number of rows held out; 0 is none.")
    split_by: Literal["text", "speaker"] = option(
        "text", "text: no sentence stands on both sides. speaker: no speaker stands on both sides."
    )
    seed: int = option(0, "Seed of the split and of the mixture.")
    keep_audio: Literal["test", "all", "none"] = option(
        "test", "Which rows keep their recording beside the codes; evaluation needs those of the test split."
    )
    batch_seconds: float = option(
        CODEC_BATCH_SECONDS, "Audio encoded together, in seconds; clips in a batch have equal length."
    )
    license: str | None = option(
        None, "License of the recordings by the Hub's identifier, e.g. cc-by-4.0; it stands in the dataset's card."
    )
    hub_dataset_id: str | None = option(None, "Dataset to push to, as user/name; default is output_dir's name.")
    cache_dir: str | None = option(None, "Codes already made, by content and codec; default below HF_HOME.")
    dry_run: bool = option(
        False, "Make no codes: read, check and lay out, and write a report on it beside output_dir."
    )

    def __post_init__(self) -> None:
        CodecConfig.__post_init__(self)
        require(bool(self.sources), "sources is empty: name at least one Hub id or folder")
        require(not isinstance(self.columns, str), f"columns must be a mapping in braces, got {self.columns!r}")
        require(
            0 < self.min_seconds < self.max_seconds < inf,
            f"min_seconds {self.min_seconds} and max_seconds {self.max_seconds}: need 0 < min_seconds < max_seconds, "
            "and max_seconds finite",
        )
        require(
            self.max_chars_per_second > 0, f"max_chars_per_second must be positive, got {self.max_chars_per_second}"
        )
        for task, weight in self.tasks.items():
            require(task in get_args(Task), f"tasks: {task!r} is none of {', '.join(get_args(Task))}")
            number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
            require(
                number and 0 < weight < inf, f"tasks: weight of {task} is {weight!r}; it must be a positive number"
            )
        require(bool(self.tasks), "tasks is empty: name at least one task and its weight")
        require(
            0 < self.ref_min_seconds < self.ref_max_seconds < inf,
            f"ref_min_seconds {self.ref_min_seconds} and ref_max_seconds {self.ref_max_seconds}: need 0 < the "
            "first < the second",
        )
        for name, least in (("dialogue_turns", 2), ("dialogue_gap_seconds", -1.0)):
            bounds = getattr(self, name)
            require(
                len(bounds) == 2 and least <= bounds[0] <= bounds[1] < inf,
                f"{name} is {bounds}: need two numbers, the smaller first and not below {least}",
            )
        require(
            self.license is None or re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", self.license) is not None,
            f"license is {self.license!r}; use the Hub's identifier, e.g. cc-by-4.0, cc0-1.0, apache-2.0 or other",
        )
        require(self.test_size >= 0, f"test_size must be 0 or positive, got {self.test_size}")
        require(0 < self.batch_seconds < inf, f"batch_seconds must be positive and finite, got {self.batch_seconds}")
        require_seed(self.seed)


def require_constants(sources: list[Source]) -> None:
    """Raise `InputError` unless each source is a path, or a mapping of texts with path and any of `CONSTANTS`."""
    for source in sources:
        if isinstance(source, dict):
            wrong = [key for key in source if key not in ("path", *CONSTANTS)]
            require(not wrong, f"sources: unknown key {wrong}; allowed are path, {', '.join(CONSTANTS)}")
            for key in ("path", *source):
                require(isinstance(source.get(key), str), f"sources: {key} of {source} must be a text")


@dataclass
class ImportConfig:
    """A corpus in somebody's layout -> a folder that encode takes: metadata.jsonl, audio/, rejects.jsonl."""

    format: Format | None = option(None, "Layout of the sources.")
    sources: list[Source] = option(
        [],
        "Folders of this layout (its list files for ms_swift, gpt_sovits and f5), or mappings with path and any of "
        "constant speaker, language, gender, scene: of one source's rows, whatever they say themselves.",
    )
    columns: dict[str, str] | str | None = option(
        None, "Our column to a field of the source's rows, e.g. {text: transcription}; ms_swift and audiofolder."
    )
    audio_dir: str | None = option(
        None,
        "Folder of all recordings: paths are relative to it, and other paths, such as those of another computer, are "
        "found by their longest end in it; null: the folder of the source.",
    )
    copy_audio: bool = option(
        False, "Copy the recordings; else output_dir holds links to them, and they must stay there."
    )
    min_quality_score: float | None = option(
        None, "Minimum quality_score of a row; rows with a lower one are rejected, rows without one are kept."
    )
    output_dir: str = option("outputs/imported", "Folder of the corpus.")
    overwrite_output_dir: bool = option(False, "Replace what stands in output_dir.")

    def __post_init__(self) -> None:
        require(self.format is not None, "format is missing: name the layout of the sources")
        require(bool(self.sources), "sources is empty: name at least one folder or list")
        require(not isinstance(self.columns, str), f"columns must be a mapping in braces, got {self.columns!r}")
        require_constants(self.sources)


@dataclass
class ExportConfig:
    """A corpus folder (metadata beside recordings) -> the layout of train-higgs-audio."""

    source: str = option("", "Folder with metadata.jsonl or metadata.csv, as import leaves it.")
    output_dir: str = option("outputs/exported", "Folder of metadata.json, the recordings and their transcripts.")
    overwrite_output_dir: bool = option(False, "Replace what stands in output_dir.")

    def __post_init__(self) -> None:
        require(bool(self.source), "source is empty: name a corpus folder")
