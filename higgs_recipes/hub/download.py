"""Download repositories from the Hub, without pickles. Every failure is an `InputError` with one clear message."""

from dataclasses import dataclass
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
from higgs_recipes.files import explain_full_disk


# Pickles, which run code when loaded, and weights for frameworks that are not used here.
UNSAFE_PATTERNS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle", "*.h5", "*.msgpack")


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

    Files that match `UNSAFE_PATTERNS` are never downloaded.

    Args:
        name_or_path: local folder or Hub id; an existing folder takes precedence.
        repo_type: type of the repository.
        revision: commit, tag or branch; ignored for a local folder.
        allow_patterns: patterns of the files to download; None: all.
        local_dir: folder to download into; None: the Hub's cache.

    Raises:
        InputError: no such folder, invalid id, missing, private or gated repository, missing revision, or no
            connection to the Hub.
    """
    name = str(name_or_path)
    folder = Path(name).expanduser()
    if name and folder.is_dir():
        return Snapshot(name, None, folder)
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
        raise InputError(f"'{name}' is neither a local folder nor a valid id of a {repo_type} on the Hub") from error
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
        raise InputError(f"{repo} could not be downloaded: {hub_reason(error)}") from error
    except (HfHubHTTPError, HTTPError) as error:
        raise InputError(f"{repo} could not be downloaded: {hub_reason(error)}") from error
    # A folder in the cache is named by its commit.
    return Snapshot(name, revision if local_dir else Path(snapshot).name, Path(snapshot))


def hub_reason(error: Exception) -> str:
    """Explain in one line why a request to the Hub failed, and what to do."""
    cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) and error.__cause__ else error
    hub = constants.ENDPOINT
    if not isinstance(cause, HfHubHTTPError):
        return f"{hub} cannot be reached ({type(cause).__name__}); check the connection and run again"
    status = cause.response.status_code
    if status in (401, 403):
        return f"{hub} rejected the token or got none ({status}); run `hf auth login` with a token that has permission"
    answer = f"{hub} answered {status} {cause.server_message or cause.response.reason_phrase}".rstrip()
    return f"{answer}; wait and run again" if status == 429 or status >= 500 else answer
