"""Push results to the Hub: only the files of the result, in one commit, private by default.

A failed push changes nothing on disk; its error contains the command that retries it.
"""

import json
import logging
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from huggingface_hub import CommitOperationAdd, constants

from higgs_recipes.errors import InputError
from higgs_recipes.files import atomic_write
from higgs_recipes.hub.cards import adapter_card, merged_card
from higgs_recipes.hub.client import Repo, can_write, commit_files, login_name, open_repo, read_remote_file
from higgs_recipes.hub.download import HubError, RepoType, ask_hub, check_repo_id, check_revision
from higgs_recipes.hub.evaluation_card import EVALUATION_FOLDER, report_folder, update_evaluation
from higgs_recipes.hub.public import public_name, public_record
from higgs_recipes.hub.result_files import (
    CARD,
    METRICS_RECORD,
    is_model_file,
    is_report_file,
    log_skipped,
    model_files,
    report_files,
)
from higgs_recipes.hub.result_state import read_state, record_push
from higgs_recipes.hub.run_record import MERGE_INFO, RUN_INFO
from higgs_recipes.records import read_record


logger = logging.getLogger(__name__)

IMPORT = "from higgs_recipes.hub.push import Target"  # of the commands that retry a push


class PushError(InputError):
    """A failed push. The message says why, where the files are on disk, and which command retries the push."""


@dataclass(frozen=True)
class Target:
    """Where a result is pushed to.

    Attributes:
        repo_id: repository; created if it does not exist.
        repo_type: type of the repository.
        private: visibility of a new repository, None: the account's default; an existing one keeps its visibility.
        revision: branch to push to; created if it does not exist. None: main.
        token: token to push with; None: that of the login. It is not in the command that retries a push.
    """

    repo_id: str
    repo_type: RepoType = "model"
    private: bool | None = True
    revision: str | None = None
    token: str | None = field(default=None, repr=False)


def resolve_target(
    name: str | None,
    *,
    output_dir: str | Path,
    push: bool,
    repo_type: RepoType = "model",
    private: bool | None = True,
    revision: str | None = None,
    token: str | None = None,
) -> Target | None:
    """Return where to push a result: to `name`, or to the name of `output_dir`; None without `push`.

    "my-voice" becomes "<user>/my-voice". Call it before a long run: it finds a missing login, an invalid name and
    missing permissions, and changes nothing on the Hub.

    Raises:
        InputError: an invalid name or branch; no token, an invalid or read-only token, a repository to which it cannot
            write or that it cannot create; or no connection to the Hub.
    """
    if not push:
        return None
    name = name or Path(output_dir).resolve().name
    refused = f"{name!r} cannot be pushed"
    check_repo_id(name)
    check_revision(revision, field="hub_revision")
    user, namespaces = ask_hub(refused, lambda: login_name(token))
    repo_id = name if "/" in name else f"{user}/{name}"
    check_repo_id(repo_id)
    allowed = ask_hub(refused, lambda: can_write(repo_id, repo_type, token=token))
    place = f"the {repo_type} {repo_id} on {constants.ENDPOINT}"
    if allowed is None and repo_id.partition("/")[0] not in namespaces:
        owners = ", ".join(sorted(namespaces))
        raise InputError(f"{refused}: {user} cannot see or create {place}: name a repository of {owners}")
    if allowed is False:
        raise InputError(f"{refused}: {user} has no permission to write to {place}: name another repository")
    return Target(repo_id, repo_type, private, revision, token)


def model_repo_name(name_or_path: str) -> str:
    """The repository of a model, to which its report belongs: its Hub id, where its folder was pushed, or its name."""
    state = read_state(Path(name_or_path))
    pushed_to = state and state["push_to"]
    return pushed_to or public_name(name_or_path)


def push_model(folder: str | Path, target: Target, *, message: str) -> str:
    """Push an adapter, a fine-tuned or a merged model in one commit and return the commit's URL.

    Of the folder, only the files of the result (`result_files.model_files`) are pushed. In processor_config.json a
    local path of the codec is replaced by the name of its folder. The commit deletes the files of an earlier result,
    its evaluation included.

    Args:
        folder: folder of the model.
        message: title of the commit.

    Raises:
        InputError: no such folder, or a file of the result is missing, not valid, or a link out of the folder.
        PushError: the push failed, or the repository has weights that are not of this project.
    """
    folder = Path(folder).resolve()
    names = model_files(folder)
    log_skipped(folder, names)

    def stale_files(repo: Repo) -> set[str]:
        theirs = {name for name in repo.files if is_model_file(name)}
        weights = sorted(name for name in theirs if name.endswith(".safetensors"))
        if weights and not {RUN_INFO, MERGE_INFO} & repo.files:
            raise InputError(
                f"it contains {weights[0]} but neither {RUN_INFO} nor {MERGE_INFO}: not a result of this project; "
                "name another repository"
            )
        return theirs - set(names)

    operations = [CommitOperationAdd(name, _public_content(folder / name)) for name in names]
    retry = f"{IMPORT}, push_model; push_model({str(folder)!r}, {target!r}, {message=})"
    return push_files(folder, operations, target, message=message, stale_files=stale_files, retry=retry)


def push_report(folder: str | Path, target: Target) -> str:
    """Push an evaluation report to evaluation/ of a model's repository, and its scores to the model's card.

    The report of a benchmark has a folder in evaluation/ and a section of the card for itself. Both are one commit,
    which deletes the files of an earlier report of the same kind; the rest of the card is kept. Returns the commit's
    URL.

    Raises:
        InputError: metrics.json is missing or incomplete, or names a file outside the folder.
        PushError: the push failed, or the metadata of the repository's card cannot be parsed.
    """
    folder = Path(folder).resolve()
    metrics = read_record(folder / METRICS_RECORD)
    names = report_files(folder)
    place = report_folder(metrics)
    update_evaluation("", metrics, name=target.repo_id)  # finds missing fields before any request to the Hub
    log_skipped(folder, names)

    def card(repo: Repo) -> dict[str, bytes]:
        old = read_remote_file(repo, CARD, token=target.token)
        try:
            return {CARD: update_evaluation(old, metrics, name=repo.id, folder=place).encode()}
        except (yaml.YAMLError, KeyError, TypeError) as error:
            raise InputError(f"the metadata of its {CARD} cannot be parsed ({error}); fix it on the Hub") from error

    operations = [CommitOperationAdd(f"{place}/{name}", folder / name) for name in names]
    pushed = {operation.path_in_repo for operation in operations}
    return push_files(
        folder,
        operations,
        target,
        message="Add evaluation",
        stale_files=lambda repo: {name for name in repo.files if is_report_file(name, place)} - pushed,
        retry=f"{IMPORT}, push_report; push_report({str(folder)!r}, {target!r})",
        more_contents=card,
    )


def push_files(
    folder: Path,
    operations: Sequence[CommitOperationAdd],
    target: Target,
    *,
    message: str,
    stale_files: Callable[[Repo], set[str]],
    retry: str,
    more_contents: Callable[[Repo], Mapping[str, bytes]] = lambda repo: {},
) -> str:
    """Commit files and delete stale ones, then record the push in the folder. Returns the commit's URL."""
    where = {"repo_type": target.repo_type, "revision": target.revision, "token": target.token}

    def commit() -> str:
        repo = open_repo(target.repo_id, private=target.private, **where)
        added = [CommitOperationAdd(name, content) for name, content in more_contents(repo).items()]
        return commit_files(repo, [*operations, *added], stale_files(repo), message=message, **where)

    url = explain_push(commit, target, folder=folder, retry=retry)
    record_push(folder, repo_id=target.repo_id, url=url)
    return url


def explain_push(push: Callable[[], str], target: Target, *, folder: Path, retry: str) -> str:
    """Run a push; a failure becomes a `PushError` with `retry`, Python code that repeats the push."""
    failed = f"the push to {target.repo_id} failed"
    try:
        return ask_hub(failed, push)
    except InputError as error:
        reason = str(error) if isinstance(error, HubError) else f"{failed}: {error}"
        token = "" if target.token is None else ", with the token in HF_TOKEN"
        raise PushError(
            f"{reason}. All files are on disk at {folder}; to push again{token}:\n"
            f"  {shlex.join([sys.executable, '-c', retry])}"
        ) from error


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
    metrics = read_record(report / METRICS_RECORD) if report.exists() else None
    if metrics is not None:
        report_files(report)  # checks the clips that it names
    card = adapter_card(read_record(folder / RUN_INFO), name=name or str(folder), metrics=metrics)
    atomic_write(folder / CARD, card)


def write_merged_card(folder: str | Path, *, name: str | None = None) -> None:
    """Write README.md of a merged checkpoint from its merge.json and, if the adapter had one, its run.json.

    Args:
        folder: folder of the merged checkpoint.
        name: Hub id of the model; default: the folder.

    Raises:
        InputError: merge.json or a field of a record is missing.
    """
    folder = Path(folder)
    run = read_record(folder / RUN_INFO) if (folder / RUN_INFO).exists() else None
    card = merged_card(read_record(folder / MERGE_INFO), name=name or str(folder), run=run)
    atomic_write(folder / CARD, card)


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
