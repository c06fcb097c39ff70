"""Push an encoded corpus to the Hub: upload its files while they are written, then publish them in one commit."""

import logging
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from higgs_recipes.errors import InputError
from higgs_recipes.hub.push import PUSH_FAILURES, failure_reason, files_to_push, push_error, ready_repo


logger = logging.getLogger(__name__)

RECORD = "corpus.json"
SHARD = re.compile(r"data/\w+-\d{5}-of-\d{5}\.parquet")


class CorpusPush:
    """Uploads files one by one in the background; they become visible when `finish` commits them all.

    The Hub stores uploads by content, so a push that was killed resumes: finished files are not sent again.
    """

    def __init__(self, repo_id: str, *, private: bool) -> None:
        self.repo_id, self.private = repo_id, private
        self._uploads: dict[str, Future] = {}
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="push")

    def add(self, path: Path, name: str) -> Future:
        """Upload a finished file as `name` in the repository; `finish` retries failed uploads."""
        self._uploads[name] = self._worker.submit(self._upload, path, name)
        return self._uploads[name]

    def finish(self, folder: str | Path) -> str:
        """Commit the corpus in `folder` and return the commit's URL.

        The commit contains the uploads of `add` and the rest of the files, and deletes the parquet files of an earlier
        corpus.

        Raises:
            InputError: no such folder, no files in it, or a symbolic link that leaves it.
            PushError: the push failed, or the repository contains parquet files of another dataset; the folder is
                unchanged.
        """
        folder = Path(folder).resolve()
        names = files_to_push(folder)
        with self._explain(folder):
            operations = [self._operation(name, folder) for name in names]
            repo = ready_repo(self.repo_id, "dataset", private=self.private)
            existing = HfApi().list_repo_files(repo.id, repo_type="dataset", revision=repo.sha)
            shards = [name for name in existing if SHARD.fullmatch(name)]
            if shards and RECORD not in existing:  # `datasets` uses the same file names for any dataset
                raise InputError(f"it contains {shards[0]} but no {RECORD}: not an encoded corpus; name another one")
            operations += [CommitOperationDelete(name) for name in shards if name not in names]
            # With a parent commit, the Hub rejects the commit if the repository has changed meanwhile.
            commit = HfApi().create_commit(
                repo.id,
                operations,
                repo_type="dataset",
                commit_message="Add encoded corpus",
                parent_commit=repo.sha,
            )
        return commit.commit_url

    def _upload(self, path: Path, name: str) -> CommitOperationAdd:
        operation = CommitOperationAdd(name, path)
        # Created with the first file, so that a run without rows to encode leaves no empty repository.
        repo = ready_repo(self.repo_id, "dataset", private=self.private)
        HfApi().preupload_lfs_files(repo.id, [operation], repo_type="dataset")
        return operation

    def _operation(self, name: str, folder: Path) -> CommitOperationAdd:
        if name in self._uploads:
            try:
                operation = self._uploads[name].result()
                if operation.path_or_fileobj == b"":  # huggingface_hub clears the content of uploaded files
                    return operation
            except PUSH_FAILURES as error:
                logger.warning("%s is uploaded again: %s", name, failure_reason(error))
        return CommitOperationAdd(name, folder / name)

    @contextmanager
    def _explain(self, folder: Path) -> Iterator[None]:
        arguments = f"repo_id={self.repo_id!r}, private={self.private!r}"
        retry = f"from higgs_recipes.hub.push_corpus import push_corpus; push_corpus({str(folder)!r}, {arguments})"
        try:
            yield
        except PUSH_FAILURES as error:
            raise push_error(error, repo_id=self.repo_id, folder=folder, retry=retry) from error


def push_corpus(folder: str | Path, *, repo_id: str, private: bool = True) -> str:
    """Push an encoded corpus from a folder and return the commit's URL.

    Raises:
        InputError, PushError: as `CorpusPush.finish`.
    """
    return CorpusPush(repo_id, private=private).finish(folder)
