"""Requests that read or change repositories on the Hub, besides downloads. Call them inside `ask_hub`."""

import logging
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, hf_hub_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile

from higgs_recipes.errors import InputError
from higgs_recipes.files import has_git_hash
from higgs_recipes.hub.download import DamagedDownloadError, RepoType, checked_commit


logger = logging.getLogger(__name__)


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


def login_name(token: str | None) -> tuple[str, set[str]]:
    """The user of the token, and the namespaces in which the token may create repositories."""
    answer = HfApi(token=token).whoami()
    user, organizations = answer["name"], answer.get("orgs") or []
    if not isinstance(user, str) or re.fullmatch(r"[\w.-]+", user) is None:
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
    files = frozenset(file.path for file in _list_files(repo_id, repo_type, commit, token=token))
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

    The commit is listed afterwards: a .gitignore in the repository makes the Hub leave files out.

    It is not upload_folder, which may split a large folder into several commits: a reader could fetch half of it.
    """
    api = HfApi(token=token)
    commit = api.create_commit(
        repo.id,
        [*additions, *map(CommitOperationDelete, sorted(deletions))],
        repo_type=repo_type,
        commit_message=message,
        revision=revision,
        parent_commit=repo.commit,
    )
    stored = _list_files(repo.id, repo_type, checked_commit(commit.oid), token=token)
    sizes = {file.path: file.size for file in stored}
    missing = [added.path_in_repo for added in additions if sizes.get(added.path_in_repo) != added.upload_info.size]
    if missing:
        raise InputError(f"{constants.ENDPOINT} did not store {missing[0]}: does the .gitignore of {repo.id} name it?")
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
    return commit, {file.path: file.blob_id for file in _list_files(repo_id, "dataset", commit, token=None)}


def _list_files(repo_id: str, repo_type: RepoType, commit: str, *, token: str | None) -> list[RepoFile]:
    tree = HfApi(token=token).list_repo_tree(repo_id, recursive=True, revision=commit, repo_type=repo_type)
    return [entry for entry in tree if isinstance(entry, RepoFile)]


def read_remote_file(repo: Repo, path: str, *, token: str | None) -> str:
    """A text file at the repository's commit (not a stale one from the cache); "" if there is none."""
    try:
        file = hf_hub_download(repo.id, path, revision=repo.commit, token=token)
    except RemoteEntryNotFoundError:
        return ""
    return Path(file).read_text(encoding="utf-8")


def download_file(name: str, file_name: str, *, commit: str) -> Path:
    """Download one file of a model repository into the Hub's cache, even a pickle, which `fetch` never downloads.

    Raises:
        DamagedDownloadError: the content does not have its hash; the file is removed.
    """
    path = Path(hf_hub_download(name, file_name, revision=commit)).resolve()
    if not has_git_hash(path, path.name):  # in the cache, the name of a file is its hash
        path.unlink()
        raise DamagedDownloadError(f"{file_name} arrived damaged: its content has not the hash {path.name}")
    return path
