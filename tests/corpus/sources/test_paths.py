"""Recordings that rows name by path: found inside the folder of the source, and nowhere else."""

import logging
import os
import shutil
import unicodedata
from pathlib import Path

import pytest

from higgs_recipes.corpus.sources import link_roots
from higgs_recipes.corpus.sources.paths import LINK_HINT, SourceFolder, name_in_folder, require_file_inside
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
    files = SourceFolder(root, link_hint=LINK_HINT, shows_paths=False)
    return (files.root / files.resolve(name, field="audio", folder=folder)).read_bytes()


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
        ("A.WAV", "'a.wav' or 'a.flac'"),
        ("clips/Take1.wav", "'Take 1.wav'"),
        ("clips/take_1.wav", "'Take 1.wav'"),
        ("clips/Take 1.wave", "'Take 1.wav'"),
    ],
)
def test_a_missing_recording_is_named_with_similar_names(root, name, similar):
    code, reason = refusal(root, name)
    assert code is RejectCode.UNREADABLE_AUDIO
    assert reason == f"recording: cannot be read: No such file or directory ({root / name}); did you mean {similar}?"


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
            f"recording leaves its folder: {name} is a link to a file outside; {LINK_HINT}",
        )


@pytest.fixture
def imported(root, tmp_path, monkeypatch) -> Path:
    """A corpus with a link that an import on this machine has made, and one that it has not."""
    monkeypatch.setattr(link_roots, "RECORDS", tmp_path / "records")
    (tmp_path / "recordings").mkdir()
    (tmp_path / "recordings/b.wav").write_bytes(b"linked")
    (root / "in.wav").symlink_to(tmp_path / "recordings/b.wav")
    (root / "out.wav").symlink_to(tmp_path / "private.wav")
    (root / "import.json").write_text('{"rows": 1}')
    link_roots.record_links(root, {str(tmp_path / "recordings")})
    return root


def test_links_of_an_import_on_this_machine_are_read_and_others_are_not(imported, tmp_path):
    assert find(imported, "in.wav") == b"linked"
    assert refusal(imported, "out.wav")[0] is RejectCode.OUTSIDE_FOLDER
    assert refusal(imported, "../private.wav")[0] is RejectCode.OUTSIDE_FOLDER
    imported.rename(tmp_path / "moved")
    assert find(tmp_path / "moved", "in.wav") == b"linked"


@pytest.mark.parametrize("forged", ["{}", '{"rows": 1, "roots": ["/"]}', '{"rows": 1} ', None])
def test_a_folder_of_a_stranger_cannot_forge_the_record_of_an_import(imported, forged):
    (imported / "import.json").unlink()
    if forged is not None:
        (imported / "import.json").write_text(forged)
    for name in ("in.wav", "out.wav"):
        assert refusal(imported, name)[0] is RejectCode.OUTSIDE_FOLDER


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


@pytest.mark.parametrize("name, kind", [("clips", "a folder"), ("pipe.wav", "not a file")])
def test_only_a_regular_file_is_a_recording(root, name, kind):
    os.mkfifo(root / "pipe.wav")
    code, reason = refusal(root, name)
    assert code is RejectCode.UNREADABLE_AUDIO and reason == f"recording: cannot be read: {root / name} is {kind}"


@pytest.mark.parametrize(
    "name, code",
    [
        *((name, RejectCode.UNREADABLE_AUDIO) for name in ("n" * 300 + ".wav", "a.wav/b.wav", "~/a.wav")),
        *((name, RejectCode.NO_FILE_NAME) for name in ("a\0.wav", ".", "", "/")),
        ("\ud800.wav", RejectCode.INVALID_UNICODE),
    ],
)
def test_a_name_that_cannot_be_a_file_is_rejected(root, name, code):
    assert refusal(root, name)[0] is code


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


@pytest.fixture
def lists(tmp_path) -> Path:
    folder = tmp_path / "corpus [1]*"
    for name in ("a.wav", "wavs/a.wav", "wavs/deep/b c.wav", "Q: who.wav", "back\\slash.wav", '"quoted".wav'):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (folder / unicodedata.normalize("NFD", "Tiếng/Việt")).mkdir(parents=True)
    (folder / unicodedata.normalize("NFD", "Tiếng/Việt/bà.wav")).touch()
    (tmp_path / "outside.wav").touch()
    return folder


def resolve(lists: Path, path, *, field: str = "audio", **options) -> str:
    return str(SourceFolder(lists, **options).resolve(path, field=field))


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
def test_paths_inside_the_folder(lists, written, found):
    assert resolve(lists, written) == found


def test_both_normal_forms_of_a_path_are_one_file(lists):
    on_disk = unicodedata.normalize("NFD", "Tiếng/Việt/bà.wav")
    for form in ("NFC", "NFD"):
        assert resolve(lists, unicodedata.normalize(form, "Tiếng/Việt/bà.wav")) == on_disk
    assert resolve(lists, f"D:\\x\\{unicodedata.normalize('NFC', 'Việt')}\\a.wav", match_ends=True) == "a.wav"


def test_absolute_paths_inside_the_folder_through_links(lists, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(lists)
    for folder, name in ((lists, lists), (tmp_path / "link", lists), (lists, tmp_path / "link")):
        assert resolve(folder, str(name / "wavs/a.wav")) == "wavs/a.wav"
    monkeypatch.chdir(tmp_path)
    assert resolve(Path("corpus [1]*"), str(lists / "a.wav")) == "a.wav"
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
def test_paths_of_other_computers_are_found_by_their_longest_end(lists, written, found, caplog):
    folder = SourceFolder(lists, match_ends=True)
    assert str(folder.resolve(written, field="audio")) == found
    with caplog.at_level(logging.WARNING):
        folder.log_notes()
    assert f"1 paths outside {lists} were found by their ends: {written} is {found}" in caplog.text


@pytest.mark.parametrize("written", [written for written, _ in FOREIGN if not written.startswith("output")])
def test_paths_of_other_computers_are_rejected_without_audio_dir(lists, written):
    with pytest.raises(RejectedRow, match="recording leaves its folder: .*; set audio_dir") as error:
        resolve(lists, written, hint="set audio_dir")
    assert error.value.reject.code == RejectCode.OUTSIDE_FOLDER


@pytest.mark.parametrize("match_ends", [False, True])
@pytest.mark.parametrize("written", ["../outside.wav", "{tmp}/outside.wav", "wavs/../../outside.wav", "/etc/hostname"])
def test_no_path_leaves_the_folder(lists, tmp_path, written, match_ends):
    with pytest.raises(RejectedRow, match="leaves its folder"):
        resolve(lists, written.format(tmp=tmp_path), match_ends=match_ends)


def test_links_that_lead_outside_are_counted_with_follow_links(lists, tmp_path, caplog):
    (lists / "linked.wav").symlink_to(tmp_path / "outside.wav")
    folder = SourceFolder(lists, follow_links=True)
    found = [str(folder.resolve(name, field="audio")) for name in ("linked.wav", "a.wav", "linked.wav")]
    assert found == ["linked.wav", "a.wav", "linked.wav"] and folder.linked == {str(tmp_path)}
    folder.log_notes()
    assert f"1 files are links that lead outside {lists}, such as linked.wav" in caplog.text


def test_links_that_lead_outside_are_refused_by_name(lists, tmp_path):
    (lists / "linked.wav").symlink_to(tmp_path / "outside.wav")
    (lists / "disk").symlink_to(tmp_path)
    for name in ("linked.wav", "disk/outside.wav", "D:\\x\\linked.wav"):
        with pytest.raises(RejectedRow, match="is a link to a file outside; .*set follow_links: true") as error:
            resolve(lists, name, match_ends=True)
        assert error.value.reject.code == RejectCode.OUTSIDE_FOLDER
    with pytest.raises(RejectedRow, match="transcript leaves its folder: linked.wav"):
        SourceFolder(lists).check_link(lists / "linked.wav", field="text")
    SourceFolder(lists).check_link(lists / "a.wav", field="text")


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
def test_missing_files_are_explained(lists, written, message):
    os.mkfifo(lists / "pipe.wav")
    (lists / "gone.wav").symlink_to("nowhere.wav")
    with pytest.raises(RejectedRow, match=message) as error:
        resolve(lists, written)
    assert error.value.reject.code == RejectCode.UNREADABLE_AUDIO


@pytest.mark.parametrize("written", [None, "", "  ", ".", "/", "''", 7, ["a.wav"], {"path": "a.wav"}, "a\0.wav", True])
def test_other_values_are_not_file_names(lists, written):
    with pytest.raises(RejectedRow, match="no file name"):
        resolve(lists, written)


def test_half_a_surrogate_pair_is_invalid(lists):
    with pytest.raises(RejectedRow, match="invalid Unicode"):
        resolve(lists, "\ud83d.wav")


def test_names_that_are_not_utf_8_are_found(lists):
    name = os.fsdecode("录音.wav".encode("gbk"))
    (lists / name).touch()
    assert resolve(lists, name) == name


def test_a_missing_transcript_is_not_called_a_recording(lists):
    with pytest.raises(RejectedRow, match="^cannot be read: No such file") as error:
        resolve(lists, "a.txt", field="transcript_file")
    assert error.value.reject.code == RejectCode.UNREADABLE_FILE


def test_recordings_are_found_without_their_suffix(lists):
    for name in ("wavs/c.FLAC", "wavs/take.1.mp3", "wavs/a.flac", "wavs/d.txt"):
        (lists / name).touch()
    folder = SourceFolder(lists)
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
