"""Result folders appear complete or not at all, and only complete results of the same kind are replaced."""

import json
import logging
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from higgs_recipes import output_folder
from higgs_recipes.errors import InputError
from higgs_recipes.output_folder import FILE_LIST, check_output_dir, named_paths, remove_partial_files, staged_folder


def tree(folder: Path) -> dict[str, str]:
    """The files below a folder, other than lists of results."""
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and path.name != FILE_LIST
    }


def make(target: Path, *, overwrite: bool = False, kind: str = "test", **files: str) -> None:
    with staged_folder(target, kind=kind, overwrite=overwrite) as staging:
        for name, content in files.items():
            (staging / f"{name}.txt").write_text(content)


def refuse(target: Path, message: str, **options) -> None:
    """Check that a folder is not replaced and keeps all that it has."""
    before = tree(target)
    with pytest.raises(InputError, match=message):
        check_output_dir(target, **{"kind": "test", "overwrite": True} | options)
    with pytest.raises(InputError, match=message):
        with staged_folder(target, **{"kind": "test", "overwrite": True} | options):
            pytest.fail("the block must not run")
    assert tree(target) == before


@pytest.fixture
def result(tmp_path) -> Path:
    make(tmp_path / "result", old="old")
    return tmp_path / "result"


def test_staged_folder_appears_complete_or_not_at_all(tmp_path):
    target = tmp_path / "a" / "result"
    with pytest.raises(RuntimeError), staged_folder(target, kind="test") as staging:
        (staging / "half.txt").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []

    with staged_folder(target, kind="test") as staging:
        (staging / "sub").mkdir()
        (staging / "sub" / "whole.txt").write_text("whole")
        assert not target.exists()
    assert tree(tmp_path) == {"a/result/sub/whole.txt": "whole"}
    assert [path.name for path in target.parent.iterdir()] == ["result"]


@pytest.mark.parametrize("can_exchange", [True, False])
def test_an_old_result_is_kept_until_the_new_one_is_complete(tmp_path, monkeypatch, can_exchange):
    if not can_exchange:
        monkeypatch.setattr(output_folder, "_exchange", lambda one, two: False)
    target = tmp_path / "result"
    target.mkdir()
    make(target, old="old")  # an empty folder may be replaced
    with pytest.raises(InputError, match="result exists and is not empty.*--overwrite_output_dir"):
        make(target, new="new")
    with pytest.raises(RuntimeError), staged_folder(target, kind="test", overwrite=True) as staging:
        (staging / "new.txt").write_text("new")
        raise RuntimeError
    assert tree(tmp_path) == {"result/old.txt": "old"}

    with staged_folder(target, kind="test", overwrite=True) as staging:
        (staging / "new.txt").write_text("new")
        assert tree(target) == {"old.txt": "old"}
    assert tree(tmp_path) == {"result/new.txt": "new"}
    assert [path.name for path in tmp_path.iterdir()] == ["result"]


def test_a_result_that_cannot_be_renamed_is_kept(tmp_path, monkeypatch, result):
    replace = os.replace

    def refuse_the_name(source, destination):
        if Path(destination) == result and Path(source).suffix == ".partial":
            raise OSError(16, "Device or resource busy")
        replace(source, destination)

    monkeypatch.setattr(output_folder, "_exchange", lambda one, two: False)
    monkeypatch.setattr(os, "replace", refuse_the_name)
    with pytest.raises(
        InputError, match="result cannot be written: .*busy.* The complete result is in .*/result-"
    ) as e:
        make(result, overwrite=True, new="new")
    kept = Path(str(e.value).rpartition(" ")[2])
    assert tree(tmp_path) == {"result/old.txt": "old", f"{kept.name}/new.txt": "new"}


def test_files_that_are_not_of_the_result_are_named_and_never_deleted(result):
    (result / "notes.txt").write_text("mine")
    (result / ".env").write_text("secret")
    (result / "sub").mkdir()
    refuse(result, r"contains files that are not of the result: .env, notes.txt, sub; move them, or choose another")
    for number in range(9):
        (result / f"{number}.wav").touch()
    refuse(result, "not of the result: .env, 0.wav, 1.wav, 2.wav, 3.wav and 7 more; move")


def test_a_file_that_comes_while_the_run_works_is_kept(result, tmp_path):
    with pytest.raises(InputError, match="not of the result: notes.txt.* The complete result is in ") as error:
        with staged_folder(result, kind="test", overwrite=True) as staging:
            (staging / "new.txt").write_text("new")
            (result / "notes.txt").write_text("mine")
    kept = Path(str(error.value).rpartition(" ")[2])
    assert tree(result) == {"old.txt": "old", "notes.txt": "mine"} and tree(kept) == {"new.txt": "new"}


def test_a_file_that_comes_as_the_result_is_replaced_is_kept(result, tmp_path, monkeypatch, caplog):
    swap = output_folder._swap

    def late_file(staging, path):
        (path / "notes.txt").write_text("mine")
        return swap(staging, path)

    monkeypatch.setattr(output_folder, "_swap", late_file)
    with caplog.at_level(logging.WARNING):
        make(result, overwrite=True, new="new")
    (kept,) = tmp_path.glob("result-kept-*")
    assert tree(tmp_path) == {"result/new.txt": "new", f"{kept.name}/notes.txt": "mine"}
    assert f"files that are not of its result; they are in {kept}" in caplog.text


def test_links_in_a_result_are_deleted_and_not_followed(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a.wav").write_text("recording")
    target = tmp_path / "result"
    with staged_folder(target, kind="test") as staging:
        (staging / "a.wav").symlink_to(tmp_path / "source" / "a.wav")
        (staging / "all").symlink_to(tmp_path / "source")
    make(target, overwrite=True, new="new")
    assert tree(tmp_path) == {"result/new.txt": "new", "source/a.wav": "recording"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["result", "source"]


@pytest.mark.parametrize(
    "record",
    [
        None,
        "[",
        "[]",
        '{"kind": "test", "files": []}',
        '{"project": "other", "kind": "test", "files": ["run.json"]}',
        '{"project": "higgs_recipes", "kind": "test", "files": "run.json"}',
        '{"project": "higgs_recipes", "kind": "test", "files": [1]}',
        '{"project": "higgs_recipes", "kind": 1, "files": []}',
    ],
)
def test_folders_without_a_record_of_this_project_are_refused(tmp_path, record):
    folder = tmp_path / "experiment"
    folder.mkdir()
    (folder / "run.json").write_text('{"method": "lora", "steps": 3}')
    if record is not None:
        (folder / FILE_LIST).write_text(record)
    refuse(folder, "experiment cannot be replaced: it is not a complete result of this version")


def test_a_list_that_names_files_elsewhere_deletes_nothing(tmp_path, result):
    (tmp_path / "precious.txt").write_text("mine")
    (result / "sub").symlink_to(tmp_path)
    record = json.loads((result / FILE_LIST).read_text())
    record["files"] += ["../precious.txt", str(tmp_path / "precious.txt"), "sub", "sub/precious.txt"]
    (result / FILE_LIST).write_text(json.dumps(record))
    make(result, overwrite=True, new="new")
    assert tree(tmp_path) == {"result/new.txt": "new", "precious.txt": "mine"}


def test_a_result_of_another_kind_is_refused(result):
    refuse(result, "result cannot be replaced: it is a result of test, not of generate", kind="generate")


def test_a_source_and_its_parents_are_refused(result, tmp_path):
    for source in (result, result / "old.txt"):
        refuse(result, "output_dir .*result contains the source", inputs=[source])
    make(result, overwrite=True, new="new")
    with staged_folder(result, kind="test", overwrite=True, inputs=[tmp_path, tmp_path / "resulting"]):
        pass


def test_the_working_folder_and_home_are_refused(tmp_path, monkeypatch):
    make(tmp_path / "a", inner="text")
    make(tmp_path / "a" / "b", old="old")
    record = json.loads((tmp_path / "a" / FILE_LIST).read_text())
    (tmp_path / "a" / FILE_LIST).write_text(
        json.dumps(record | {"files": ["inner.txt", "b/old.txt", f"b/{FILE_LIST}"]})
    )
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path / "a" / "b")
        for folder in (tmp_path / "a", tmp_path / "a" / "b", Path("."), Path("..")):
            refuse(folder, "is or contains the working folder; choose a folder in it")
    monkeypatch.setenv("HOME", str(tmp_path / "a" / "b"))
    refuse(tmp_path / "a", "is or contains the home folder; choose a folder in it")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(InputError, match="is or contains the working folder"):
        check_output_dir(".", kind="test")


def test_a_link_is_refused(result, tmp_path):
    (tmp_path / "link").symlink_to(result)
    refuse(tmp_path / "link", "it is a link; choose .*/result or another output_dir")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link2").symlink_to(tmp_path / "empty")
    make(tmp_path / "link2", new="new")  # outputs may be linked to another disk
    assert tree(tmp_path / "empty") == {"new.txt": "new"} and (tmp_path / "link2").is_symlink()


def test_a_mount_point_is_refused_before_the_work(small_disk, tmp_path):
    for overwrite in (False, True):
        with pytest.raises(
            InputError, match="small is a mount point; choose a folder in it as output_dir: .*/small/res"
        ):
            with staged_folder(small_disk, kind="test", overwrite=overwrite):
                pytest.fail("the block must not run")
    make(small_disk / "result", old="old")
    (small_disk / "result" / "old").mkdir()
    subprocess.run(["mount", "--bind", small_disk / "result", small_disk / "result" / "old"], check=True)
    try:
        refuse(small_disk / "result", "result/old is a mount point")
        with pytest.raises(InputError, match="old is a mount point"):  # on the same disk, which os.path.ismount misses
            check_output_dir(small_disk / "result" / "old", kind="test", overwrite=True)
    finally:
        subprocess.run(["umount", small_disk / "result" / "old"], check=True)


def test_places_that_cannot_be_written_are_refused_before_the_work(tmp_path, read_only_disk):
    (tmp_path / "file").write_text("text")
    for path, message in (
        (tmp_path / "file", "file is a file, expected a folder: remove it or choose another output_dir"),
        (tmp_path / "file" / "a" / "result", "file is a file, expected a folder: remove it or choose another"),
        (read_only_disk / "result", "read_only/.*: Read-only file system: choose a folder on another disk"),
        (read_only_disk / "a" / "result", "read_only/a.*: Read-only file system"),
        (tmp_path / ("a" * 300), "File name too long: choose a shorter path"),
    ):
        with pytest.raises(InputError, match=message), staged_folder(path, kind="test"):
            pytest.fail("the block must not run")
    assert tree(tmp_path) == {"file": "text"}


def test_leftovers_of_killed_runs_are_removed(tmp_path, caplog):
    (tmp_path / ".result[1].12345678.partial").mkdir()
    (tmp_path / ".result[1].12345678.partial" / "half.txt").touch()
    (tmp_path / ".result[1].12345679.partial").write_text("half")
    (tmp_path / ".result.12345678.partial").mkdir()  # of another output folder
    with caplog.at_level(logging.INFO):
        make(tmp_path / "result[1]", new="new")
    assert ".result[1].12345678.partial is from a run that was killed; it is removed" in caplog.text
    assert sorted(path.name for path in tmp_path.iterdir()) == [".result.12345678.partial", "result[1]"]


def test_partial_files_in_a_folder_are_removed(tmp_path):
    for name in (".run.json.12345678.partial", ".mine.partial", "run.json"):
        (tmp_path / name).touch()
    remove_partial_files(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mine.partial", "run.json"]


@dataclass
class Recipe:
    output_dir: str
    base: str
    text: list[str] = field(default_factory=lambda: ["Hello.", "", "a\0b", "x" * 5000])
    sources: list = field(default_factory=list)


def test_paths_that_a_recipe_names_are_its_inputs(tmp_path, monkeypatch):
    for name in ("base", "one", "two", "out"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("two")
    recipe = Recipe(output_dir="out", base="base", sources=["user/one", {"path": "link", "speaker": "a"}, "one"])
    assert sorted(named_paths(recipe)) == [tmp_path / "base", tmp_path / "one", tmp_path / "two"]
