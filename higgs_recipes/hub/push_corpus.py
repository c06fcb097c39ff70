"""Push an encoded corpus to the Hub: upload its files while they are written, then publish them in one commit."""

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from huggingface_hub import CommitOperationAdd

from higgs_recipes.errors import InputError
from higgs_recipes.hub.client import Repo, upload_file
from higgs_recipes.hub.download import HubError, ask_hub
from higgs_recipes.hub.push import IMPORT, Target, push_files
from higgs_recipes.hub.result_files import CORPUS_RECORD, corpus_files, is_corpus_shard, log_skipped


logger = logging.getLogger(__name__)


class CorpusPush:
    """Uploads files one by one in the background; they become visible when `finish` commits them all.

    The Hub stores uploads by content, so a push that was killed resumes: finished files are not sent again.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self._uploads: dict[str, Future] = {}
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="push")

    def add(self, path: Path, name: str) -> Future:
        """Upload a finished file as `name` in the repository; `finish` retries failed uploads."""
        self._uploads[name] = self._worker.submit(self._upload, path, name)
        return self._uploads[name]

    def finish(self, folder: str | Path) -> str:
        """Commit the corpus in `folder` and return the commit's URL.

        The commit contains the uploads of `add` and the other files of the corpus, and deletes the parquet files of an
        earlier one.

        Raises:
            InputError: no such folder, or a file of the corpus is missing, not valid, or a link out of the folder.
            PushError: the push failed, or the repository contains parquet files of another dataset; the folder is
                unchanged.
        """
        folder, target = Path(folder).resolve(), self.target
        names = corpus_files(folder)
        log_skipped(folder, names)
        imports = f"{IMPORT}; from higgs_recipes.hub.push_corpus import push_corpus"
        retry = f"{imports}; push_corpus({str(folder)!r}, {target!r})"
        return push_files(
            folder,
            [self._operation(name, folder) for name in names],
            replace(target, repo_type="dataset"),
            message="Add encoded corpus",
            stale_files=lambda repo: self._stale_files(repo, names),
            retry=retry,
        )

    @staticmethod
    def _stale_files(repo: Repo, names: list[str]) -> set[str]:
        shards = sorted(name for name in repo.files if is_corpus_shard(name))
        if shards and CORPUS_RECORD not in repo.files:  # `datasets` uses the same file names for any dataset
            raise InputError(
                f"it contains {shards[0]} but no {CORPUS_RECORD}: not an encoded corpus; name another one"
            )
        return set(shards) - set(names)

    def _upload(self, path: Path, name: str) -> CommitOperationAdd:
        operation, target = CommitOperationAdd(name, path), self.target
        # The repository is created with the first file: a run without rows to encode leaves no empty one.
        where = {"private": target.private, "token": target.token}
        ask_hub(f"{name} was not uploaded", lambda: upload_file(operation, target.repo_id, "dataset", **where))
        return operation

    def _operation(self, name: str, folder: Path) -> CommitOperationAdd:
        if name in self._uploads:
            try:
                operation = self._uploads[name].result()
                if operation.path_or_fileobj == b"":  # huggingface_hub clears the content of uploaded files
                    return operation
            except HubError as error:
                logger.warning("%s; it is uploaded at the end", error)
        return CommitOperationAdd(name, folder / name)


def push_corpus(folder: str | Path, target: Target) -> str:
    """Push an encoded corpus from a folder and return the commit's URL.

    Raises:
        InputError, PushError: as `CorpusPush.finish`.
    """
    return CorpusPush(target).finish(folder)
