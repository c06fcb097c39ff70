"""Paths in lists -> files in the folder of all recordings."""

import logging
import os
import unicodedata
from pathlib import Path

import pytest

from higgs_recipes.errors import InputError
from higgs_recipes.ingest.import_paths import ImportFolder, check_source
from higgs_recipes.rejects import RejectCode, RejectedRow


@pytest.fixture
def root(tmp_path) -> Path:
    folder = tmp_path / "corpus [1]*"
    for name in ("a.wav", "wavs/a.wav", "wavs/deep/b c.wav", "Q: who.wav", "back\\slash.wav", '"quoted".wav'):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (folder / unicodedata.normalize("NFD", "Tiếng/Việt")).mkdir(parents=True)
    (folder / unicodedata.normalize("NFD", "Tiếng/Việt/bà.wav")).touch()
    (tmp_path / "outside.wav").touch()
    return folder


def resolve(root: Path, path, *, field: str = "audio", **options) -> str:
    return str(ImportFolder(root, **options).resolve(path, field=field))


@pytest.mark.parametrize(
    "written, found",
    [
        ("a.wav", "a.wav"),
        (" a.wav ", "a.wav"),
        ("./wavs//a.wav", "wavs/a.wav"),
        ("wavs\\deep\\b c.wav", "wavs/deep/b c.wav"),
        (".\\wavs\\a.wav", "wavs/a.wav"),
        ('"wavs/a.wav"', "wavs/a.wav"),
        ("'wavs\\a.wav' ", "wavs/a.wav"),
        ("wavs/../a.wav", "a.wav"),
        ("../corpus [1]*/wavs/a.wav", "wavs/a.wav"),
        ("wavs/deep/../../../corpus [1]*/a.wav", "a.wav"),
        ("Q: who.wav", "Q: who.wav"),
        ("back\\slash.wav", "back\\slash.wav"),
        ('"quoted".wav', '"quoted".wav'),
    ],
)
def test_paths_inside_the_folder(root, written, found):
    assert resolve(root, written) == found


def test_both_normal_forms_of_a_path_are_one_file(root):
    on_disk = unicodedata.normalize("NFD", "Tiếng/Việt/bà.wav")
    for form in ("NFC", "NFD"):
        assert resolve(root, unicodedata.normalize(form, "Tiếng/Việt/bà.wav")) == on_disk
    assert resolve(root, f"D:\\x\\{unicodedata.normalize('NFC', 'Việt')}\\a.wav", match_ends=True) == "a.wav"


def test_absolute_paths_inside_the_folder_through_links(root, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(root)
    for folder, name in ((root, root), (tmp_path / "link", root), (root, tmp_path / "link")):
        assert resolve(folder, str(name / "wavs/a.wav")) == "wavs/a.wav"
    monkeypatch.chdir(tmp_path)
    assert resolve(Path("corpus [1]*"), str(root / "a.wav")) == "a.wav"
    assert resolve(Path("link"), "../corpus [1]*/a.wav") == "a.wav"


FOREIGN = [
    ("D:\\GPT-SoVITS\\output\\wavs\\deep\\b c.wav", "wavs/deep/b c.wav"),
    ("\\\\server\\share\\wavs\\a.wav", "wavs/a.wav"),
    ("E:/x/y/a.wav", "a.wav"),
    ("/home/someone/wavs/a.wav", "wavs/a.wav"),
    ("/home/someone/a.wav", "a.wav"),
    ("../../elsewhere/wavs/a.wav", "wavs/a.wav"),
    ("output/slicer/a.wav", "a.wav"),
    ("D:\\x\\..\\..\\..\\a.wav", "a.wav"),
]


@pytest.mark.parametrize("written, found", FOREIGN)
def test_paths_of_other_computers_are_found_by_their_longest_end(root, written, found, caplog):
    folder = ImportFolder(root, match_ends=True)
    assert str(folder.resolve(written, field="audio")) == found
    with caplog.at_level(logging.WARNING):
        folder.log_notes()
    assert f"1 paths outside {root} were found by their ends: {written} is {found}" in caplog.text


@pytest.mark.parametrize("written", [written for written, _ in FOREIGN if not written.startswith("output")])
def test_paths_of_other_computers_are_rejected_without_audio_dir(root, written):
    with pytest.raises(RejectedRow, match="recording leaves its folder: .*; set audio_dir") as error:
        resolve(root, written, hint="set audio_dir")
    assert error.value.reject.code == RejectCode.OUTSIDE_FOLDER


@pytest.mark.parametrize("match_ends", [False, True])
@pytest.mark.parametrize("written", ["../outside.wav", "{tmp}/outside.wav", "wavs/../../outside.wav", "/etc/hostname"])
def test_no_path_leaves_the_folder(root, tmp_path, written, match_ends):
    with pytest.raises(RejectedRow, match="leaves its folder"):
        resolve(root, written.format(tmp=tmp_path), match_ends=match_ends)


def test_links_that_lead_outside_are_counted(root, tmp_path, caplog):
    (root / "linked.wav").symlink_to(tmp_path / "outside.wav")
    folder = ImportFolder(root)
    assert [str(folder.resolve(name, field="audio")) for name in ("linked.wav", "a.wav", "linked.wav")][
        0
    ] == "linked.wav"
    folder.log_notes()
    assert f"1 files are links that lead outside {root}, such as linked.wav" in caplog.text


@pytest.mark.parametrize(
    "written, message",
    [
        ("A.WAV", r"recording: cannot be read: No such file or directory \(.*A.WAV\); did you mean 'a.wav'\?"),
        ("wavs/deep/bc.wav", "did you mean 'b c.wav'"),
        ("wavs/deep/b_c.wav", "did you mean 'b c.wav'"),
        ("a.flac", "did you mean 'a.wav'"),
        ("nowhere/a.wav", r"No such file or directory \(.*nowhere/a.wav\)$"),
        ("wavs", "wavs is a folder"),
        ("pipe.wav", "pipe.wav is not a file"),
        ("gone.wav", "gone.wav is a link to nothing"),
        ("x" * 5000, "No such file"),
        ("C:clip.wav", "No such file"),
    ],
)
def test_missing_files_are_explained(root, written, message):
    os.mkfifo(root / "pipe.wav")
    (root / "gone.wav").symlink_to("nowhere.wav")
    with pytest.raises(RejectedRow, match=message) as error:
        resolve(root, written)
    assert error.value.reject.code == RejectCode.UNREADABLE_AUDIO


@pytest.mark.parametrize("written", [None, "", "  ", ".", "/", "''", 7, ["a.wav"], {"path": "a.wav"}, "a\0.wav", True])
def test_other_values_are_not_file_names(root, written):
    with pytest.raises(RejectedRow, match="no file name"):
        resolve(root, written)


def test_half_a_surrogate_pair_is_invalid(root):
    with pytest.raises(RejectedRow, match="invalid Unicode"):
        resolve(root, "\ud83d.wav")


def test_names_that_are_not_utf_8_are_found(root):
    name = os.fsdecode("录音.wav".encode("gbk"))
    (root / name).touch()
    assert resolve(root, name) == name


def test_a_missing_transcript_is_not_called_a_recording(root):
    with pytest.raises(RejectedRow, match="^cannot be read: No such file") as error:
        resolve(root, "a.txt", field="transcript_file")
    assert error.value.reject.code == RejectCode.UNREADABLE_FILE


def test_recordings_are_found_without_their_suffix(root):
    for name in ("wavs/c.FLAC", "wavs/take.1.mp3", "wavs/a.flac", "wavs/d.txt"):
        (root / name).touch()
    folder = ImportFolder(root)
    stems = {
        "wavs/a": "wavs/a.wav",
        "wavs/a.flac": "wavs/a.flac",
        "wavs/c": "wavs/c.FLAC",
        "wavs/take.1": "wavs/take.1.mp3",
    }
    for stem, found in stems.items():
        assert str(folder.find_recording(stem)) == found
    for stem in ("wavs/d", "wavs/take", "wavs/take.0", "../outside", "wavs", "x\0"):
        assert folder.find_recording(stem) is None


@pytest.mark.parametrize("output_dir", [".", "in", "in/../in", "link"])
def test_an_output_folder_that_contains_the_source_is_an_error(tmp_path, monkeypatch, output_dir):
    (tmp_path / "in").mkdir()
    (tmp_path / "link").symlink_to("in")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="output_dir .* contains the source .*in: choose another one"):
        check_source(tmp_path / "in", output_dir)
    check_source(tmp_path / "in", "in/out")
    check_source("link", tmp_path / "out")
