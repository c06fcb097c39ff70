"""Files are written completely or not at all; failures of disks are explained."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from higgs_recipes.errors import DiskError, InputError
from higgs_recipes.files import (
    atomic_write,
    explain_full_disk,
    explain_write_errors,
    file_inside,
    leftovers,
    make_folder,
    real_path,
    sha256_file,
)
from higgs_recipes.output_folder import staged_folder
from tests.helpers.paths import ROOT


def tree(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


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
    with (
        pytest.raises(InputError, match="disk full at .*small"),
        staged_folder(small_disk / "result", kind="test") as staging,
    ):
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


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EBUSY, errno.ENOTDIR, errno.EIO])
def test_failures_of_a_disk_are_one_message_with_the_file(tmp_path, number):
    path = str(tmp_path / "file")
    with pytest.raises(DiskError, match=f"file: {os.strerror(number)}: .*(choose|check)"):
        with explain_write_errors(tmp_path):
            raise OSError(number, os.strerror(number), path)
    with pytest.raises(DiskError, match=f"{tmp_path.name}: {os.strerror(number)}: "), explain_write_errors(tmp_path):
        try:
            raise OSError(number, os.strerror(number))
        except OSError as error:
            raise RuntimeError("could not save") from error
    with pytest.raises(FileNotFoundError), explain_write_errors(tmp_path):
        raise FileNotFoundError(errno.ENOENT, "missing")  # an error of the program


def test_a_read_only_disk_is_one_message(read_only_disk):
    with pytest.raises(DiskError, match=r"record.json.*: Read-only file system: choose a folder on another disk"):
        atomic_write(read_only_disk / "record.json", "text")


def test_leftovers_are_found_by_their_exact_names(tmp_path):
    names = [".out[1].12345678.partial", ".out[1].abcdef01.replaced"]
    others = [".out[1].backup.partial", ".out[1].12345678.partial.txt", ".out1.12345678.partial", "out[1]"]
    for name in names + others:
        (tmp_path / name).touch()
    assert [path.name for path in leftovers(tmp_path / "out[1]", "partial", "replaced")] == names
    assert leftovers(tmp_path / "none" / "out", "partial") == []


def test_a_folder_is_created_with_its_parents_unless_a_part_is_a_file(tmp_path):
    assert make_folder(tmp_path / "a" / "b") == [tmp_path / "a" / "b", tmp_path / "a"]
    assert make_folder(tmp_path / "a" / "b") == []
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "a" / "b"):
        with pytest.raises(InputError, match="/file is a file, expected a folder: remove it or choose another"):
            make_folder(path)


@pytest.mark.parametrize("path, message", [("/", "is the root folder"), ("a\0b", "is not a path: remove")])
def test_what_cannot_be_an_output_is_refused(path, message):
    with pytest.raises(InputError, match=message):
        real_path(path)


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
