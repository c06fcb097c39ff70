"""The long recordings of a recipe."""

import os
import unicodedata
from pathlib import Path

import pytest

from higgs_recipes.errors import InputError
from higgs_recipes.ingest.raw_recordings import balanced_shares, find_raw_recordings
from higgs_recipes.ingest.segment_corpus import segment_recordings
from tests.helpers.corpus_folder import write_tone
from tests.helpers.import_folder import write_tones
from tests.helpers.raw_folder import segment_config


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
    files = find_raw_recordings(segment_config(folder, output_dir=tmp_path / "out"))
    assert {file.columns["file"] for file in files if file.flaw is None} >= {"a.wav", "disk/b.wav"}
    assert len([file for file in files if file.flaw is None]) == 4
    (gone,) = [file for file in files if file.flaw is not None]
    assert (gone.columns["file"], gone.flaw.reason) == ("gone.wav", "cannot be read: No such file or directory")
    assert "loop: skipped, read already" in caplog.text


def test_an_output_dir_in_a_linked_folder_is_an_error(tmp_path):
    folder = write_tones(tmp_path / "in", "a.wav", "../disk/out/audio/b.wav")
    (folder / "disk").symlink_to("../disk")
    with pytest.raises(InputError, match="output_dir .* is linked in the source"):
        find_raw_recordings(segment_config(folder, output_dir=tmp_path / "disk/out"))


def test_shares_have_about_the_same_length():
    shares = balanced_shares([10.0, 1.0, 1.0, 1.0, 9.0, 5.0, 5.0], num_shares=3)
    assert sorted(index for share in shares for index in share) == list(range(7))
    assert balanced_shares([], num_shares=2) == [[], []]
