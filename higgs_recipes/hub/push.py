"""Push folders to the Hub: in one commit, private by default; an error contains the command that retries the push."""

import json
import logging
import shlex
import sys
from pathlib import Path
from typing import Literal

import yaml
from huggingface_hub import CommitOperationAdd, HfApi, ModelInfo, hf_hub_download
from huggingface_hub.errors import (
    HTTPError,  # of httpx or httpx2: whichever this huggingface_hub is built on
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
)
from huggingface_hub.hf_api import DatasetInfo
from huggingface_hub.utils import DEFAULT_IGNORE_PATTERNS, filter_repo_objects

from higgs_recipes.errors import InputError
from higgs_recipes.files import atomic_write, file_inside
from higgs_recipes.hub.cards import adapter_card, merged_card
from higgs_recipes.hub.download import UNSAFE_PATTERNS, hub_reason
from higgs_recipes.hub.evaluation_card import EVALUATION_FOLDER, update_evaluation
from higgs_recipes.hub.public import public_record
from higgs_recipes.metrics_schema import SYSTEMS
from higgs_recipes.records import Fields, read_record


logger = logging.getLogger(__name__)

RepoType = Literal["model", "dataset"]

# Pickles, checkpoints for resuming, partial files of killed runs, and TensorBoard logs, whose names contain the host
# name.
NOT_PUSHED = (*UNSAFE_PATTERNS, "checkpoint-*/*", "*.partial", "*.partial/*", "runs/*")
# Exceptions of huggingface_hub when a push fails; its Rust client for xet storage raises RuntimeError.
PUSH_FAILURES = (HTTPError, OSError, ValueError, RuntimeError)


class PushError(InputError):
    """A failed push. The message says why, where the files are on disk, and which command retries the push."""


def resolve_target(name: str | None, *, output_dir: str | Path, push: bool) -> str | None:
    """Return the repository id to push a result to: `name`, or the name of `output_dir`; None without `push`.

    Raises:
        InputError: as `resolve_repo_id`.
    """
    return resolve_repo_id(name or Path(output_dir).resolve().name) if push else None


def resolve_repo_id(name: str) -> str:
    """Complete "my-voice" to "<user>/my-voice". Call it before a long run, so that a missing login is found early.

    Raises:
        InputError: the user is unknown: no token, an invalid token, or no connection to the Hub.
    """
    try:
        user = HfApi().whoami()["name"]
    except PUSH_FAILURES as error:
        raise InputError(f"{name!r} cannot be pushed: {failure_reason(error)}") from error
    return name if "/" in name else f"{user}/{name}"


def push_folder(
    folder: str | Path, *, repo_id: str, repo_type: RepoType = "model", private: bool = True, commit_message: str
) -> str:
    """Push a folder in one commit and return the commit's URL.

    Files that match `NOT_PUSHED` are not pushed. In processor_config.json a local path of the codec is replaced by the
    name of its folder.

    Args:
        folder: folder to push.
        repo_id: repository; created if it does not exist.
        private: visibility of a new repository; an existing one keeps its visibility.
        commit_message: title of the commit.

    Raises:
        InputError: no such folder, no files in it, a symbolic link that leaves it, or a processor_config.json that is
            not JSON.
        PushError: the push failed; the folder is unchanged.
    """
    folder = Path(folder).resolve()
    operations = [CommitOperationAdd(path, _public_content(folder / path)) for path in files_to_push(folder)]
    # Not `hf upload`: it may split a large folder into several commits, and does not exclude `NOT_PUSHED`.
    arguments = f"{repo_id=}, {repo_type=}, {private=}, {commit_message=}"
    retry = f"from higgs_recipes.hub.push import push_folder; push_folder({str(folder)!r}, {arguments})"
    try:
        repo = ready_repo(repo_id, repo_type, private=private)
        # Not upload_folder: it may split a large folder into several commits, and a reader could fetch half of it.
        commit = HfApi().create_commit(repo.id, operations, repo_type=repo_type, commit_message=commit_message)
    except PUSH_FAILURES as error:
        raise push_error(error, repo_id=repo_id, folder=folder, retry=retry) from error
    return commit.commit_url


def write_adapter_card(folder: str | Path, *, name: str | None = None) -> None:
    """Write README.md of a trained model from its run.json and, if it was evaluated, evaluation/metrics.json.

    Args:
        folder: output folder of the trainer.
        name: Hub id of the model; default: the folder.

    Raises:
        InputError: run.json or a field of a record is missing.
    """
    folder = Path(folder)
    report = folder / EVALUATION_FOLDER
    metrics = read_record(report / "metrics.json") if report.exists() else None
    if metrics is not None:
        _check_clips(metrics, report)
    card = adapter_card(read_record(folder / "run.json"), name=name or str(folder), metrics=metrics)
    atomic_write(folder / "README.md", card)


def write_merged_card(folder: str | Path, *, name: str | None = None) -> None:
    """Write README.md of a merged checkpoint from its merge.json and, if the adapter had one, its run.json.

    Args:
        folder: folder of the merged checkpoint.
        name: Hub id of the model; default: the folder.

    Raises:
        InputError: merge.json or a field of a record is missing.
    """
    folder = Path(folder)
    run = read_record(folder / "run.json") if (folder / "run.json").exists() else None
    card = merged_card(read_record(folder / "merge.json"), name=name or str(folder), run=run)
    atomic_write(folder / "README.md", card)


def push_report(report_folder: str | Path, *, repo_id: str, private: bool = True) -> str:
    """Push an evaluation report to evaluation/ of a model's repository, and its scores to the model's card.

    Both are one commit; the rest of the card is kept. Returns the commit's URL.

    Raises:
        InputError: metrics.json is missing or incomplete, or names a file outside the folder.
        PushError: the push failed, or the metadata of the repository's card cannot be parsed; the folder is unchanged.
    """
    folder = Path(report_folder).resolve()
    metrics = read_record(folder / "metrics.json")
    _check_clips(metrics, folder)
    update_evaluation("", metrics, name=repo_id)  # finds missing fields before any request to the Hub
    operations = [CommitOperationAdd(f"{EVALUATION_FOLDER}/{path}", folder / path) for path in files_to_push(folder)]
    arguments = f"repo_id={repo_id!r}, {private=}"
    retry = f"from higgs_recipes.hub.push import push_report; push_report({str(folder)!r}, {arguments})"
    try:
        repo = ready_repo(repo_id, "model", private=private)
        try:
            card = update_evaluation(_remote_card(repo), metrics, name=repo.id)
        except (yaml.YAMLError, KeyError, TypeError) as error:
            raise InputError(f"the metadata of its README.md cannot be parsed ({error}); fix it on the Hub") from error
        operations.append(CommitOperationAdd("README.md", card.encode()))
        # With a parent commit, the Hub rejects the commit if the card has changed meanwhile.
        commit = HfApi().create_commit(repo.id, operations, commit_message="Add evaluation", parent_commit=repo.sha)
    except PUSH_FAILURES as error:
        raise push_error(error, repo_id=repo_id, folder=folder, retry=retry) from error
    return commit.commit_url


def ready_repo(repo_id: str, repo_type: RepoType, *, private: bool) -> ModelInfo | DatasetInfo:
    """Return information about a repository, after creating it if it does not exist."""
    api = HfApi()
    repo_id = api.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True).repo_id
    repo = api.repo_info(repo_id, repo_type=repo_type)
    if private and not repo.private:
        logger.warning("%s already exists and is public: the pushed files will be public", repo_id)
    return repo


def _remote_card(repo: ModelInfo) -> str:
    """README.md at the repository's commit (not a stale one from the cache); "" if it has none."""
    try:
        return Path(hf_hub_download(repo.id, "README.md", revision=repo.sha)).read_text(encoding="utf-8")
    except RemoteEntryNotFoundError:
        return ""


def _check_clips(metrics: Fields, folder: Path) -> None:
    """Raise `InputError` unless the clips of metrics.json, which may be untrusted, are files of the report."""
    for index, clip in enumerate(metrics["clips"]):
        for system in SYSTEMS:
            if system in clip:
                file_inside(folder, clip[system]["wav"], field=f"{metrics.file}: clips[{index}].{system}.wav")


def _relative_files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def files_to_push(folder: Path) -> list[str]:
    """List the files of a folder to push, as relative paths.

    Raises:
        InputError: no such folder, no files to push, or a symbolic link that leaves the folder.
    """
    if not folder.is_dir():
        raise InputError(f"no such folder: {folder}")
    ignored = [*NOT_PUSHED, *DEFAULT_IGNORE_PATTERNS]
    paths = list(filter_repo_objects(_relative_files(folder), ignore_patterns=ignored))
    if not paths:
        raise InputError(f"nothing to push in {folder}")
    for path in paths:
        file_inside(folder, path, field="a file to push")
    return paths


def _public_content(path: Path) -> Path | bytes:
    """The content to push of a file: the file, or for processor_config.json a copy without local paths.

    The file on disk keeps the path, from which the processor loads its codec.
    """
    if path.name != "processor_config.json":
        return path
    processor = read_record(path)
    public = public_record(processor)
    if public == processor:
        return path
    logger.warning("%s names a local folder as its codec; only the folder's name is pushed", path)
    return (json.dumps(public, indent=2, ensure_ascii=False) + "\n").encode()


def push_error(error: Exception, *, repo_id: str, folder: Path, retry: str) -> PushError:
    """Return the error of a failed push; `retry` is Python code that repeats the push."""
    reason = str(error) if isinstance(error, InputError) else failure_reason(error)
    return PushError(
        f"the push to {repo_id} failed: {reason}. All files are on disk at {folder}; to push again:\n"
        f"  {shlex.join([sys.executable, '-c', retry])}"
    )


def failure_reason(error: Exception) -> str:
    """Explain in one line why a push failed.

    Messages of httpx are not passed on: for an invalid header they contain the token.
    """
    if isinstance(error, LocalTokenNotFoundError):
        return "you are not logged in; run `hf auth login`"
    if isinstance(error, OfflineModeIsEnabled):
        return "offline mode is on; unset HF_HUB_OFFLINE"
    if isinstance(error, (HTTPError, LocalEntryNotFoundError)):
        return hub_reason(error)
    return " ".join(str(error).split())
