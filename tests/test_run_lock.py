"""Two runs with one output folder: the second is refused, whatever the first is doing."""

import json
import os
import signal
import subprocess

import pytest

from higgs_recipes.errors import InputError
from higgs_recipes.run_lock import LOCK, lock_output
from tests.helpers.forked_python import Python


HOLD = """
import sys, time
from higgs_recipes.run_lock import lock_output
sys.argv = ["scripts/sft.py", "--hub_token", "hf_secret", "--token=hf_secret", "--seed", "3"]
with lock_output({path!r}, inside={inside}):
    print("locked", flush=True)
    time.sleep(60)
"""


@pytest.fixture(params=[False, True])
def other_run(request, tmp_path):
    """The lock of tmp_path/out in another process: (whether it is inside the folder, its process)."""
    code = HOLD.format(path=str(tmp_path / "out"), inside=request.param)
    process = Python("-c", code, env=dict(os.environ), stdout=subprocess.PIPE)
    assert process.stdout.readline() == "locked\n"
    yield request.param, process
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
        process.wait()
    process.stdout.close()


def test_a_second_run_is_refused_with_the_name_of_the_first_until_it_ends(other_run, tmp_path):
    inside, process = other_run
    with pytest.raises(InputError) as error, lock_output(tmp_path / "out", inside=inside):
        pytest.fail("the block must not run")
    message = str(error.value)
    assert f"{tmp_path / 'out'} is in use by another run (process " in message
    assert "started 20" in message and "sft.py --hub_token '***' '--token=***' --seed 3)" in message
    assert "hf_secret" not in message and message.endswith(": wait for it or choose another folder")

    process.send_signal(signal.SIGKILL)
    process.wait()
    with lock_output(tmp_path / "out", inside=inside):  # a dead run holds no lock, although its file is there
        pass
    assert list(tmp_path.iterdir()) == ([tmp_path / "out"] if inside else [])


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
    inside, _ = other_run
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "link").symlink_to("out")
    with pytest.raises(InputError, match="is in use by another run"), lock_output(tmp_path / "link", inside=inside):
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
        lock_output(tmp_path / "out", inside=True),
    ):
        pytest.fail("the block must not run")
