"""Files and folders: fetched from the Hub, written whole or not at all, and named so that a run can be traced."""

import errno
import glob
import hashlib
import logging
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,  # of httpx or httpx2: whichever this huggingface_hub is built on
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from higgs_recipes.errors import InputError


logger = logging.getLogger(__name__)

# Loading a pickle runs the code inside it, and the rest are weights for frameworks that nothing here uses.
UNSAFE_PATTERNS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle", "*.h5", "*.msgpack")


def fetch(
    name_or_path: str | Path,
    *,
    repo_type: Literal["model", "dataset"] = "model",
    revision: str | None = None,
    allow_patterns: list[str] | None = None,
    local_dir: Path | None = None,
) -> Path:
    """An existing local folder as it is (`revision` says nothing of it), else the folder of the Hub repo's snapshot.

    Files that match `UNSAFE_PATTERNS` are never downloaded. With `local_dir` the files go there and not into the
    Hub's cache.

    Raises:
        InputError: no such folder, invalid id, missing, private or gated repo, missing revision, no way to the Hub.
    """
    name = str(name_or_path)
    folder = Path(name).expanduser()
    if name and folder.is_dir():
        return folder
    if name and folder.exists():
        raise InputError(f"{name} is a file: give a folder or the id of a {repo_type} on the Hub")
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise InputError(f"no such folder: {name}")

    repo = f"{repo_type} '{name}'" + (f" at revision '{revision}'" if revision else "")
    hub = constants.ENDPOINT
    try:
        with explain_full_disk(local_dir or constants.HF_HUB_CACHE):
            snapshot = snapshot_download(
                name,
                repo_type=repo_type,
                revision=revision,
                allow_patterns=allow_patterns,
                ignore_patterns=list(UNSAFE_PATTERNS),
                local_dir=local_dir,
            )
    except HFValidationError as error:
        raise InputError(f"'{name}' is neither a folder here nor a valid id of a {repo_type} on the Hub") from error
    except GatedRepoError as error:
        page = f"{hub}/{'datasets/' if repo_type == 'dataset' else ''}{name}"
        raise InputError(f"{repo} is gated: accept its terms at {page}, then run `hf auth login`") from error
    except RepositoryNotFoundError as error:
        raise InputError(
            f"{repo} is no folder here and not on {hub}, or it is private and you are not its reader: "
            "check the name, or run `hf auth login` with an account that may read it"
        ) from error
    except RevisionNotFoundError as error:
        raise InputError(f"{repo} is not on {hub}: name an existing branch, tag or full commit hash") from error
    except LocalEntryNotFoundError as error:
        if constants.HF_HUB_OFFLINE:
            raise InputError(
                f"{repo} is no folder here and not in the cache {constants.HF_HUB_CACHE}, and the Hub is switched "
                "off: unset HF_HUB_OFFLINE, or give a local folder"
            ) from error
        raise InputError(f"{repo} could not be fetched: {hub_reason(error)}") from error
    except (HfHubHTTPError, HTTPError) as error:
        raise InputError(f"{repo} could not be fetched: {hub_reason(error)}") from error
    return Path(snapshot)


def resolved_revision(
    name: str, revision: str | None, *, repo_type: Literal["model", "dataset"] = "model"
) -> str | None:
    """The commit that a Hub id stands for; None for a folder. Asked for what has been fetched, it needs no network.

    Raises:
        InputError: what `fetch` raises.
    """
    return fetch(name, repo_type=repo_type, revision=revision, allow_patterns=[]).name if is_hub_id(name) else None


def is_hub_id(name: str) -> bool:
    """Whether `fetch` would look for `name` on the Hub: the form user/name, and no folder here."""
    return re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None and name[0] != "." and not Path(name).is_dir()


def hub_reason(error: Exception) -> str:
    """One line: why a request to the Hub failed, and what to do about it."""
    cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) and error.__cause__ else error
    hub = constants.ENDPOINT
    if not isinstance(cause, HfHubHTTPError):
        return f"{hub} cannot be reached ({type(cause).__name__}); check the connection and run again"
    status = cause.response.status_code
    if status in (401, 403):
        return f"{hub} refused the token or found none ({status}); run `hf auth login` with a token that may do this"
    said = f"{hub} answered {status} {cause.server_message or cause.response.reason_phrase}".rstrip()
    return f"{said}; wait a little and run again" if status == 429 or status >= 500 else said


def check_output_dir(path: str | Path, *, overwrite: bool = False) -> None:
    """Refuse what `staged_folder` would refuse; for work that takes long before it writes.

    Raises:
        InputError: `path` is a file, or a folder with something in it and `overwrite` is false.
    """
    path = Path(path).expanduser().resolve()
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file, a folder is to be written there: remove it or choose another output_dir")
    if path.is_dir() and any(path.iterdir()) and not overwrite:
        raise InputError(f"{path} exists and is not empty: choose another output_dir or pass --overwrite_output_dir")


@contextmanager
def staged_folder(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A hidden sibling of `path` to write into: it becomes `path` when the block ends well, and goes when it fails.

    So a folder named `path` is always a whole one. What was there before is kept until the new one is complete.

    Raises:
        InputError: `path` is a file, or a folder with something in it and `overwrite` is false; or the disk is full.
    """
    check_output_dir(path, overwrite=overwrite)
    path = Path(path).expanduser().resolve()
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*"):
        if leftover.suffix in (".partial", ".replaced"):
            logger.warning("%s was left by a run that was killed or is still writing: remove it if none is", leftover)

    staging = _hidden_sibling(path, "partial")
    try:
        with explain_full_disk(path.parent):
            staging.mkdir(parents=True)
            yield staging
            replace_folder(staging, path, overwrite=overwrite)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def replace_folder(staging: Path, path: Path, *, overwrite: bool) -> None:
    """Rename a whole folder to `path`, in place of what stands there if `overwrite`.

    Raises:
        OSError: without `overwrite`, a folder with something in it stands there.
    """
    if not (overwrite and path.exists()):
        os.replace(staging, path)  # refused by the system if another run has filled `path` meanwhile
        return
    # No system call swaps two folders everywhere: the old one steps aside, and steps back if the new one cannot enter.
    aside = _hidden_sibling(path, "replaced")
    os.replace(path, aside)
    try:
        os.replace(staging, path)
    except BaseException:
        os.replace(aside, path)
        raise
    shutil.rmtree(aside)


def atomic_write(path: str | Path, content: str | bytes) -> None:
    """Write a whole file (text as UTF-8), its folders too: a reader sees the old content or all of the new."""
    path = Path(path).absolute()
    partial = _hidden_sibling(path, "partial")
    try:
        with explain_full_disk(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def explain_full_disk(folder: str | Path) -> Iterator[None]:
    """Turn "no space left" into an `InputError`, in whatever exception of whatever library it is wrapped."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if not _is_full_disk(error):
            raise
        free = shutil.disk_usage(_nearest_existing(Path(folder))).free // 2**20
        raise InputError(f"disk full at {folder}: {free} MB free; make room or choose another folder") from error


def git_commit() -> str | None:
    """The commit of the checkout that this package runs from, "-dirty" when edited; None where it is no checkout."""
    here = Path(__file__).resolve()
    if shutil.which("git") is None:
        return None
    # An installed copy may lie inside some other project's checkout: only a tracked file tells of this one.
    for command in ("ls-files --error-unmatch " + here.name, "describe --always --exclude=* --abbrev=40 --dirty"):
        git = subprocess.run(["git", "-C", here.parent, *command.split()], capture_output=True, text=True)
        if git.returncode:
            return None
    return git.stdout.strip()


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal, read a mebibyte at a time."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _hidden_sibling(path: Path, ending: str) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.{ending}")


def _is_full_disk(error: BaseException | None) -> bool:
    # Rust and C++ writers (safetensors, Arrow) keep only the text of the system's error, or wrap it.
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if os.strerror(errno.ENOSPC) in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _nearest_existing(folder: Path) -> Path:
    return next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
