"""Two runs with one output folder: the second is refused, whatever the first is doing."""

import json
import os
import signal
import subprocess

import pytest

from higgs_recipes.errors import InputError
from higgs_recipes.files import hidden_sibling
from higgs_recipes.run_lock import LOCK, PROBE, lock_output
from tests.helpers.forked_python import Python


HOLD = """
import sys, time
from higgs_recipes.run_lock import lock_output
sys.argv = ["scripts/sft.py", "--hub_token", "hf_secret", "--token=hf_secret", "--seed", "3"]
with lock_output({path!r}):
    print("locked", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other_run(tmp_path):
    """Another process, which has the lock of tmp_path/out."""
    code = HOLD.format(path=str(tmp_path / "out"))
    process = Python("-c", code, env=dict(os.environ), stdout=subprocess.PIPE)
    assert process.stdout.readline() == "locked\n"
    yield process
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
        process.wait()
    process.stdout.close()


@pytest.mark.parametrize("in_place", [False, True])
def test_a_second_run_is_refused_with_the_name_of_the_first_until_it_ends(other_run, tmp_path, in_place):
    with pytest.raises(InputError) as error, lock_output(tmp_path / "out", in_place=in_place):
        pytest.fail("the block must not run")
    message = str(error.value)
    assert f"{tmp_path / 'out'} is in use by another run (process " in message
    assert "started 20" in message and "sft.py --hub_token '***' '--token=***' --seed 3)" in message
    assert "hf_secret" not in message and message.endswith(": wait for it or choose another folder")

    other_run.send_signal(signal.SIGKILL)
    other_run.wait()
    with lock_output(tmp_path / "out", in_place=in_place):  # a dead run has no lock, although its file is there
        assert (tmp_path / "out").is_dir() == in_place
    assert list(tmp_path.iterdir()) == []  # nor is the folder, which the run has not used


def test_a_nested_lock_of_the_same_run_is_the_same_lock(tmp_path):
    path = tmp_path / "a" / "out"
    with lock_output(path):
        file = path.with_name(f".out{LOCK}")
        assert json.loads(file.read_text())["pid"] == os.getpid()
        with lock_output(str(path)):
            pass
        assert file.is_file()
    assert list(tmp_path.iterdir()) == []  # the parents that it created were not used


def test_processes_after_the_first_do_not_lock(tmp_path, monkeypatch):
    with lock_output(tmp_path / "out"):
        monkeypatch.setenv("RANK", "1")
        with lock_output(tmp_path / "other"):
            assert [path.name for path in tmp_path.iterdir()] == [f".out{LOCK}"]


def test_a_link_and_its_folder_have_one_lock(other_run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to("out")
    with pytest.raises(InputError, match="is in use by another run"), lock_output(tmp_path / "link"):
        pytest.fail("the block must not run")


def test_an_interrupted_block_releases_its_lock(tmp_path):
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), lock_output(tmp_path / "out"):
            raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "out").touch()
    with (
        pytest.raises(InputError, match="out is a file, expected a folder"),
        lock_output(tmp_path / "out", in_place=True),
    ):
        pytest.fail("the block must not run")


def test_a_folder_that_is_written_in_place_is_tried(tmp_path, read_only_disk):
    with pytest.raises(InputError, match="read_only/.*Read-only file system: choose a folder on another disk"):
        with lock_output(read_only_disk, in_place=True):
            pytest.fail("the block must not run")
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "notes.txt").touch()
    hidden_sibling(tmp_path / "disk" / PROBE, "partial").touch()  # of a killed run
    with lock_output(tmp_path / "disk", in_place=True):
        pass
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["notes.txt"]


def test_the_lock_of_a_disk_in_a_read_only_folder_is_on_the_disk(read_only_disk):
    subprocess.run(["mount", "-o", "remount,rw", read_only_disk], check=True)
    disk = read_only_disk / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", disk], check=True)
    subprocess.run(["mount", "-o", "remount,ro", read_only_disk], check=True)
    try:
        with lock_output(disk, in_place=True):
            assert [path.name for path in disk.iterdir()] == [LOCK]
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", disk], check=True)
