"""Recordings that rows name by path: found inside the folder of the source, and nowhere else."""

import os
import shutil
import unicodedata
from pathlib import Path

import pytest

from higgs_recipes.corpus.sources.paths import find_recording, name_in_folder, require_file_inside
from higgs_recipes.errors import InputError
from higgs_recipes.rejects import RejectCode, RejectedRow


@pytest.fixture
def root(tmp_path) -> Path:
    folder = tmp_path / "corpus"
    for name in ("a.wav", "clips/b.wav", "clips/Take 1.wav", "a.flac"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    (tmp_path / "private.wav").write_bytes(b"private")
    return folder


def find(root: Path, name: str, *, folder: Path | None = None) -> bytes:
    return find_recording(name, root=root, folder=folder or root, field="audio").read_bytes()


def refusal(root: Path, name: str) -> tuple[RejectCode, str]:
    with pytest.raises(RejectedRow) as error:
        find(root, name)
    return error.value.reject.code, error.value.reject.reason


@pytest.mark.parametrize(
    "name", ["clips/b.wav", "clips\\b.wav", "./clips//b.wav", "clips/../clips/b.wav", ".\\clips\\b.wav"]
)
def test_a_path_inside_the_folder_is_found_however_it_is_written(root, name):
    assert find(root, name) == b"clips/b.wav"


def test_a_name_with_a_backslash_of_its_own_is_found_first(root):
    (root / "clips\\b.wav").write_bytes(b"its own")
    assert find(root, "clips\\b.wav") == b"its own"


def test_an_absolute_path_is_inside_however_the_source_is_given(root, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(root)
    monkeypatch.chdir(tmp_path)
    for given in (root, Path("corpus"), Path("../" + tmp_path.name + "/corpus"), tmp_path / "link", Path("link")):
        for name in (f"{root}/clips/b.wav", f"{tmp_path}/link/clips/b.wav"):
            assert find(given, name) == b"clips/b.wav"


def test_a_path_is_relative_to_the_folder_of_its_list_and_then_to_the_source(root):
    assert find(root, "b.wav", folder=root / "clips") == b"clips/b.wav"
    assert find(root, "../a.wav", folder=root / "clips") == b"a.wav"
    assert find(root, "clips/b.wav", folder=root / "clips") == b"clips/b.wav"


@pytest.mark.parametrize("listed, stored", [("NFC", "NFD"), ("NFD", "NFC")])
def test_the_unicode_form_of_a_name_does_not_matter(root, listed, stored):
    folder, name = (unicodedata.normalize(stored, text) for text in ("thư mục", "bà"))
    (root / folder).mkdir()
    (root / folder / f"{name}.wav").write_bytes(b"found")
    assert find(root, unicodedata.normalize(listed, "thư mục/bà.wav")) == b"found"


def test_names_of_folders_and_files_are_not_patterns(root):
    for name in ("[a].wav", "*.wav", "a?.wav"):
        (root / name).write_bytes(name.encode())
        assert find(root, name) == name.encode()
    assert refusal(root, "[b].wav")[0] is RejectCode.UNREADABLE_AUDIO


@pytest.mark.parametrize(
    "name, similar",
    [
        ("A.WAV", "'a.wav'"),
        ("clips/Take1.wav", "'Take 1.wav'"),
        ("clips/take_1.wav", "'Take 1.wav'"),
        ("clips/Take 1.wave", "'Take 1.wav'"),
    ],
)
def test_a_missing_recording_is_named_with_similar_names(root, name, similar):
    code, reason = refusal(root, name)
    assert code is RejectCode.UNREADABLE_AUDIO
    assert reason == f"recording: cannot be read: No such file or directory ({root / name}); similar names: {similar}"


def test_a_missing_recording_without_similar_names_is_named(root):
    path = root / "none.wav"
    assert refusal(root, "none.wav")[1] == f"recording: cannot be read: No such file or directory ({path})"
    assert refusal(root, "none/none.wav")[1].endswith("none/none.wav)")


@pytest.mark.parametrize(
    "name",
    ["../private.wav", "..\\private.wav", "clips/../../private.wav", "../none.wav", "/etc/hosts", "{tmp}/private.wav"],
)
def test_a_path_outside_the_folder_is_refused(root, tmp_path, name):
    code, reason = refusal(root, name.format(tmp=tmp_path))
    last = name.replace("\\", "/").rpartition("/")[2]
    assert (code, reason) == (
        RejectCode.OUTSIDE_FOLDER,
        f"recording leaves its folder: {last}; move the recording into it",
    )


def test_a_link_that_leads_out_is_refused_and_one_inside_is_read(root, tmp_path):
    (root / "inside.wav").symlink_to(root / "a.wav")
    (root / "out.wav").symlink_to(tmp_path / "private.wav")
    (root / "chain.wav").symlink_to(root / "out.wav")
    (root / "linked").symlink_to(tmp_path)
    assert find(root, "inside.wav") == b"a.wav"
    for name in ("out.wav", "chain.wav", "linked/private.wav"):
        assert refusal(root, name) == (
            RejectCode.OUTSIDE_FOLDER,
            f"recording leaves its folder: {name} is a link to a file outside; copy the recording into it",
        )


def test_links_of_an_imported_corpus_are_read(root, tmp_path):
    (root / "import.json").write_text("{}")
    (root / "out.wav").symlink_to(tmp_path / "private.wav")
    assert find(root, "out.wav") == b"private"
    assert refusal(root, "../private.wav")[0] is RejectCode.OUTSIDE_FOLDER


def test_links_of_a_snapshot_in_the_hubs_cache_are_read(tmp_path):
    snapshot = tmp_path / "datasets--user--name/snapshots/0123"
    blobs = tmp_path / "datasets--user--name/blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (blobs / "abc").write_bytes(b"blob")
    (snapshot / "a.wav").symlink_to("../../blobs/abc")
    (tmp_path / "private.wav").write_bytes(b"private")
    (snapshot / "b.wav").symlink_to("../../../private.wav")
    assert find(snapshot, "a.wav") == b"blob"
    assert refusal(snapshot, "b.wav")[0] is RejectCode.OUTSIDE_FOLDER


@pytest.mark.parametrize("name", ["clips", ".", "", "pipe.wav"])
def test_only_a_regular_file_is_a_recording(root, name):
    os.mkfifo(root / "pipe.wav")
    code, reason = refusal(root, name)
    assert code is RejectCode.UNREADABLE_AUDIO and reason == f"recording: {name!r} is not a regular file"


@pytest.mark.parametrize("name", ["a\0.wav", "\ud800.wav", "n" * 300 + ".wav", "a.wav/b.wav", "~/a.wav"])
def test_a_name_that_cannot_be_a_file_is_missing(root, name):
    assert refusal(root, name)[0] is RejectCode.UNREADABLE_AUDIO


def test_names_of_other_bytes_are_found_by_their_escapes(root):
    raw = os.fsencode(root) + b"/" + "录音".encode("gbk") + b".wav"
    with open(raw, "wb") as file:
        file.write(b"gbk")
    assert find(root, os.fsdecode(raw).rpartition("/")[2]) == b"gbk"


def test_names_in_the_folder_are_relative_with_slashes(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert name_in_folder(f"{root}/clips/b.wav", Path("corpus")) == "clips/b.wav"
    assert name_in_folder("clips\\b.wav", root) == "clips/b.wav"
    assert name_in_folder("/elsewhere/b.wav", root) == "b.wav"


def test_a_list_that_is_a_link_to_a_file_outside_is_refused(root, tmp_path):
    (root / "metadata.csv").symlink_to(tmp_path / "private.wav")
    with pytest.raises(InputError, match="metadata.csv is a link to a file outside .*corpus: copy the file into"):
        require_file_inside(root / "metadata.csv", root)
    shutil.copy(root / "a.wav", root / "own.csv")
    require_file_inside(root / "own.csv", root)
