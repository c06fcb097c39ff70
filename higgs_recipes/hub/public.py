"""Names and paths that may be published: Hub ids and relative paths, but no paths of the local machine."""

import re
from collections.abc import Mapping
from pathlib import Path, PurePath, PurePosixPath
from typing import Any


def is_hub_id(name: str) -> bool:
    """Whether `fetch` would look for `name` on the Hub: it has the form user/name and is not a local folder."""
    return re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None and name[0] != "." and not Path(name).is_dir()


def public_name(name: str) -> str:
    """Return a Hub id unchanged, and only the last component of a local path.

    >>> public_name("user/voice"), public_name("/home/someone/voice")
    ('user/voice', 'voice')
    """
    return name if is_hub_id(name) else PurePosixPath(name).name


def public_path(path: str) -> str:
    """Return a Hub id or a path below the working folder unchanged, and only the last component of other paths.

    >>> [public_path(path) for path in ("outputs/voice", "/home/someone/voice", "../voice", "~/voice")]
    ['outputs/voice', 'voice', 'voice', 'voice']
    """
    pure = PurePath(path)
    from_home = pure.parts and re.fullmatch(r"~[\w.-]*", pure.parts[0])
    return pure.name if pure.is_absolute() or ".." in pure.parts or from_home else path


def public_record(record: Any) -> Any:
    """Apply `public_path` to every string in a nested record, before it is published.

    >>> public_record({"sources": [{"path": "/home/someone/wavs"}], "seed": 0})
    {'sources': [{'path': 'wavs'}], 'seed': 0}
    """
    if isinstance(record, str):
        return public_path(record)
    if isinstance(record, Mapping):
        return {field: public_record(value) for field, value in record.items()}
    if isinstance(record, (list, tuple)):
        return [public_record(value) for value in record]
    return record


def with_revision(name: str, revision: str | None) -> str:
    """Name a model with its revision.

    >>> with_revision("user/name", "abc"), with_revision("user/name", None)
    ('user/name @ abc', 'user/name')
    """
    return public_name(name) + (f" @ {revision}" if revision else "")
