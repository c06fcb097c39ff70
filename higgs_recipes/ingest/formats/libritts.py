"""LibriTTS and LibriTTS-R: [subset/]speaker/chapter/utterance.wav with utterance.normalized.txt beside it."""

from collections.abc import Iterator
from pathlib import Path

from higgs_recipes.ingest.formats.pairs import read_genders, read_pairs
from higgs_recipes.ingest.rows import ImportRow
from higgs_recipes.rejects import Reject


_TRANSCRIPT = ".normalized.txt"
# The tables of LibriTTS and of LibriTTS-R, in the corpus's root: the source itself, or the folder of a subset.
_SPEAKER_TABLES = ("SPEAKERS.txt", "speakers.tsv")


def read_libritts(source: Path) -> Iterator[ImportRow | Reject]:
    genders: dict[str, str] = {}
    for table in (folder / name for folder in (source, source.parent) for name in _SPEAKER_TABLES):
        genders |= read_genders(table, column=1)
    return read_pairs(
        source,
        [(path.stem, path) for path in source.rglob("*.wav")],
        [(path.name.removesuffix(_TRANSCRIPT), path) for path in source.rglob(f"*{_TRANSCRIPT}")],
        speaker_of=lambda recording: recording.parent.parent.name,
        genders=genders,
    )
