"""Download repositories from the Hub, without pickles. A failed request is an `InputError` that says what to do."""

import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from json import JSONDecodeError
from pathlib import Path
from typing import Any, Literal, TypeVar

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,  # of httpx or httpx2: whichever this huggingface_hub is built on
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import validate_repo_id

from higgs_recipes.errors import DiskError, InputError
from higgs_recipes.files import atomic_write, explain_full_disk, has_git_hash


logger = logging.getLogger(__name__)

Result = TypeVar("Result")
RepoType = Literal["model", "dataset"]

# Pickles, which run code when loaded, and weights for frameworks that are not used here.
UNSAFE_PATTERNS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle", "*.h5", "*.msgpack")
EXPLAINED = (GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError, LocalEntryNotFoundError)

RETRY_WAITS = (1.0, 2.0, 4.0)  # seconds before each further attempt
# A conflict (412) too: an attempt reads the state of the repository again.
TEMPORARY_STATUS = (408, 412, 429, 500, 502, 503, 504)
# Of Python, where huggingface_hub reads an answer that is not the Hub's: of a proxy, or a login page.
UNREADABLE_ANSWER = (
    *(KeyError, IndexError, TypeError, AttributeError, AssertionError, JSONDecodeError, UnicodeError, RecursionError),
)
# huggingface_hub raises OSError and ValueError too, and its Rust client for xet storage RuntimeError.
HUB_FAILURES = (HTTPError, OSError, ValueError, RuntimeError, *UNREADABLE_ANSWER)
MAX_REASON = 300  # characters of what a server sent


class HubError(InputError):
    """A request to the Hub failed."""


class DamagedDownloadError(ValueError):
    """A downloaded file has another hash than the Hub states."""


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
    is_incomplete = type(error) is OSError and error.errno is None  # a file of another size than the Hub states
    return is_incomplete or isinstance(error, (HTTPError, DamagedDownloadError))


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
    if isinstance(cause, UnicodeEncodeError) and cause.encoding == "ascii":
        return "the token contains characters that no token has; run `hf auth login`"
    if isinstance(cause, UNREADABLE_ANSWER):
        found = _short(f"{type(cause).__name__}: {cause}")  # not its repr, which may contain the token
        return (
            f"{hub} sent an answer that cannot be read ({found}); a proxy or a login page may answer in its place: "
            f"open {hub} in a browser, then run again"
        )
    reason = _short(str(cause)) or type(cause).__name__
    return reason if isinstance(cause, HFValidationError) else f"{hub}: {reason}"


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


def fetch(
    name_or_path: str | Path,
    *,
    repo_type: RepoType = "model",
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
        with explain_full_disk(local_dir or constants.HF_HUB_CACHE), _checked_blobs(name, repo_type):
            snapshot = snapshot_download(
                name,
                repo_type=repo_type,
                revision=revision,
                allow_patterns=allow_patterns,
                ignore_patterns=list(UNSAFE_PATTERNS),
                local_dir=local_dir,
            )
        if local_dir is not None:
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


@contextmanager
def _checked_blobs(name: str, repo_type: RepoType) -> Iterator[None]:
    """Compare what a download adds to the Hub's cache with its hashes, also if the download fails halfway.

    The names of compared files are recorded, so a run also compares what a killed run or another process has added.
    The record is never removed, and only replaced as a whole: processes that fetch the same repository share it.
    If a file has another content (`DamagedDownloadError`), it is removed.
    """
    cache, folder = Path(constants.HF_HUB_CACHE), repo_folder_name(repo_id=name, repo_type=repo_type)
    blobs, record = cache / folder / "blobs", cache / ".locks" / folder / "higgs_recipes_compared.json"
    # Listed before the record is read: without a record, no process of this project has added any of these.
    known = {path.name for path in blobs.glob("*") if path.suffix != ".incomplete"}
    try:
        known &= set(json.loads(record.read_bytes()))
    except FileNotFoundError:
        with suppress(DiskError):  # nothing can be downloaded into a cache that cannot be written
            atomic_write(record, json.dumps(sorted(known)))
    try:
        yield
    finally:
        present = [path for path in sorted(blobs.glob("*")) if path.suffix != ".incomplete"]
        added = [path for path in present if path.name not in known]
        damaged = [path for path in added if not has_git_hash(path, path.name)]  # the name of a file is its hash
        for path in damaged:
            path.unlink(missing_ok=True)  # another process may have removed it
        with suppress(DiskError):
            atomic_write(record, json.dumps([path.name for path in present if path not in damaged]))
        if damaged:
            raise DamagedDownloadError(f"a file arrived damaged: its content has not the hash {damaged[0].name}")


def _check_files(name: str, folder: Path, *, repo_type: RepoType, revision: str | None) -> None:
    """Compare downloaded files with their hashes; as `_checked_blobs`, for a download outside the cache."""
    paths = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    paths = [path for path in paths if not path.startswith(".cache/")]  # of huggingface_hub
    for entry in HfApi().get_paths_info(name, paths, revision=revision, repo_type=repo_type):
        expected = entry.lfs.sha256 if entry.lfs is not None else entry.blob_id
        if entry.path in paths and not has_git_hash(folder / entry.path, expected):
            (folder / entry.path).unlink()
            raise DamagedDownloadError(f"{entry.path} arrived damaged: its content has not the hash {expected}")
