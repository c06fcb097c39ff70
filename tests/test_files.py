import errno
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from higgs_recipes.errors import InputError
from higgs_recipes.files import atomic_write, explain_full_disk, sha256_file, staged_folder
from higgs_recipes.provenance import git_commit
from tests.helpers.paths import ROOT


def tree(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_staged_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "a" / "result"
    with pytest.raises(RuntimeError), staged_folder(target) as staging:
        (staging / "half.txt").write_text("half")
        raise RuntimeError
    assert list(target.parent.iterdir()) == []

    with staged_folder(target) as staging:
        (staging / "sub").mkdir()
        (staging / "sub" / "whole.txt").write_text("whole")
        assert not target.exists()
    assert tree(tmp_path) == {"a/result/sub/whole.txt": "whole"}


def test_staged_folder_keeps_what_was_there_until_the_new_one_is_complete(tmp_path):
    target = tmp_path / "result"
    target.mkdir()
    with staged_folder(target) as staging:  # an empty folder is free to take
        (staging / "old.txt").write_text("old")

    with pytest.raises(InputError, match="result exists and is not empty.*--overwrite_output_dir"):
        with staged_folder(target):
            pytest.fail("the block must not run")
    with pytest.raises(RuntimeError), staged_folder(target, overwrite=True) as staging:
        (staging / "new.txt").write_text("new")
        raise RuntimeError
    assert tree(tmp_path) == {"result/old.txt": "old"}

    with staged_folder(target, overwrite=True) as staging:
        (staging / "new.txt").write_text("new")
        assert tree(target) == {"old.txt": "old"}
    assert tree(tmp_path) == {"result/new.txt": "new"}
    assert [path.name for path in tmp_path.iterdir()] == ["result"]


def test_staged_folder_puts_the_old_one_back_if_the_new_one_cannot_enter(tmp_path, monkeypatch):
    target = tmp_path / "result"
    target.mkdir()
    (target / "old.txt").write_text("old")
    replace = os.replace

    def refuse_the_new_one(source, destination):
        if Path(source).suffix == ".partial":
            raise PermissionError
        replace(source, destination)

    monkeypatch.setattr(os, "replace", refuse_the_new_one)
    with pytest.raises(PermissionError), staged_folder(target, overwrite=True) as staging:
        (staging / "new.txt").write_text("new")
    assert tree(tmp_path) == {"result/old.txt": "old"}


def test_staged_folder_refuses_a_file_and_points_at_leftovers(tmp_path, caplog):
    (tmp_path / "file").write_text("text")
    with (
        pytest.raises(InputError, match="file is a file, a folder is to be written there"),
        staged_folder(tmp_path / "file"),
    ):
        pytest.fail("the block must not run")

    (tmp_path / ".result[1].12345678.partial").mkdir()
    with caplog.at_level(logging.WARNING), staged_folder(tmp_path / "result[1]"):
        pass
    assert ".result[1].12345678.partial was left by a run that was killed" in caplog.text


def test_atomic_write_gives_the_old_content_or_the_new(tmp_path):
    path = tmp_path / "sub" / "record.json"
    atomic_write(path, "häßlich")
    assert path.read_bytes() == "häßlich".encode()
    atomic_write(path, b"\x00\x01")
    assert path.read_bytes() == b"\x00\x01"
    assert [each.name for each in path.parent.iterdir()] == ["record.json"]


def test_a_kill_during_atomic_write_leaves_the_old_content(tmp_path):
    path = tmp_path / "record.json"
    path.write_text("old")
    code = """
import os, sys
from higgs_recipes.files import atomic_write
def stop_here(descriptor):  # all is written, nothing is named yet
    print("written", flush=True)
    sys.stdin.read()
os.fsync = stop_here
atomic_write(sys.argv[1], "new")
"""
    writer = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert writer.stdout.readline() == b"written\n"
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    assert path.read_text() == "old"


def test_a_full_disk_is_one_message_and_nothing_half_written(small_disk):
    (small_disk / "record.json").write_text("old")
    with pytest.raises(InputError, match=r"disk full at .*small: 0 MB free; make room or choose another folder"):
        atomic_write(small_disk / "record.json", "x" * 2**20)
    with pytest.raises(InputError, match="disk full at .*small"), staged_folder(small_disk / "result") as staging:
        (staging / "big.txt").write_text("x" * 2**20)
    assert tree(small_disk) == {"record.json": "old"}


def test_a_full_disk_is_seen_inside_other_libraries_errors(tmp_path):
    with pytest.raises(InputError, match="disk full at"), explain_full_disk(tmp_path / "not" / "there"):
        try:
            with open("/dev/full", "wb", buffering=0) as file:
                file.write(b"x")
        except OSError as error:
            raise ValueError("could not save") from error
    with pytest.raises(InputError, match="disk full at"), explain_full_disk(tmp_path):
        raise RuntimeError(f"SafetensorError: I/O error: {os.strerror(errno.ENOSPC)} (os error 28)")
    with pytest.raises(RuntimeError, match="something else"), explain_full_disk(tmp_path):
        raise RuntimeError("something else")
    with pytest.raises(InputError, match="disk full at .*inner"), explain_full_disk(tmp_path / "outer"):
        with explain_full_disk(tmp_path / "inner"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_git_commit_names_the_checkout(tmp_path):
    head = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True)
    if head.returncode:
        assert git_commit() is None
    else:
        assert git_commit().removesuffix("-dirty") == head.stdout.strip()


def test_sha256_of_a_file(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    assert sha256_file(tmp_path / "file") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
