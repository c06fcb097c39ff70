"""Names and paths that may be published: Hub ids and relative paths, never folders of this machine."""

import re
from collections.abc import Mapping
from pathlib import Path, PurePath, PurePosixPath
from typing import Any


def is_hub_id(name: str) -> bool:
    """Whether `fetch` would look for `name` on the Hub: the form user/name, and no folder here."""
    return re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None and name[0] != "." and not Path(name).is_dir()


def public_name(name: str) -> str:
    """A Hub id as it is; of a folder only its own name, since where it stands is nobody's business."""
    return name if is_hub_id(name) else PurePosixPath(name).name


def public_path(path: str) -> str:
    """A Hub id, and a path that stays below the working folder, as it is; of a place elsewhere only its name.

    >>> [public_path(path) for path in ("outputs/voice", "/home/someone/voice", "../voice", "~/voice")]
    ['outputs/voice', 'voice', 'voice', 'voice']
    """
    place = PurePath(path)
    from_home = place.parts and re.fullmatch(r"~[\w.-]*", place.parts[0])
    return place.name if place.is_absolute() or ".." in place.parts or from_home else path


def public_record(record: Any) -> Any:
    """The record with `public_path` of every text in it, however deep: it is written to be passed on."""
    if isinstance(record, str):
        return public_path(record)
    if isinstance(record, Mapping):
        return {field: public_record(value) for field, value in record.items()}
    if isinstance(record, (list, tuple)):
        return [public_record(value) for value in record]
    return record


def with_revision(name: str, revision: str | None) -> str:
    """A model with the revision that was used: "user/name @ abc"."""
    return public_name(name) + (f" @ {revision}" if revision else "")
