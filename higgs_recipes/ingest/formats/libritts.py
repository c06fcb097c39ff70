"""LibriTTS and LibriTTS-R: [subset/]speaker/chapter/utterance.wav with utterance.normalized.txt."""

from collections.abc import Iterator
from pathlib import Path

from higgs_recipes.corpus.sources.listing import audio_stem, is_audio_name
from higgs_recipes.corpus.sources.paths import SourceFolder
from higgs_recipes.ingest.audio_files import find_files
from higgs_recipes.ingest.formats.pairs import read_genders, read_pairs
from higgs_recipes.ingest.rows import ImportRow
from higgs_recipes.rejects import Reject


_TRANSCRIPT = ".normalized.txt"
# Of LibriTTS and of LibriTTS-R, in the root of the corpus: the source or, for a subset, its parent folder.
_SPEAKER_TABLES = ("SPEAKERS.txt", "speakers.tsv")


def read_libritts(source: Path, folder: SourceFolder) -> Iterator[ImportRow | Reject]:
    """Yield the rows of a corpus or of a subset; recordings may have any suffix."""
    genders: dict[str, str] = {}
    for table in (folder / name for folder in (source, source.parent) for name in _SPEAKER_TABLES):
        genders |= read_genders(table, column=1)
    files = find_files(source, follow_links=folder.follow_links)
    return read_pairs(
        SourceFolder(source, follow_links=folder.follow_links),
        [(audio_stem(path.name), path) for path in files if is_audio_name(path.name)],
        [(path.name.removesuffix(_TRANSCRIPT), path) for path in files if path.name.endswith(_TRANSCRIPT)],
        speaker_of=lambda recording: recording.parent.parent.name,
        genders=genders,
    )
