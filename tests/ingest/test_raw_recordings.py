"""The long recordings of a recipe: each is read once, with its length and what is missing."""

import logging
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from higgs_recipes.errors import InputError
from higgs_recipes.ingest.raw_recordings import balanced_shares, find_raw_recordings
from higgs_recipes.ingest.segment_corpus import segment_recordings
from higgs_recipes.rejects import RejectCode
from tests.helpers.audio_files import encode, half, of_unknown_length, with_cover, with_data_size, without_info
from tests.helpers.corpus_folder import write_tone
from tests.helpers.import_folder import write_tones
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


def names_of(folder: Path) -> dict[str, str]:
    """The ids of the recordings by their paths."""
    files = find_raw_recordings(segment_config(folder, output_dir=folder.parent / "out", speaker_per_file=True))
    assert len({file.name for file in files}) == len(files)
    return {file.columns["file"]: file.name for file in files}


def test_ids_are_one_to_one_with_files_and_keep_their_scripts(tmp_path):
    folder = tmp_path / "in"
    names = [
        "กิ.wav",
        "กี.wav",
        "take 1.wav",
        "take_1.wav",
        "take.0.wav",
        "take.1.wav",
        "a/b_c.wav",
        "a_b/c.wav",
        "🎉.wav",
    ]
    write_tones(
        folder, *names, unicodedata.normalize("NFD", "bà.wav"), unicodedata.normalize("NFC", "x.flac"), "x.wav"
    )
    ids = names_of(folder)
    assert (ids["กิ.wav"], ids["กี.wav"], ids["take.0.wav"], ids["take.1.wav"]) == ("กิ", "กี", "take.0", "take.1")
    assert ids[unicodedata.normalize("NFD", "bà.wav")] == "bà"
    # None keeps an id that could have been that of another file before this one was added.
    assert ids["x.flac"].startswith("x.flac-") and ids["x.wav"].startswith("x.wav-")
    assert ids["take 1.wav"].startswith("take_1.wav-") and ids["take_1.wav"].startswith("take_1.wav-")


def test_linked_folders_and_names_in_other_encodings_are_read_and_dead_links_are_rejects(tmp_path, caplog):
    folder = write_tones(tmp_path / "in [1]*", "a.wav", "../disk/b.wav", "../disk/sub/c.WAV", "g.wav")
    os.rename(folder / "g.wav", folder / os.fsdecode("录音.wav".encode("gbk")))
    for name, target in {"disk": "../disk", "again": "../disk/sub", "loop": ".", "gone.wav": "nowhere"}.items():
        (folder / name).symlink_to(target)
    files = find_raw_recordings(segment_config(folder, output_dir=tmp_path / "out", follow_links=True))
    assert {file.columns["file"] for file in files if file.flaw is None} >= {"a.wav", "disk/b.wav"}
    assert len([file for file in files if file.flaw is None]) == 4
    (gone,) = [file for file in files if file.flaw is not None]
    reason = f"cannot be read: No such file or directory ({folder / 'gone.wav'})"
    assert (gone.columns["file"], gone.flaw.reason) == ("gone.wav", reason)
    assert "loop: skipped, read already" in caplog.text


def test_links_to_recordings_outside_are_rejects_without_follow_links(tmp_path, caplog):
    folder = write_tones(tmp_path / "in", "a.wav", "../disk/b.wav", "../private.wav")
    (folder / "disk").symlink_to("../disk")
    (folder / "link.wav").symlink_to("../private.wav")
    files = find_raw_recordings(segment_config(folder, output_dir=tmp_path / "out"))
    assert [(file.columns["file"], file.flaw and file.flaw.code) for file in files] == [
        ("a.wav", None),
        ("link.wav", RejectCode.OUTSIDE_FOLDER),
    ]
    assert f"{folder}/disk: skipped, a link to a folder outside" in caplog.text


def test_an_output_dir_in_a_linked_folder_is_an_error(tmp_path):
    folder = write_tones(tmp_path / "in", "a.wav", "../disk/out/audio/b.wav")
    (folder / "disk").symlink_to("../disk")
    with pytest.raises(InputError, match="output_dir .* is linked in the source"):
        find_raw_recordings(segment_config(folder, output_dir=tmp_path / "disk/out", follow_links=True))


def test_shares_have_about_the_same_length():
    shares = balanced_shares([10.0, 1.0, 1.0, 1.0, 9.0, 5.0, 5.0], num_shares=3)
    assert sorted(index for share in shares for index in share) == list(range(7))
    assert balanced_shares([], num_shares=2) == [[], []]
