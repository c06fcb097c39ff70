"""Files and folders are written completely or not at all."""

import errno
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from higgs_recipes.errors import InputError
from higgs_recipes.files import atomic_write, explain_full_disk, file_inside, sha256_file, staged_folder
from tests.helpers.paths import ROOT


def tree(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_staged_folder_appears_complete_or_not_at_all(tmp_path):
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


def test_staged_folder_keeps_the_old_folder_until_the_new_one_is_complete(tmp_path):
    target = tmp_path / "result"
    target.mkdir()
    with staged_folder(target) as staging:  # an empty folder may be replaced
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


def test_staged_folder_restores_the_old_folder_if_the_new_one_cannot_be_renamed(tmp_path, monkeypatch):
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


def test_staged_folder_refuses_a_file_and_warns_about_leftovers(tmp_path, caplog):
    (tmp_path / "file").write_text("text")
    with (
        pytest.raises(InputError, match="file is a file, expected a folder: remove it or choose"),
        staged_folder(tmp_path / "file"),
    ):
        pytest.fail("the block must not run")

    (tmp_path / ".result[1].12345678.partial").mkdir()
    with caplog.at_level(logging.WARNING), staged_folder(tmp_path / "result[1]"):
        pass
    assert ".result[1].12345678.partial is from a run that was killed or is still writing" in caplog.text


def test_atomic_write_replaces_the_content(tmp_path):
    path = tmp_path / "sub" / "record.json"
    atomic_write(path, "häßlich")
    assert path.read_bytes() == "häßlich".encode()
    atomic_write(path, b"\x00\x01")
    assert path.read_bytes() == b"\x00\x01"
    assert [file.name for file in path.parent.iterdir()] == ["record.json"]


def test_kill_during_atomic_write_keeps_the_old_content(tmp_path):
    path = tmp_path / "record.json"
    path.write_text("old")
    code = """
import os, sys
from higgs_recipes.files import atomic_write
def stop_here(descriptor):  # the content is written, but not renamed yet
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


def test_full_disk_is_one_message_and_leaves_no_partial_files(small_disk):
    (small_disk / "record.json").write_text("old")
    with pytest.raises(InputError, match=r"disk full at .*small: 0 MB free; make room or choose another folder"):
        atomic_write(small_disk / "record.json", "x" * 2**20)
    with pytest.raises(InputError, match="disk full at .*small"), staged_folder(small_disk / "result") as staging:
        (staging / "big.txt").write_text("x" * 2**20)
    assert tree(small_disk) == {"record.json": "old"}


def test_full_disk_is_found_inside_errors_of_other_libraries(tmp_path):
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


def test_sha256_of_a_file(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    assert sha256_file(tmp_path / "file") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_file_inside_a_folder_is_resolved(tmp_path):
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.wav").touch()
    assert file_inside(tmp_path, "clips/a.wav", field="file_name") == (tmp_path / "clips" / "a.wav").resolve()


@pytest.mark.parametrize(
    "relative, message",
    [
        (None, "file_name is None: it must name a file"),
        ("../outside.wav", "file_name is '../outside.wav': it leaves the folder"),
        ("link.wav", "file_name is 'link.wav': it leaves the folder"),
        ("missing.wav", "file_name is 'missing.wav': no such file in"),
    ],
)
def test_file_outside_the_folder_is_refused(tmp_path, relative, message):
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "outside.wav").touch()
    (folder / "link.wav").symlink_to(tmp_path / "outside.wav")
    with pytest.raises(InputError, match=message):
        file_inside(folder, relative, field="file_name")
    with pytest.raises(InputError, match="it leaves the folder"):
        file_inside(folder, str(folder / "link.wav"), field="file_name")
