"""The requests to the Hub. Every failure is a `HubError` with the Hub's address, the reason and what to do.

The functions below `ask_hub` send requests and raise what huggingface_hub raises: call them inside `ask_hub`.
"""

import logging
import re
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from json import JSONDecodeError
from typing import Any, Literal, TypeVar

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,  # of httpx or httpx2: whichever this huggingface_hub is built on
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import validate_repo_id

from higgs_recipes.errors import InputError


logger = logging.getLogger(__name__)

Result = TypeVar("Result")
RepoType = Literal["model", "dataset"]

RETRY_WAITS = (1.0, 2.0, 4.0)  # seconds before each further attempt
# A conflict (412) too: an attempt reads the state of the repository again.
TEMPORARY_STATUS = (408, 412, 429, 500, 502, 503, 504)
# Of Python, where huggingface_hub reads an answer that is not the Hub's: of a proxy, or a login page.
UNREADABLE_ANSWER = (KeyError, IndexError, TypeError, AttributeError, AssertionError, JSONDecodeError, UnicodeError)
# huggingface_hub raises OSError and ValueError too, and its Rust client for xet storage RuntimeError.
HUB_FAILURES = (HTTPError, OSError, ValueError, RuntimeError, *UNREADABLE_ANSWER)
MAX_REASON = 300  # characters of what a server sent


class HubError(InputError):
    """A request to the Hub failed."""


class DamagedDownloadError(ValueError):
    """A downloaded file has another hash than the Hub states."""


@dataclass(frozen=True)
class Repo:
    """A repository at one commit.

    Attributes:
        id: full id.
        commit: commit hash.
        is_private: whether only its owners can read it.
        files: paths of its files.
    """

    id: str
    commit: str
    is_private: bool
    files: frozenset[str]


def ask_hub(action: str, request: Callable[[], Result], *, raises: tuple[type[Exception], ...] = ()) -> Result:
    """Call a function that sends requests to the Hub, again after temporary failures.

    Args:
        action: what failed, as the first words of the error message.
        request: the function; it must be repeatable.
        raises: exceptions of the function that the caller explains itself.

    Raises:
        HubError: the last attempt failed.
    """
    for wait in (*RETRY_WAITS, None):
        try:
            return request()
        except InputError:
            raise
        except HUB_FAILURES as error:
            if wait is not None and _is_temporary(error):
                logger.warning("%s: %s; trying again in %.0f s", action, hub_reason(error), wait)
                time.sleep(wait)
                continue
            if isinstance(error, raises):
                raise
            raise HubError(f"{action}: {hub_reason(error)}") from error
    raise AssertionError("the last attempt returns or raises")


def _is_temporary(error: Exception) -> bool:
    error = _cause(error)
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in TEMPORARY_STATUS
    return isinstance(error, (HTTPError, DamagedDownloadError))


def _cause(error: Exception) -> Exception:
    is_wrapped = isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, Exception)
    return error.__cause__ if is_wrapped else error


def hub_reason(error: Exception) -> str:
    """Explain in one line why a request to the Hub failed, and what to do.

    Messages of httpx are not passed on: for an invalid header they contain the token.
    """
    cause, hub = _cause(error), constants.ENDPOINT
    if isinstance(cause, LocalTokenNotFoundError):
        return "you are not logged in; run `hf auth login`"
    if isinstance(cause, OfflineModeIsEnabled):
        return "offline mode is on; unset HF_HUB_OFFLINE"
    if isinstance(cause, HfHubHTTPError):
        return _status_reason(cause)
    if isinstance(cause, HTTPError):
        return f"{hub} cannot be reached ({type(cause).__name__}); check the connection and run again"
    if isinstance(cause, UnicodeEncodeError):
        return "the token contains characters that no token has; run `hf auth login`"
    if isinstance(cause, UNREADABLE_ANSWER):
        found = _short(f"{type(cause).__name__}: {cause}")  # not its repr, which may contain the token
        return (
            f"{hub} sent an answer that cannot be read ({found}); a proxy or a login page may answer in its place: "
            f"open {hub} in a browser, then run again"
        )
    return _short(str(cause)) or type(cause).__name__


def _status_reason(error: HfHubHTTPError) -> str:
    hub, status = constants.ENDPOINT, error.response.status_code
    if status in (401, 403):
        return f"{hub} rejected the token or got none ({status}); run `hf auth login` with a token that has permission"
    answer = f"{hub} answered {status} {_short(error.server_message or error.response.reason_phrase)}".rstrip()
    return f"{answer}; wait and run again" if status in TEMPORARY_STATUS else answer


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= MAX_REASON else f"{text[:MAX_REASON]} ..."


def check_repo_id(name: str) -> None:
    """Raise `InputError` unless a name is a valid id of a repository."""
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise InputError(f"{_short(repr(name))} is not a valid repository id: {_short(str(error))}") from error


def check_revision(revision: str | None, *, field: str = "revision") -> None:
    """Raise `InputError` unless a revision is None or a possible name of a branch, a tag or a commit in git."""
    if revision is None:
        return
    forbidden = re.search(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^[/.-]|[/.]$|\.lock$", revision)
    if not revision or len(revision) > 255 or forbidden:
        raise InputError(f"{field} {_short(repr(revision))} is not the name of a branch, a tag or a commit")


def checked_commit(commit: Any) -> str:
    """A commit hash that the Hub sent; it becomes the name of a folder."""
    if not isinstance(commit, str) or re.fullmatch(r"[0-9a-f]{40}", commit) is None:
        raise TypeError(f"commit {commit!r}")
    return commit


def login_name(token: str | None) -> tuple[str, set[str]]:
    """The user of the token, and the namespaces in which the token may create repositories."""
    answer = HfApi(token=token).whoami()
    user, organizations = answer["name"], answer.get("orgs") or []
    if not isinstance(user, str):
        raise TypeError(f"name {user!r}")
    role = ((answer.get("auth") or {}).get("accessToken") or {}).get("role")
    if role == "read":
        raise InputError(f"the token of {user} is read-only; run `hf auth login` with a token that can write")
    return user, {user, *(organization["name"] for organization in organizations)}


def can_write(repo_id: str, repo_type: RepoType, *, token: str | None) -> bool | None:
    """Whether the token can write to a repository; None if it does not exist, or the token cannot see it."""
    try:
        HfApi(token=token).auth_check(repo_id, repo_type=repo_type, write=True)
    except RepositoryNotFoundError:
        return None
    except HfHubHTTPError as error:
        if error.response.status_code == 403:
            return False
        raise
    return True


def open_repo(
    repo_id: str, repo_type: RepoType, *, private: bool | None, revision: str | None, token: str | None
) -> Repo:
    """The head of a branch of a repository, after creating the repository and the branch if they do not exist."""
    api = HfApi(token=token)
    repo_id = api.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True).repo_id
    try:
        info = api.repo_info(repo_id, repo_type=repo_type, revision=revision)
    except RevisionNotFoundError:
        api.create_branch(repo_id, branch=revision, repo_type=repo_type, exist_ok=True)
        info = api.repo_info(repo_id, repo_type=repo_type, revision=revision)
    if private and not info.private:
        logger.warning("%s already exists and is public: the pushed files will be public", repo_id)
    commit = checked_commit(info.sha)
    tree = api.list_repo_tree(repo_id, recursive=True, revision=commit, repo_type=repo_type)
    files = frozenset(entry.path for entry in tree if isinstance(entry, RepoFile))
    return Repo(repo_id, commit, bool(info.private), files)


def commit_files(
    repo: Repo,
    additions: Sequence[CommitOperationAdd],
    deletions: Collection[str],
    *,
    repo_type: RepoType,
    message: str,
    revision: str | None,
    token: str | None,
) -> str:
    """Add and delete files in one commit and return its URL; fails if the branch has changed since `open_repo`.

    It is not upload_folder, which may split a large folder into several commits: a reader could fetch half of it.
    """
    commit = HfApi(token=token).create_commit(
        repo.id,
        [*additions, *map(CommitOperationDelete, sorted(deletions))],
        repo_type=repo_type,
        commit_message=message,
        revision=revision,
        parent_commit=repo.commit,
    )
    return commit.commit_url


def upload_file(
    addition: CommitOperationAdd, repo_id: str, repo_type: RepoType, *, private: bool | None, token: str | None
) -> None:
    """Upload a large file, to be committed later, after creating the repository if it does not exist."""
    api = HfApi(token=token)
    repo_id = api.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True).repo_id
    api.preupload_lfs_files(repo_id, [addition], repo_type=repo_type)


def dataset_files(repo_id: str, *, revision: str | None) -> tuple[str, dict[str, str]]:
    """The commit of a dataset and its files: path -> hash of the content."""
    commit = checked_commit(HfApi().dataset_info(repo_id, revision=revision).sha)
    tree = HfApi().list_repo_tree(repo_id, recursive=True, revision=commit, repo_type="dataset")
    return commit, {entry.path: entry.blob_id for entry in tree if isinstance(entry, RepoFile)}
