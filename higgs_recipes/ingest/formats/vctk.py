"""VCTK: wav48_silence_trimmed/speaker/utterance_mic1.flac (0.92) or wav48/speaker/utterance.wav, and txt/speaker/."""

import logging
from collections.abc import Iterator
from pathlib import Path

from higgs_recipes.corpus.sources.listing import audio_stem, is_audio_name
from higgs_recipes.corpus.sources.paths import SourceFolder
from higgs_recipes.ingest.audio_files import find_files
from higgs_recipes.ingest.formats.pairs import read_genders, read_pairs
from higgs_recipes.ingest.rows import ImportRow
from higgs_recipes.rejects import Reject


logger = logging.getLogger(__name__)

_AUDIO_FOLDERS = ("wav48_silence_trimmed", "wav48")
_MICROPHONES = ("_mic1", "_mic2")


def read_vctk(source: Path, folder: SourceFolder) -> Iterator[ImportRow | Reject]:
    """Yield the rows with the recordings of the first microphone, or of the second if there is no other.

    Both recorded the same takes. Recordings may have any suffix.
    """
    recordings: list[tuple[str, Path]] = []
    second_microphone: list[tuple[str, Path]] = []
    links = {"follow_links": folder.follow_links}
    for path in _files(source, next((name for name in _AUDIO_FOLDERS if (source / name).is_dir()), "wav48"), **links):
        if is_audio_name(path.name):
            first, second = (audio_stem(path.name).removesuffix(microphone) for microphone in _MICROPHONES)
            is_second = second != audio_stem(path.name)
            (second_microphone if is_second else recordings).append((second if is_second else first, path))
    names = {name for name, _ in recordings}
    only_second = [(name, path) for name, path in second_microphone if name not in names]
    if only_second:
        logger.warning("%s: %d utterances only of the second microphone, used", source, len(only_second))
    genders = read_genders(source / "speaker-info.txt", column=2)
    return read_pairs(
        SourceFolder(source, **links),
        recordings + only_second,
        [(path.stem, path) for path in _files(source, "txt", **links) if path.suffix == ".txt"],
        speaker_of=lambda recording: recording.parent.name,
        genders={f"p{name.removeprefix('p')}": gender for name, gender in genders.items()},  # older tables have no p
    )


def _files(source: Path, name: str, *, follow_links: bool) -> list[Path]:
    """The files in the folders of the speakers."""
    if not (source / name).is_dir():
        return []
    files = find_files(source / name, follow_links=follow_links)
    return [path for path in files if len(path.relative_to(source / name).parts) == 2]
