"""Recordings of tests/data/two_voices as a folder to encode."""

import csv
import shutil
from pathlib import Path

from tests.helpers.tiny_codec import CORPUS


def corpus_rows(speaker: str) -> list[dict]:
    """The rows of one speaker in metadata.csv."""
    with (CORPUS / "metadata.csv").open(encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["speaker"] == speaker]


def write_recordings(folder: Path, rows: list[dict]) -> None:
    """Write a new folder with metadata.csv and the audio files of the rows."""
    folder.mkdir()
    with (folder / "metadata.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=rows[0])
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        shutil.copy(CORPUS / row["file_name"], folder)
