from pathlib import Path

import pytest

from higgs_recipes.errors import InputError
from higgs_recipes.hub.download import Snapshot, fetch
from tests.helpers import forked_python
from tests.helpers.hub_client import attempt
from tests.helpers.hub_server import HubServer, run_python


def fetch_all(env: dict[str, str], *requests: dict) -> list[str]:
    """The folder or the error of each `fetch(**request)`, all in one process."""
    return attempt(env, *(("fetch", request) for request in requests))


def tree(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_local_folder_is_returned_as_it_is_and_other_paths_are_refused(tmp_path, monkeypatch):
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
        "": "'' is neither a local folder nor a valid id of a model",
        "a b": "'a b' is neither a local folder nor a valid id of a model",
        "tester/a..b": "'tester/a..b' is neither a local folder nor a valid id of a model",
    }.items():
        with pytest.raises(InputError) as refused:
            fetch(name)
        assert message in str(refused.value)


def test_the_files_of_a_repo_are_downloaded_without_pickles(tmp_path):
    files = {"config.json": b"{}", "model.safetensors": b"weights", "training_args.bin": b"a pickle", "a/b.txt": b"b"}
    with HubServer(tmp_path) as hub:
        repo = hub.add_repo("tester/voice", files, private=True)
        hub.add_repo("tester/corpus", {"data/train.parquet": b"rows"}, kind="datasets")
        first = repo.head
        repo.commit(repo.commits[first] | {"config.json": repo.commits[first]["a/b.txt"]})
        requests = [
            {"name_or_path": "tester/voice"},
            {"name_or_path": "tester/voice", "revision": first},
            {"name_or_path": "tester/corpus", "repo_type": "dataset"},
            {"name_or_path": "tester/voice", "allow_patterns": ["*.json"]},
        ]
        now, before, dataset, same = fetch_all(hub.env(), *requests)
        offline = fetch_all(hub.env() | {"HF_HUB_OFFLINE": "1"}, *requests[:3], {"name_or_path": "tester/other"})

    safe = {"config.json": "b", "model.safetensors": "weights", "a/b.txt": "b"}
    assert tree(Path(now)) == safe and now == same
    assert tree(Path(before)) == safe | {"config.json": "{}"}
    assert tree(Path(dataset)) == {"data/train.parquet": "rows"}
    assert offline[:3] == [now, before, dataset]
    assert "'tester/other' is not a local folder and not in the cache" in offline[3]
    assert "unset HF_HUB_OFFLINE" in offline[3]


def test_each_failed_download_is_explained(tmp_path, small_disk):
    with HubServer(tmp_path) as hub:
        hub.add_repo("tester/private", {"config.json": b"{}"}, private=True)
        hub.add_repo("tester/gated", {"config.json": b"{}"}, gated=True)
        hub.add_repo("tester/public", {"config.json": b"{}"})
        hub.add_repo("tester/big", {"model.safetensors": b"x" * 2**20})
        private, gated, public, big = ({"name_or_path": f"tester/{n}"} for n in ("private", "gated", "public", "big"))
        refused = fetch_all(
            hub.env("stranger"),
            private,
            gated,
            public | {"revision": "v9"},
            public | {"repo_type": "dataset"},
        )
        hub.fail_next(500, "GET /api/models/tester/public", times=9)
        (broken,) = fetch_all(hub.env("stranger"), public)
        (anonymous,) = fetch_all(hub.env(None), private)
        (wrong,) = fetch_all(hub.env(None) | {"HF_TOKEN": "hf_wrong"}, private)
        (full,) = fetch_all(hub.env() | {"HF_HOME": str(small_disk)}, big)
    (gone,) = fetch_all(hub.env(), public)

    not_found = "is not a local folder and not on " + hub.url + ", or it is private and you have no access"
    assert f"model 'tester/private' {not_found}" in refused[0]
    assert (
        f"model 'tester/gated' is gated: accept its terms at {hub.url}/tester/gated, then run `hf auth" in refused[1]
    )
    assert f"model 'tester/public' at revision 'v9' is not on {hub.url}: name an existing branch" in refused[2]
    assert f"dataset 'tester/public' {not_found}" in refused[3]
    assert f"could not be downloaded: {hub.url} answered 500 injected failure; wait and run again" in broken
    assert "model 'tester/private'" in anonymous and "run `hf auth login`" in anonymous
    assert "rejected the token or got none (401); run `hf auth login`" in wrong and "hf_wrong" not in wrong
    assert f"disk full at {small_disk}" in full
    assert f"could not be downloaded: {hub.url} cannot be reached (ConnectError); check the connection" in gone


def test_the_commit_of_a_snapshot_is_that_of_the_download(tmp_path):
    code = """
import sys
from higgs_recipes.hub.download import fetch
print(*(fetch("tester/model", revision=name, allow_patterns=["*.json"]).commit for name in (None, "main")))
"""
    with HubServer(tmp_path) as hub:
        repo = hub.add_repo("tester/model", {"config.json": b"{}", "README.md": b"Not fetched."})
        online = run_python(code, hub.env())
        offline = run_python(code, hub.env() | {"HF_HUB_OFFLINE": "1"})
    assert online == offline == f"{repo.head} {repo.head}\n"


def test_the_revision_of_a_codec_on_the_hub_is_found_without_a_warning(tmp_path):
    code = """
from higgs_recipes.audio.codec import codec_revision
print(codec_revision("tester/codec", revision=None))
"""
    with HubServer(tmp_path) as hub:
        repo = hub.add_repo("tester/codec", {"config.json": b"{}", "model.safetensors": b"weights"})
        done = forked_python.run("-c", code, env=hub.env())
    assert done.stdout == f"tester/codec@{repo.head}\n" and "No files matched" not in done.stderr
    assert not [request for request in hub.requests if request.startswith("GET") and "model.safetensors" in request]
