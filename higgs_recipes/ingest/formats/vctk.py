"""VCTK: wav48_silence_trimmed/speaker/utterance_mic1.flac (0.92) or wav48/speaker/utterance.wav, and txt/speaker/."""

from collections.abc import Iterator
from pathlib import Path

from higgs_recipes.ingest.formats.pairs import read_genders, read_pairs
from higgs_recipes.ingest.rows import ImportRow
from higgs_recipes.rejects import Reject


def read_vctk(source: Path) -> Iterator[ImportRow | Reject]:
    """Rows of the first microphone: the second recorded the same takes, and not those of every speaker."""
    first_microphone = source.glob("wav48_silence_trimmed/*/*_mic1.flac")
    recordings = [(path.stem.removesuffix("_mic1"), path) for path in first_microphone]
    recordings = recordings or [(path.stem, path) for path in source.glob("wav48/*/*.wav")]
    genders = read_genders(source / "speaker-info.txt", column=2)
    return read_pairs(
        source,
        recordings,
        [(path.stem, path) for path in source.glob("txt/*/*.txt")],
        speaker_of=lambda recording: recording.parent.name,
        genders={f"p{name.removeprefix('p')}": gender for name, gender in genders.items()},  # older tables have no p
    )
