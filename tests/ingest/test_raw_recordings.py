"""The long recordings of a recipe: each is read once, with its length and what is missing."""

import logging
import os

import numpy as np
import pytest

from higgs_recipes.errors import InputError
from higgs_recipes.ingest.raw_recordings import find_raw_recordings
from higgs_recipes.ingest.segment_corpus import segment_recordings
from tests.helpers.audio_files import encode, half, of_unknown_length, with_cover, with_data_size, without_info
from tests.helpers.corpus_folder import write_tone
from tests.helpers.raw_folder import segment_config
from tests.helpers.tiny_codec import tone


SECONDS = 6.0


@pytest.fixture
def folder(tmp_path):
    sound = tone(SECONDS) + 0.1 * np.random.default_rng(0).standard_normal(round(SECONDS * 24_000)).clip(-2, 2)
    mp3 = encode(sound, rate=24_000, format="MP3", bitrate_mode="VARIABLE")
    files = {
        "bare.mp3": without_info(mp3),
        "cover.mp3": with_cover(without_info(mp3), size=600_000),
        "gsm.wav": encode(sound, rate=24_000, subtype="GSM610"),
        "not_closed.wav": with_data_size(encode(sound, rate=24_000), 0),
        "of_a_pipe.flac": of_unknown_length(encode(sound, rate=24_000, format="FLAC")),
        "short.mp3": mp3[:-1_000],
        "half.flac": half(encode(0.9 * sound, rate=24_000, format="FLAC")),
        "empty.ogg": b"",
        "rate.wav": encode(sound[:10], rate=2_000_000_000),
        "joined.ogg": 2 * encode(sound[:72_000], rate=24_000, format="OGG"),
    }
    (tmp_path / "in").mkdir()
    for name, content in files.items():
        (tmp_path / "in" / name).write_bytes(content)
    os.mkfifo(tmp_path / "in/pipe.wav")
    return tmp_path / "in"


def test_recordings_have_the_length_that_was_read(folder, caplog):
    with caplog.at_level(logging.WARNING):
        found = {
            file.path.name: file
            for file in find_raw_recordings(segment_config(folder, output_dir=folder.parent / "out"))
        }
    whole = ["bare.mp3", "cover.mp3", "gsm.wav", "not_closed.wav", "of_a_pipe.flac", "joined.ogg"]
    for name in whole:
        file = found.pop(name)
        assert file.flaw is None and file.contents.flaw is None and file.digest
        assert file.seconds == pytest.approx(SECONDS, abs=0.08)
    short, half = found.pop("short.mp3"), found.pop("half.flac")
    for file, least, most in [(short, 5.5, 5.95), (half, 2.5, 3.5)]:
        assert file.flaw is None and least < file.seconds < most
        assert file.contents.flaw == f"truncated: {file.seconds:.2f} s of 6.00 s are there"
        assert f"{file.path.name}: {file.contents.flaw}" in caplog.text
    assert {name: file.flaw.reason.partition(";")[0] for name, file in found.items()} == {
        "empty.ogg": "zero bytes",
        "rate.wav": "sample rate out of range: 2000000000 Hz, the header is broken",
        "pipe.wav": f"cannot be read: it is a pipe, a socket or a device, not a file ({folder / 'pipe.wav'})",
    }
    assert all(file.seconds == 0 and file.contents is None for file in found.values())


def test_a_folder_without_recordings_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("Nothing here.")
    with pytest.raises(InputError, match="no recordings in .*: 1 files, none ends with"):
        find_raw_recordings(segment_config(tmp_path, output_dir=tmp_path.parent / "elsewhere"))


def test_folders_that_cannot_be_read_are_errors(tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(InputError, match="no recordings in .*: 0 files, none ends with .aac, "):
        segment_recordings(segment_config(tmp_path / "in", output_dir=tmp_path / "out"))
    with pytest.raises(InputError, match="sources: no such folder"):
        segment_recordings(segment_config(tmp_path / "nowhere", output_dir=tmp_path / "out"))
    write_tone(tmp_path / "in/a.wav")
    with pytest.raises(InputError, match="output_dir .* is inside the source"):
        segment_recordings(segment_config(tmp_path / "in", output_dir=tmp_path / "in/out"))
