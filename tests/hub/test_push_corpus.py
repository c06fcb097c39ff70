"""Encoded corpora that are pushed file by file."""

from pathlib import Path

import pytest

from tests.helpers.hub_client import contents, run_retry
from tests.helpers.hub_server import HubServer, run_python


NAMES = [f"data/train-{index:05d}-of-00003.parquet" for index in range(3)]
PUSH = """
import os, sys
from pathlib import Path
from higgs_recipes.hub.push_corpus import CorpusPush, push_corpus
from higgs_recipes.errors import InputError
folder, names, killed = Path(sys.argv[1]), sys.argv[3:], sys.argv[2] == "killed"
push = CorpusPush("tester/corpus", private=True)
uploads = [push.add(folder / name, name) for name in names]
if killed:
    [upload.result() for upload in uploads]
    os._exit(0)
try:
    print(push.finish(folder))
except InputError as error:
    print(error)
"""


@pytest.fixture
def corpus(tmp_path) -> Path:
    folder = tmp_path / "corpus"
    (folder / "data").mkdir(parents=True)
    for name in NAMES:
        (folder / name).write_bytes(name.encode() * 9)
    for name in ("README.md", "corpus.json", "rejects.jsonl"):
        (folder / name).write_text("{}")
    return folder


def push(hub: HubServer, folder: Path, names: list[str], *, killed: bool = False) -> str:
    return run_python(PUSH, hub.env(), str(folder), "killed" if killed else "whole", *names).strip()


def uploaded(hub: HubServer) -> int:
    return sum(request.startswith("PUT /lfs/") for request in hub.requests)


def test_files_are_uploaded_one_by_one_and_committed_together(hub, corpus):
    push(hub, corpus, NAMES[:2], killed=True)
    repo = hub.repos["datasets", "tester/corpus"]
    assert repo.private and repo.files == {} and len(repo.commits) == 1  # the initial commit: no half of a dataset
    assert uploaded(hub) == 2

    # The push was killed: the next one does not send finished files again.
    url = push(hub, corpus, NAMES)
    assert uploaded(hub) == 3 and len(repo.commits) == 2
    assert repo.files == contents(corpus)
    assert url == f"{hub.url}/datasets/tester/corpus/commit/{repo.head}"


def test_the_parquet_files_of_an_earlier_corpus_are_deleted_and_no_others(hub, corpus):
    others = {"data/notes.parquet": b"notes", "scripts/read.py": b"pass"}
    earlier = {"data/test-00000-of-00001.parquet": b"old", "corpus.json": b"{}"}
    hub.add_repo("tester/corpus", earlier | others, kind="datasets")
    push(hub, corpus, NAMES)
    assert hub.repos["datasets", "tester/corpus"].files == contents(corpus) | others


def test_a_dataset_that_is_not_an_encoded_corpus_is_not_replaced(hub, corpus):
    recordings = {"data/train-00000-of-00001.parquet": b"recordings"}
    hub.add_repo("tester/corpus", recordings, kind="datasets")
    message = push(hub, corpus, NAMES)
    assert message.startswith(
        "the push to tester/corpus failed: it contains data/train-00000-of-00001.parquet but no corpus.json: not an "
        "encoded corpus; name another one. All files are on disk"
    )
    assert hub.repos["datasets", "tester/corpus"].files == recordings


def test_a_failed_upload_is_retried_at_the_end(hub, corpus):
    hub.fail_next(400, "PUT /lfs/")
    push(hub, corpus, NAMES)
    assert hub.repos["datasets", "tester/corpus"].files == contents(corpus)


def test_a_failed_push_names_a_command_that_resumes_it(hub, corpus):
    hub.fail_next(400, "POST .*/commit/main")
    message = push(hub, corpus, NAMES)
    assert message.startswith(f"the push to tester/corpus failed: {hub.url} answered 400 injected failure")
    assert f"All files are on disk at {corpus}" in message
    run_retry(message, hub.env())
    assert hub.repos["datasets", "tester/corpus"].files == contents(corpus) and uploaded(hub) == 3


def test_an_empty_folder_is_refused(hub, tmp_path):
    (tmp_path / "empty").mkdir()
    assert push(hub, tmp_path / "empty", []) == f"nothing to push in {tmp_path / 'empty'}"
