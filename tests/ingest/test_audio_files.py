"""Files of recordings: suffixes, linked and hidden folders."""

import os

import pytest

from higgs_recipes.errors import InputError
from higgs_recipes.ingest.audio_files import find_files


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def test_linked_folders_are_entered_once_and_loops_are_not(tmp_path, caplog):
    root, other = tmp_path / "in", tmp_path / "other disk"
    for path in (root / "b/1.wav", root / "a.wav", other / "x.wav", other / "deep/y.wav"):
        touch(path)
    links = {"self": ".", "up": "..", "again": "b", "disk": "../other disk", "z": "../other disk/deep", "loop": "loop"}
    for name, target in links.items():
        os.symlink(target, root / name)
    os.symlink("../in", other / "back")
    names = [str(path.relative_to(root)) for path in find_files(root, follow_links=True)]
    assert names == sorted(["a.wav", "b/1.wav", "disk/deep/y.wav", "disk/x.wav", "loop"])
    skipped = [record.args[0].relative_to(root).as_posix() for record in caplog.records]
    assert sorted(skipped) == ["again", "disk/back", "self", "up", "z"]


def test_links_to_folders_outside_are_skipped_and_named(tmp_path, caplog):
    touch(tmp_path / "in/a.wav")
    touch(tmp_path / "other/b.wav")
    os.symlink("../other", tmp_path / "in/linked")
    assert find_files(tmp_path / "in", follow_links=False) == [tmp_path / "in/a.wav"]
    assert f"{tmp_path}/in/linked: skipped, a link to a folder outside: name that folder as a source" in caplog.text


def test_a_linked_source_is_a_source(tmp_path):
    touch(tmp_path / "real/a.wav")
    os.symlink("real", tmp_path / "link")
    assert find_files(tmp_path / "link", follow_links=False) == [tmp_path / "link/a.wav"]


def test_hidden_files_are_skipped_and_hidden_folders_are_logged(tmp_path, caplog):
    for name in ("a.wav", "._a.wav", ".cache/b.wav"):
        touch(tmp_path / name)
    os.symlink("nowhere", tmp_path / "gone.wav")
    assert [path.name for path in find_files(tmp_path, follow_links=False)] == ["a.wav", "gone.wav"]
    assert [record.getMessage() for record in caplog.records] == [f"{tmp_path}/.cache: skipped, hidden folder"]


def test_folders_with_the_characters_of_patterns(tmp_path):
    touch(tmp_path / "a[1]*/b?/c.wav")
    touch(tmp_path / "a1x/b?/d.wav")
    assert find_files(tmp_path / "a[1]*", follow_links=False) == [tmp_path / "a[1]*/b?/c.wav"]


def test_an_unreadable_folder_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    listdir = os.listdir

    def denied(path):
        if path == tmp_path / "a":
            raise PermissionError(13, "Permission denied")
        return listdir(path)

    monkeypatch.setattr(os, "listdir", denied)
    with pytest.raises(InputError, match="a: cannot be read: Permission denied"):
        find_files(tmp_path, follow_links=False)
