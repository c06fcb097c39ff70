"""An encoded corpus on its way to the Hub: its files go up as they are written, one commit makes them a dataset."""

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
    """Uploads one file after the other in the background; nobody sees them before `finish` commits them all.

    The Hub keeps what is uploaded by its content, so a push that was killed goes on: what is there is not sent again.
    """

    def __init__(self, repo_id: str, *, private: bool) -> None:
        self.repo_id, self.private = repo_id, private
        self._uploads: dict[str, Future] = {}
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="push")

    def add(self, path: Path, name: str) -> Future:
        """Upload a finished file that is to be `name` in the repo; what goes wrong is tried again by `finish`."""
        self._uploads[name] = self._worker.submit(self._upload, path, name)
        return self._uploads[name]

    def finish(self, folder: str | Path) -> str:
        """Commit the corpus in `folder`: what `add` has brought, the rest of the files, and without the parquet files
        of an earlier corpus. Returns the commit's URL.

        Raises:
            InputError: no such folder, nothing in it, or a link in it that leads out.
            PushError: the push failed, or the repo holds parquet files of something else; the folder is untouched.
        """
        folder = Path(folder).resolve()
        names = files_to_push(folder)
        with self._explain(folder):
            operations = [self._operation(name, folder) for name in names]
            repo = ready_repo(self.repo_id, "dataset", private=self.private)
            there = HfApi().list_repo_files(repo.id, repo_type="dataset", revision=repo.sha)
            shards = [name for name in there if SHARD.fullmatch(name)]
            if shards and RECORD not in there:  # `datasets` names the files of anybody's recordings in this way too
                raise InputError(f"it holds {shards[0]} and no {RECORD}, so it is no encoded corpus: name another")
            operations += [CommitOperationDelete(name) for name in shards if name not in names]
            # With its parent named, the commit is refused where someone has changed the repo meanwhile.
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
        # Made with the first file and not before: a run that finds nothing to encode leaves no empty repo.
        repo = ready_repo(self.repo_id, "dataset", private=self.private)
        HfApi().preupload_lfs_files(repo.id, [operation], repo_type="dataset")
        return operation

    def _operation(self, name: str, folder: Path) -> CommitOperationAdd:
        if name in self._uploads:
            try:
                operation = self._uploads[name].result()
                if operation.path_or_fileobj == b"":  # so huggingface_hub leaves what it has uploaded
                    return operation
            except PUSH_FAILURES as error:
                logger.warning("%s goes up again: %s", name, failure_reason(error))
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
    """Push an encoded corpus that lies in a folder, and return the commit's URL.

    Raises:
        InputError, PushError: as `CorpusPush.finish`.
    """
    return CorpusPush(repo_id, private=private).finish(folder)
