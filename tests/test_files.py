"""Files and folders are written completely or not at all."""

import errno
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from higgs_recipes.errors import InputError
from higgs_recipes.files import atomic_write, explain_full_disk, file_inside, sha256_file, staged_folder
from higgs_recipes.hub.download import Snapshot, fetch
from higgs_recipes.hub.public import is_hub_id
from tests.helpers.hub_server import HubServer, run_python
from tests.helpers.paths import ROOT


FETCH = """
import json, sys
from higgs_recipes.errors import InputError
from higgs_recipes.hub.download import fetch
outcomes = []
for arguments in json.loads(sys.argv[1]):
    try:
        outcomes.append(str(fetch(**arguments).folder))
    except InputError as error:
        outcomes.append(f"InputError: {error}")
print(json.dumps(outcomes))
"""


def fetch_all(env: dict[str, str], *requests: dict) -> list[str]:
    """The folder or the message of each `fetch(**request)`, all in one process of that environment."""
    return json.loads(run_python(FETCH, env, json.dumps(requests)))


def tree(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 256 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", folder], check=True)


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


def test_fetch_takes_a_folder_as_it_is_and_refuses_what_is_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tester" / "voice").mkdir(parents=True)
    (tmp_path / "file.txt").write_text("text")
    folder = tmp_path / "tester"
    assert fetch(folder) == Snapshot(str(folder), None, folder)
    assert fetch("tester/voice") == Snapshot("tester/voice", None, Path("tester/voice"))
    for name, message in {
        "file.txt": "file.txt is a file: give a folder or the id of a model on the Hub",
        "./nowhere": "no such folder: ./nowhere",
        "a/b/c": "no such folder: a/b/c",
        "": "'' is neither a folder here nor a valid id of a model",
        "a b": "'a b' is neither a folder here nor a valid id of a model",
        "tester/a..b": "'tester/a..b' is neither a folder here nor a valid id of a model",
    }.items():
        with pytest.raises(InputError) as refused:
            fetch(name)
        assert message in str(refused.value)


def test_fetch_gives_the_files_of_a_hub_repo(tmp_path):
    files = {"config.json": b"{}", "model.safetensors": b"weights", "training_args.bin": b"a pickle", "a/b.txt": b"b"}
    with HubServer(tmp_path) as hub:
        repo = hub.add_repo("tester/voice", files, private=True)
        hub.add_repo("tester/corpus", {"data/train.parquet": b"rows"}, kind="datasets")
        first = repo.head
        repo.commit(repo.commits[first] | {"config.json": repo.commits[first]["a/b.txt"]})
        wanted = [
            {"name_or_path": "tester/voice"},
            {"name_or_path": "tester/voice", "revision": first},
            {"name_or_path": "tester/corpus", "repo_type": "dataset"},
            {"name_or_path": "tester/voice", "allow_patterns": ["*.json"]},
        ]
        now, before, dataset, same = fetch_all(hub.env(), *wanted)
        offline = fetch_all(hub.env() | {"HF_HUB_OFFLINE": "1"}, *wanted[:3], {"name_or_path": "tester/other"})

    safe = {"config.json": "b", "model.safetensors": "weights", "a/b.txt": "b"}
    assert tree(Path(now)) == safe and now == same
    assert tree(Path(before)) == safe | {"config.json": "{}"}
    assert tree(Path(dataset)) == {"data/train.parquet": "rows"}
    assert offline[:3] == [now, before, dataset]
    assert "'tester/other' is no folder here and not in the cache" in offline[3]
    assert "unset HF_HUB_OFFLINE" in offline[3]


def test_fetch_says_why_a_hub_repo_cannot_be_had(tmp_path, small_disk):
    with HubServer(tmp_path) as hub:
        hub.add_repo("tester/private", {"config.json": b"{}"}, private=True)
        hub.add_repo("tester/gated", {"config.json": b"{}"}, gated=True)
        hub.add_repo("tester/public", {"config.json": b"{}"})
        hub.add_repo("tester/big", {"model.safetensors": b"x" * 2**20})
        private, gated, public, big = ({"name_or_path": f"tester/{n}"} for n in ("private", "gated", "public", "big"))
        asked = fetch_all(
            hub.env("stranger"),
            private,
            gated,
            public | {"revision": "v9"},
            public | {"repo_type": "dataset"},
        )
        hub.fail_next(500, "GET /api/models/tester/public", times=9)
        (broken,) = fetch_all(hub.env("stranger"), public)
        (nobody,) = fetch_all(hub.env(None), private)
        (wrong,) = fetch_all(hub.env(None) | {"HF_TOKEN": "hf_wrong"}, private)
        (full,) = fetch_all(hub.env() | {"HF_HOME": str(small_disk)}, big)
    (gone,) = fetch_all(hub.env(), public)

    unseen = "is no folder here and not on " + hub.url + ", or it is private and you are not its reader"
    assert f"model 'tester/private' {unseen}" in asked[0]
    assert f"model 'tester/gated' is gated: accept its terms at {hub.url}/tester/gated, then run `hf auth" in asked[1]
    assert f"model 'tester/public' at revision 'v9' is not on {hub.url}: name an existing branch" in asked[2]
    assert f"dataset 'tester/public' {unseen}" in asked[3]
    assert f"could not be fetched: {hub.url} answered 500 injected failure; wait a little" in broken
    assert "model 'tester/private'" in nobody and "run `hf auth login`" in nobody
    assert "refused the token or found none (401); run `hf auth login`" in wrong and "hf_wrong" not in wrong
    assert f"disk full at {small_disk}" in full
    assert f"could not be fetched: {hub.url} cannot be reached (ConnectError); check the connection" in gone


def test_a_hub_id_is_what_fetch_would_ask_the_hub_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs" / "corpus").mkdir(parents=True)
    assert is_hub_id("user/my-voice_1.0")
    for name in ("outputs/corpus", "voice", "a/b/c", "./voice", "../voice", "/voice", "a/b c", ""):
        assert not is_hub_id(name)


def test_a_revision_is_the_commit_that_was_fetched(tmp_path):
    code = """
import sys
from higgs_recipes.hub.download import fetch
print(*(fetch("tester/model", revision=each, allow_patterns=["*.json"]).commit for each in (None, "main")))
"""
    with HubServer(tmp_path) as hub:
        repo = hub.add_repo("tester/model", {"config.json": b"{}", "README.md": b"Not fetched."})
        online = run_python(code, hub.env())
        offline = run_python(code, hub.env() | {"HF_HUB_OFFLINE": "1"})
    assert online == offline == f"{repo.head} {repo.head}\n"


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
