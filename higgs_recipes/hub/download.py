"""Download repositories from the Hub, without pickles. Every failure is an `InputError` with one clear message."""

import hashlib
import logging
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import repo_folder_name

from higgs_recipes.errors import InputError
from higgs_recipes.files import explain_full_disk, sha256_file
from higgs_recipes.hub.client import (
    DamagedDownloadError,
    HubError,
    Repo,
    RepoType,
    ask_hub,
    check_repo_id,
    check_revision,
    checked_commit,
    hub_reason,
)


logger = logging.getLogger(__name__)

# Pickles, which run code when loaded, and weights for frameworks that are not used here.
UNSAFE_PATTERNS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle", "*.h5", "*.msgpack")
EXPLAINED = (GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError, LocalEntryNotFoundError)


@dataclass(frozen=True)
class Snapshot:
    """The files of a Hub repository at one commit, or of a local folder.

    Attributes:
        name: Hub id or folder, as given.
        commit: commit hash; None for a local folder.
        folder: local folder with the files.
    """

    name: str
    commit: str | None
    folder: Path


def fetch(
    name_or_path: str | Path,
    *,
    repo_type: Literal["model", "dataset"] = "model",
    revision: str | None = None,
    allow_patterns: list[str] | None = None,
    local_dir: Path | None = None,
) -> Snapshot:
    """Return a local folder as it is, or download a snapshot of a Hub repository.

    Files that match `UNSAFE_PATTERNS` are never downloaded. The content of each downloaded file is compared with the
    hash that the Hub states, once, after its download; this reads it again (1 to 2 s per GB).

    Args:
        name_or_path: local folder or Hub id; an existing folder takes precedence.
        repo_type: type of the repository.
        revision: commit, tag or branch; ignored for a local folder.
        allow_patterns: patterns of the files to download; None: all.
        local_dir: folder to download into; None: the Hub's cache.

    Raises:
        InputError: no such folder, invalid id, missing, private or gated repository, missing revision, a damaged
            download, or no connection to the Hub.
    """
    name = str(name_or_path)
    folder = os.path.expanduser(name)
    if name and os.path.isdir(folder):  # unlike Path.is_dir, it accepts names that are too long for a file
        return Snapshot(name, None, Path(folder))
    if name and os.path.exists(folder):
        raise InputError(f"{name} is a file: give a folder or the id of a {repo_type} on the Hub")
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise InputError(f"no such folder: {name}")
    try:
        check_repo_id(name)
    except InputError as error:
        raise InputError(f"'{name}' is neither a local folder nor a valid id of a {repo_type} on the Hub") from error
    check_revision(revision)

    repo = f"{repo_type} '{name}'" + (f" at revision '{revision}'" if revision else "")
    hub = constants.ENDPOINT

    def download() -> str:
        known = _cached_blobs(name, repo_type)
        with explain_full_disk(local_dir or constants.HF_HUB_CACHE):
            snapshot = snapshot_download(
                name,
                repo_type=repo_type,
                revision=revision,
                allow_patterns=allow_patterns,
                ignore_patterns=list(UNSAFE_PATTERNS),
                local_dir=local_dir,
            )
        if local_dir is None:
            _check_blobs(_cached_blobs(name, repo_type) - known)
        else:
            _check_files(name, local_dir, repo_type=repo_type, revision=revision)
        return snapshot

    try:
        snapshot = ask_hub(f"{repo} could not be downloaded", download, raises=EXPLAINED)
    except GatedRepoError as error:
        page = f"{hub}/{'datasets/' if repo_type == 'dataset' else ''}{name}"
        raise InputError(f"{repo} is gated: accept its terms at {page}, then run `hf auth login`") from error
    except RepositoryNotFoundError as error:
        raise InputError(
            f"{repo} is not a local folder and not on {hub}, or it is private and you have no access: check the name, "
            "or run `hf auth login` with an account that has access"
        ) from error
    except RevisionNotFoundError as error:
        raise InputError(f"{repo} is not on {hub}: name an existing branch, tag or full commit hash") from error
    except LocalEntryNotFoundError as error:
        if constants.HF_HUB_OFFLINE:
            raise InputError(
                f"{repo} is not a local folder and not in the cache {constants.HF_HUB_CACHE}, and offline mode is on: "
                "unset HF_HUB_OFFLINE, or give a local folder"
            ) from error
        raise HubError(f"{repo} could not be downloaded: {hub_reason(error)}") from error
    # A folder in the cache is named by its commit.
    return Snapshot(name, revision if local_dir else Path(snapshot).name, Path(snapshot))


def read_remote_file(repo: Repo, path: str, *, token: str | None) -> str:
    """A text file at the repository's commit (not a stale one from the cache); "" if there is none. For `ask_hub`."""
    try:
        file = hf_hub_download(repo.id, path, revision=repo.commit, token=token)
    except RemoteEntryNotFoundError:
        return ""
    return Path(file).read_text(encoding="utf-8")


def _cached_blobs(name: str, repo_type: RepoType) -> set[Path]:
    """The contents in the Hub's cache of a repository; the name of each file is its hash."""
    blobs = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type=repo_type) / "blobs"
    return {path for path in blobs.glob("*") if not path.name.endswith(".incomplete")}


def _check_blobs(blobs: Collection[Path]) -> None:
    for blob in sorted(blobs):
        if not _has_hash(blob, blob.name):
            blob.unlink()
            raise DamagedDownloadError(f"a file arrived damaged: its content does not have the hash {blob.name}")


def _check_files(name: str, folder: Path, *, repo_type: RepoType, revision: str | None) -> None:
    paths = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    paths = [path for path in paths if not path.startswith(".cache/")]  # of huggingface_hub
    for entry in HfApi().get_paths_info(name, paths, revision=revision, repo_type=repo_type):
        expected = entry.lfs.sha256 if entry.lfs is not None else entry.blob_id
        if not _has_hash(folder / entry.path, expected):
            (folder / entry.path).unlink()
            raise DamagedDownloadError(f"{entry.path} arrived damaged: its content does not have the hash {expected}")


def _has_hash(path: Path, expected: str) -> bool:
    """Whether a file has the SHA-256 of large files, or the hash by which git names the content of others."""
    if len(expected) == 64:
        return sha256_file(path) == expected
    checked_commit(expected)
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size)
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest() == expected
