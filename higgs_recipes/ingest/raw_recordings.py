"""The long recordings of a recipe: found in its folders, named, opened once, hashed, and split among processes."""

import heapq
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from higgs_recipes.audio.long_recording import LongRecording
from higgs_recipes.configs.corpus import CONSTANTS
from higgs_recipes.configs.segment import SegmentConfig
from higgs_recipes.corpus.rows import file_safe_id
from higgs_recipes.errors import InputError
from higgs_recipes.files import sha256_file
from higgs_recipes.rejects import Reject, RejectCode, RejectedRow, rejected_as


logger = logging.getLogger(__name__)

SUFFIXES = set(".wav .flac .ogg .oga .opus .mp3 .aif .aiff .aifc .au .caf .w64 .m4a .mp4 .aac .wma .webm .mkv".split())


@dataclass(frozen=True)
class RawRecording:
    """A file with the suffix of a recording.

    Attributes:
        name: unique in the recipe; the ids of its segments begin with it.
        columns: the columns that all its segments share: file, speaker, language, gender, scene.
        digest: SHA-256 of its bytes; "" with a flaw.
        seconds: its length; 0 with a flaw.
        flaw: why it cannot be segmented, or None.
    """

    path: Path
    name: str
    columns: dict[str, Any]
    digest: str = ""
    seconds: float = 0.0
    flaw: Reject | None = None


def find_raw_recordings(config: SegmentConfig) -> list[RawRecording]:
    """Find the files of all sources, sorted by source and path; unreadable and duplicate ones have a flaw.

    Raises:
        InputError: a source is missing or contains no recordings, or output_dir is inside a source.
    """
    files: list[RawRecording] = []
    names, first_with = set(), {}
    for index, source in enumerate(config.sources):
        source = {"path": source} if isinstance(source, str) else source
        folder = Path(source["path"]).expanduser()
        columns = {key: source.get(key) for key in CONSTANTS} | {
            "language": source.get("language", config.asr_language)
        }
        for path in tqdm(_recordings(folder, config), desc=f"Reading {source['path']}", unit=" files"):
            label = os.fsencode(path.relative_to(folder).as_posix()).decode(errors="backslashreplace")
            stem = label.removesuffix(path.suffix)
            name = (f"{index}-" if len(config.sources) > 1 else "") + file_safe_id(stem)
            while name in names:  # a.wav beside a.mp3
                name += "_"
            names.add(name)
            speaker = stem if config.speaker_per_file else columns["speaker"]
            digest, seconds, flaw = _opened(path)
            if flaw is None and first_with.setdefault(digest, label) is not label:
                flaw = Reject(RejectCode.SAME_RECORDING, "audio", f"{first_with[digest]} has it too")
                digest, seconds = "", 0.0
            files.append(
                RawRecording(path, name, {"file": label} | columns | {"speaker": speaker}, digest, seconds, flaw)
            )
    return files


def balanced_shares(seconds: Sequence[float], *, num_shares: int) -> list[list[int]]:
    """Split recordings of these lengths into shares of about equal length, the longest first; returns indexes.

    >>> balanced_shares([1.0, 5.0, 2.0, 2.0], num_shares=2)
    [[1], [0, 2, 3]]
    """
    shares: list[list[int]] = [[] for _ in range(num_shares)]
    loads = [(0.0, share) for share in range(num_shares)]
    for index in sorted(range(len(seconds)), key=lambda index: -seconds[index]):
        load, share = loads[0]
        shares[share].append(index)
        heapq.heapreplace(loads, (load + seconds[index], share))
    return [sorted(share) for share in shares]


def _recordings(folder: Path, config: SegmentConfig) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"sources: no such folder: {folder}")
    if Path(config.output_dir).expanduser().resolve().is_relative_to(folder.resolve()):
        raise InputError(f"output_dir {config.output_dir} is inside the source {folder}: choose another one")
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    found = [path for path in files if path.suffix.lower() in SUFFIXES]
    if not found:
        raise InputError(
            f"sources: no recordings in {folder}: {len(files)} files, none ends with {', '.join(sorted(SUFFIXES))}"
        )
    if len(found) < len(files):
        logger.warning("%s: %d files skipped: not a suffix of recordings", folder, len(files) - len(found))
    return found


def _opened(path: Path) -> tuple[str, float, Reject | None]:
    """The digest, the seconds and the flaw of a file."""
    try:
        with rejected_as(RejectCode.UNREADABLE_AUDIO, "audio"), LongRecording(path) as recording:
            return sha256_file(path), recording.seconds, None
    except RejectedRow as error:
        return "", 0.0, error.reject
