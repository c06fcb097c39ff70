"""Corpus folders for tests: short tones of different pitch, with a metadata.csv."""

import csv
from pathlib import Path
from typing import Any

import soundfile

from higgs_recipes.configs.corpus import EncodeConfig
from higgs_recipes.constants import SAMPLE_RATE
from tests.helpers.tiny_codec import tiny_codec_folder, tone


def write_tone(
    path: Path, *, seconds: float = 0.5, hertz: float = 220.0, rate: int = SAMPLE_RATE, **kind: str
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, tone(seconds, hertz=hertz, rate=rate).numpy(), rate, **kind)


def write_metadata(folder: Path, rows: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def make_corpus(folder: Path, num_rows: int = 6, *, first_hertz: float = 200.0) -> Path:
    """Rows of different sentences, by two speakers alternately, with clips of 0.4, 0.44 and 0.48 s."""
    rows = []
    for index in range(num_rows):
        name = f"{index:02d}.wav"
        write_tone(folder / name, seconds=0.4 + 0.04 * (index % 3), hertz=first_hertz + 20 * index)
        rows.append({"file_name": name, "text": f"Sentence {index}.", "speaker": ("anna", "bert")[index % 2]})
    write_metadata(folder, rows)
    return folder


def encode_config(folder: Path | str, **fields: Any) -> EncodeConfig:
    """A recipe with the tiny codec and a test split of two rows."""
    if "codec_name_or_path" not in fields:
        fields["codec_name_or_path"] = str(tiny_codec_folder())
    return EncodeConfig(**{"sources": [str(folder)], "test_size": 2} | fields)
