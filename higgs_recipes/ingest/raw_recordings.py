"""The long recordings of a recipe: found in its folders, named, read once, hashed, and split among processes."""

import heapq
import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object
from tqdm.auto import tqdm

from higgs_recipes.audio.long_recording import Contents, LongRecording
from higgs_recipes.configs.corpus import CONSTANTS
from higgs_recipes.configs.model import source_mapping
from higgs_recipes.configs.segment import SegmentConfig
from higgs_recipes.corpus.rows import file_safe_id, hashed_id
from higgs_recipes.corpus.sources.listing import AUDIO_SUFFIXES, audio_stem, is_audio_name
from higgs_recipes.corpus.sources.paths import SourceFolder
from higgs_recipes.errors import InputError
from higgs_recipes.files import sha256_file
from higgs_recipes.ingest.audio_files import find_files
from higgs_recipes.ingest.source_check import check_source
from higgs_recipes.rejects import Reject, RejectCode, RejectedRow, rejected_as


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RawRecording:
    """A file with the suffix of a recording.

    Attributes:
        name: unique in the recipe; the ids of its segments begin with it.
        columns: the columns that all its segments share: file, speaker, language, gender, scene.
        digest: SHA-256 of its bytes; "" with a flaw.
        seconds: its length; 0 with a flaw.
        flaw: why it cannot be segmented, or None.
        contents: the results of reading it once; None with a flaw.
    """

    path: Path
    name: str
    columns: dict[str, Any]
    digest: str = ""
    seconds: float = 0.0
    flaw: Reject | None = None
    contents: Contents | None = None


def find_raw_recordings(config: SegmentConfig) -> list[RawRecording]:
    """Find the files of all sources, sorted by source and path; unreadable and duplicate ones have a flaw.

    Raises:
        InputError: a source is missing or contains no recordings, or output_dir is inside a source.
    """
    files: list[RawRecording] = []
    first_with: dict[str, str] = {}
    for index, source in enumerate(map(source_mapping, config.sources)):
        folder = Path(os.path.expanduser(source["path"]))
        columns = {key: source.get(key) for key in CONSTANTS} | {"language": config.language_of(source)}
        paths, inside = _recordings(folder, config), SourceFolder(folder, follow_links=config.follow_links)
        labels = [os.fsencode(path.relative_to(folder)).decode(errors="backslashreplace") for path in paths]
        prefix = f"{index}-" if len(config.sources) > 1 else ""
        recordings = zip(paths, labels, _unique_ids(labels), _read_all(paths, inside, source["path"]), strict=True)
        for path, label, name, (digest, contents, seconds, flaw) in recordings:
            name = prefix + name
            speaker = audio_stem(label) if config.speaker_per_file else columns["speaker"]
            if flaw is None and first_with.setdefault(digest, label) is not label:
                flaw = Reject(RejectCode.SAME_RECORDING, "audio", f"{first_with[digest]} has it too")
                digest, contents, seconds = "", None, 0.0
            if contents is not None and contents.flaw is not None:
                logger.warning("%s: %s", label, contents.flaw)
            row = {"file": label} | columns | {"speaker": speaker}
            files.append(RawRecording(path, name, row, digest, seconds, flaw, contents))
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
    if not os.path.isdir(folder):
        raise InputError(f"sources: no such folder: {folder}")
    check_source(folder, config.output_dir)
    output_dir = Path(os.path.realpath(os.path.expanduser(config.output_dir)))
    if output_dir.is_relative_to(os.path.realpath(folder)):
        raise InputError(f"output_dir {config.output_dir} is inside the source {folder}: choose another one")
    files = find_files(folder, follow_links=config.follow_links)
    found = [path for path in files if is_audio_name(path.name)]
    if not found:
        suffixes = ", ".join(sorted(AUDIO_SUFFIXES))
        raise InputError(f"sources: no recordings in {folder}: {len(files)} files, none ends with {suffixes}")
    if any(Path(os.path.realpath(path)).is_relative_to(output_dir) for path in found):
        raise InputError(f"output_dir {config.output_dir} is linked in the source {folder}: choose another one")
    if len(found) < len(files):
        logger.warning("%s: %d files skipped: not a suffix of recordings", folder, len(files) - len(found))
    return found


def _unique_ids(labels: Sequence[str]) -> list[str]:
    """The id of each recording: its path without the suffix, with a hash of the whole path if several share it."""
    ids = [file_safe_id(audio_stem(label)) for label in labels]
    counts = Counter(ids)
    return [hashed_id(label) if counts[name] > 1 else name for name, label in zip(ids, labels, strict=True)]


def _read_all(
    paths: Sequence[Path], folder: SourceFolder, source: str
) -> list[tuple[str, Contents | None, float, Reject | None]]:
    """The digest, contents, seconds and flaw of each file. Each process reads its share."""
    state = PartialState()
    with state.split_between_processes(list(paths)) as share:
        progress = tqdm(share, desc=f"Reading {source}", unit=" files", disable=not state.is_main_process)
        return gather_object([_read(path, folder) for path in progress])


def _read(path: Path, folder: SourceFolder) -> tuple[str, Contents | None, float, Reject | None]:
    try:
        folder.check_link(path, field="audio")
        with rejected_as(RejectCode.UNREADABLE_AUDIO, "audio"), LongRecording(path) as recording:
            return sha256_file(path), recording.contents, recording.seconds, None
    except RejectedRow as error:
        return "", None, 0.0, error.reject
    except OSError as error:
        detail = f"cannot be read: {error.strerror}"
        return "", None, 0.0, Reject(RejectCode.UNREADABLE_AUDIO, "audio", detail)
