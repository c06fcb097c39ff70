"""JSON files read with care: records that a run leaves behind (run.json, merge.json, metrics.json, corpus.json), and
configs of models to make."""

import json
import re
from collections.abc import Mapping
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, TypeVar

from higgs_recipes.errors import InputError
from higgs_recipes.files import is_hub_id


Config = TypeVar("Config")


class Fields(dict):
    """A record whose missing field is an `InputError` that names the file and the field."""

    def __init__(self, record: Mapping[str, Any], file: str) -> None:
        super().__init__(record)
        self.file = file

    def __missing__(self, field: str) -> Any:
        raise InputError(f"{self.file}: field {field!r} is missing: make the file again with this version")


def read_record(path: str | Path) -> Fields:
    """A record from its JSON file.

    Raises:
        InputError: no such file, no JSON, no mapping.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} is missing: a finished run leaves it there")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    if not isinstance(record, dict):
        raise InputError(f"{path} holds a {type(record).__name__}, not a record")
    return Fields(record, str(path))


def read_config(path: str | Path, config_class: type[Config]) -> Config:
    """A transformers config from its JSON file.

    Raises:
        InputError: no such file, no JSON, another `model_type` than the class's, or values that the class refuses.
    """
    expected = config_class.model_type
    if not Path(path).is_file():
        raise InputError(f"{path}: no such config; name a JSON file of a {config_class.__name__}")
    fields = dict(read_record(path))
    if fields.pop("model_type", None) != expected:
        raise InputError(f'{path}: no {config_class.__name__}; it must hold "model_type": "{expected}"')
    try:
        return config_class(**fields)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error


def file_inside(folder: str | Path, relative: str, *, field: str) -> Path:
    """The file that a record names: relative to its folder, there, and inside it.

    Raises:
        InputError: no text, absolute, outside the folder (by ".." or a link), or no file; names the record's field.
    """
    if not isinstance(relative, str):
        raise InputError(f"{field} is {relative!r}: it must name a file")
    folder = Path(folder).resolve()
    path = (folder / relative).resolve()
    if Path(relative).is_absolute() or not path.is_relative_to(folder):
        raise InputError(f"{field} is {relative!r}: it leaves the folder {folder}")
    if not path.is_file():
        raise InputError(f"{field} is {relative!r}: no such file in {folder}")
    return path


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
