"""Pushes to the Hub: a folder in one commit, private by default, and on failure the one command that tries again."""

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

# Pickles nobody should load, states only needed to resume, what a killed run left half-written, and TensorBoard's
# logs, whose names hold the name of the machine.
NOT_PUSHED = (*UNSAFE_PATTERNS, "checkpoint-*/*", "*.partial", "*.partial/*", "runs/*")
# What huggingface_hub raises when a push fails; its xet client, written in Rust, raises RuntimeError.
PUSH_FAILURES = (HTTPError, OSError, ValueError, RuntimeError)


class PushError(InputError):
    """A push that failed: why, that everything is on disk and where, and the one command that tries again."""


def resolve_target(name: str | None, *, output_dir: str | Path, push: bool) -> str | None:
    """The repo that a result is to be pushed to, None without `push`: the one named, else the folder's name.

    Raises:
        InputError: what `resolve_repo_id` raises.
    """
    return resolve_repo_id(name or Path(output_dir).resolve().name) if push else None


def resolve_repo_id(name: str) -> str:
    """ "my-voice" -> "<user>/my-voice", "user/name" as it is; asked before the work whose result is to be pushed.

    Raises:
        InputError: the user is not known: no token, a wrong one, or no way to the Hub.
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

    A repo that is not there is made, private unless told otherwise; one that is there keeps its visibility.
    Files that match `NOT_PUSHED` stay here, and so does where the codec that a processor names stands.

    Raises:
        InputError: no such folder, nothing in it, a link in it that leads out, or a processor_config.json that is
            no JSON.
        PushError: the push failed; the folder is untouched.
    """
    folder = Path(folder).resolve()
    operations = [CommitOperationAdd(path, _public_content(folder / path)) for path in files_to_push(folder)]
    # Not `hf upload`: it may cut a large folder into several commits, and knows nothing of what stays here.
    arguments = f"{repo_id=}, {repo_type=}, {private=}, {commit_message=}"
    retry = f"from higgs_recipes.hub.push import push_folder; push_folder({str(folder)!r}, {arguments})"
    try:
        repo = ready_repo(repo_id, repo_type, private=private)
        # Not upload_folder: it may cut a large folder into several commits, and a reader could fetch half of it.
        commit = HfApi().create_commit(repo.id, operations, repo_type=repo_type, commit_message=commit_message)
    except PUSH_FAILURES as error:
        raise push_error(error, repo_id=repo_id, folder=folder, retry=retry) from error
    return commit.commit_url


def write_adapter_card(folder: str | Path, *, name: str | None = None) -> None:
    """Write README.md of an adapter folder from its run.json and evaluation/metrics.json.

    Args:
        folder: what the trainer saved.
        name: the Hub id that it goes to; default is the folder.

    Raises:
        InputError: run.json is missing, or a field of a record is.
    """
    folder = Path(folder)
    report = folder / EVALUATION_FOLDER
    metrics = read_record(report / "metrics.json") if report.exists() else None
    if metrics is not None:
        _check_clips(metrics, report)
    card = adapter_card(read_record(folder / "run.json"), name=name or str(folder), metrics=metrics)
    atomic_write(folder / "README.md", card)


def write_merged_card(folder: str | Path, *, name: str | None = None) -> None:
    """Write README.md of a merged checkpoint from its merge.json and, where the adapter had one, run.json.

    Raises:
        InputError: merge.json is missing, or a field of a record is.
    """
    folder = Path(folder)
    run = read_record(folder / "run.json") if (folder / "run.json").exists() else None
    card = merged_card(read_record(folder / "merge.json"), name=name or str(folder), run=run)
    atomic_write(folder / "README.md", card)


def push_report(report_folder: str | Path, *, repo_id: str, private: bool = True) -> str:
    """Push an evaluation into a model's repo, below evaluation/, and its scores into the model's card; one commit.

    The card keeps all that it says beside this evaluation. Returns the commit's URL.

    Raises:
        InputError: metrics.json is missing or incomplete, or names a file outside the folder.
        PushError: the push failed, or the repo's card has a header that cannot be read; the folder is untouched.
    """
    folder = Path(report_folder).resolve()
    metrics = read_record(folder / "metrics.json")
    _check_clips(metrics, folder)
    update_evaluation("", metrics, name=repo_id)  # what is missing is found before the Hub is asked for anything
    operations = [CommitOperationAdd(f"{EVALUATION_FOLDER}/{path}", folder / path) for path in files_to_push(folder)]
    arguments = f"repo_id={repo_id!r}, {private=}"
    retry = f"from higgs_recipes.hub.push import push_report; push_report({str(folder)!r}, {arguments})"
    try:
        repo = ready_repo(repo_id, "model", private=private)
        try:
            card = update_evaluation(_remote_card(repo), metrics, name=repo.id)
        except (yaml.YAMLError, KeyError, TypeError) as error:
            raise InputError(f"the header of its README.md cannot be read ({error}); mend it there") from error
        operations.append(CommitOperationAdd("README.md", card.encode()))
        # With its parent named, the commit is refused where someone has changed the card meanwhile.
        commit = HfApi().create_commit(repo.id, operations, commit_message="Add evaluation", parent_commit=repo.sha)
    except PUSH_FAILURES as error:
        raise push_error(error, repo_id=repo_id, folder=folder, retry=retry) from error
    return commit.commit_url


def ready_repo(repo_id: str, repo_type: RepoType, *, private: bool) -> ModelInfo | DatasetInfo:
    """The repo, made if it is not there."""
    api = HfApi()
    repo_id = api.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True).repo_id
    repo = api.repo_info(repo_id, repo_type=repo_type)
    if private and not repo.private:
        logger.warning("%s was there before and is public: so is what is pushed now", repo_id)
    return repo


def _remote_card(repo: ModelInfo) -> str:
    """README.md of that very commit (so no stale copy from the cache), "" where there is none."""
    try:
        return Path(hf_hub_download(repo.id, "README.md", revision=repo.sha)).read_text(encoding="utf-8")
    except RemoteEntryNotFoundError:
        return ""


def _check_clips(metrics: Fields, folder: Path) -> None:
    """Each clip's recordings are files of the report: metrics.json may come from elsewhere."""
    for index, clip in enumerate(metrics["clips"]):
        for system in SYSTEMS:
            if system in clip:
                file_inside(folder, clip[system]["wav"], field=f"{metrics.file}: clips[{index}].{system}.wav")


def _relative_files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def files_to_push(folder: Path) -> list[str]:
    """What goes to the Hub of a folder, by its path there; `InputError` where that is nothing, or leads out."""
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
    """What is pushed of a file: the file itself, but of a processor a copy that keeps this machine's folders back.

    The file on disk keeps its path: it is where the processor finds its codec.
    """
    if path.name != "processor_config.json":
        return path
    processor = read_record(path)
    public = public_record(processor)
    if public == processor:
        return path
    logger.warning("%s names a folder of this machine as its codec; pushed is only the folder's name", path)
    return (json.dumps(public, indent=2, ensure_ascii=False) + "\n").encode()


def push_error(error: Exception, *, repo_id: str, folder: Path, retry: str) -> PushError:
    """The error to raise for a failed push; `retry` is Python that tries again."""
    said = str(error) if isinstance(error, InputError) else failure_reason(error)
    return PushError(
        f"the push to {repo_id} failed: {said}. Everything is on disk at {folder}; to push it again:\n"
        f"  {shlex.join([sys.executable, '-c', retry])}"
    )


def failure_reason(error: Exception) -> str:
    """One line, without the token: what httpx says of a header that it refuses would show it."""
    if isinstance(error, LocalTokenNotFoundError):
        return "you are not logged in; run `hf auth login`"
    if isinstance(error, OfflineModeIsEnabled):
        return "the Hub is switched off; unset HF_HUB_OFFLINE"
    if isinstance(error, (HTTPError, LocalEntryNotFoundError)):
        return hub_reason(error)
    return " ".join(str(error).split())
