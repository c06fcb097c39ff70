"""The long recordings of a recipe: found in its folders, named, read once, hashed, and shared out to processes."""

import heapq
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object
from tqdm.auto import tqdm

from higgs_recipes.audio.long_recording import Contents, LongRecording
from higgs_recipes.configs.corpus import CONSTANTS
from higgs_recipes.configs.segment import SegmentConfig
from higgs_recipes.errors import InputError
from higgs_recipes.files import sha256_file


logger = logging.getLogger(__name__)

SUFFIXES = set(".wav .flac .ogg .oga .opus .mp3 .aif .aiff .aifc .au .caf .w64 .m4a .mp4 .aac .wma .webm .mkv".split())


@dataclass(frozen=True)
class RawRecording:
    """A file that its name says is a recording.

    Attributes:
        name: its own among all of the recipe; the ids of its segments begin with it.
        columns: what all its segments have: file, speaker, language, gender, scene.
        digest: SHA-256 of its bytes; "" of one with a flaw.
        seconds: its length; 0 of one with a flaw.
        flaw: why it is not segmented, or None.
        contents: what reading it once has found; None of one with a flaw.
    """

    path: Path
    name: str
    columns: dict[str, Any]
    digest: str = ""
    seconds: float = 0.0
    flaw: str | None = None
    contents: Contents | None = None


def find_raw_recordings(config: SegmentConfig) -> list[RawRecording]:
    """The files of all sources, by source and path; what cannot be read or is there twice has a flaw.

    Raises:
        InputError: a source that is not there or holds no recordings, or output_dir lies in one.
    """
    files: list[RawRecording] = []
    names, first_with = set(), {}
    for index, source in enumerate(config.sources):
        source = {"path": source} if isinstance(source, str) else source
        folder = Path(source["path"]).expanduser()
        columns = {key: source.get(key) for key in CONSTANTS} | {
            "language": source.get("language", config.asr_language)
        }
        paths = _recordings(folder, config)
        for path, (digest, contents, seconds, flaw) in zip(paths, _read_all(paths, source["path"]), strict=True):
            label = os.fsencode(path.relative_to(folder).as_posix()).decode(errors="backslashreplace")
            stem = label.removesuffix(path.suffix)
            name = (f"{index}-" if len(config.sources) > 1 else "") + re.sub(r"[^\w.-]+", "_", stem).lstrip(".")
            while name in names:  # a.wav beside a.mp3
                name += "_"
            names.add(name)
            speaker = stem if config.speaker_per_file else columns["speaker"]
            if flaw is None and first_with.setdefault(digest, label) is not label:
                flaw = f"same recording: {first_with[digest]} has it too"
                digest, contents, seconds = "", None, 0.0
            if contents is not None and contents.flaw is not None:
                logger.warning("%s: %s", label, contents.flaw)
            row = {"file": label} | columns | {"speaker": speaker}
            files.append(RawRecording(path, name, row, digest, seconds, flaw, contents))
    return files


def share_out(seconds: Sequence[float], *, num_shares: int) -> list[list[int]]:
    """The indexes of recordings of these lengths, in shares of about equal length: the longest are dealt first.

    >>> share_out([1.0, 5.0, 2.0, 2.0], num_shares=2)
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
        raise InputError(f"output_dir {config.output_dir} lies in {folder}, whose recordings are read")
    files = [path for path in sorted(folder.rglob("*")) if not (path.is_dir() or path.name.startswith("."))]
    found = [path for path in files if path.suffix.lower() in SUFFIXES]
    if not found:
        raise InputError(
            f"sources: no recordings in {folder}: {len(files)} files, none of them named {', '.join(sorted(SUFFIXES))}"
        )
    if len(found) < len(files):
        logger.warning("%s: %d files are no recordings by their names", folder, len(files) - len(found))
    return found


def _read_all(paths: Sequence[Path], source: str) -> list[tuple[str, Contents | None, float, str | None]]:
    """Digest, contents, seconds and flaw of each file. Each process reads its share."""
    state = PartialState()
    with state.split_between_processes(list(paths)) as share:
        progress = tqdm(share, desc=f"Reading {source}", unit=" files", disable=not state.is_main_process)
        return gather_object([_read(path) for path in progress])


def _read(path: Path) -> tuple[str, Contents | None, float, str | None]:
    try:
        with LongRecording(path) as recording:
            return sha256_file(path), recording.contents, recording.seconds, None
    except InputError as error:
        return "", None, 0.0, str(error)
