"""Read JSON files: records of runs (run.json, merge.json, metrics.json, corpus.json) and model configs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from higgs_recipes.errors import InputError


Config = TypeVar("Config")


class Fields(dict):
    """A record that raises `InputError` with the file and the field if a field is missing."""

    def __init__(self, record: Mapping[str, Any], file: str) -> None:
        super().__init__(record)
        self.file = file

    def __missing__(self, field: str) -> Any:
        raise InputError(f"{self.file}: field {field!r} is missing: create the file again with this version")


def read_record(path: str | Path) -> Fields:
    """Read a record from a JSON file.

    Raises:
        InputError: the file does not exist, is not JSON or is not a mapping.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} is missing: only a finished run has it")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    if not isinstance(record, dict):
        raise InputError(f"{path} contains a {type(record).__name__}, not a mapping")
    return Fields(record, str(path))


def read_config(path: str | Path, config_class: type[Config]) -> Config:
    """Read a transformers config from a JSON file.

    Raises:
        InputError: the file does not exist or is not JSON, its `model_type` is not that of the class, or the class
            rejects its values.
    """
    expected = config_class.model_type
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file; expected a JSON file of a {config_class.__name__}")
    fields = dict(read_record(path))
    if fields.pop("model_type", None) != expected:
        raise InputError(f'{path}: not a {config_class.__name__}; it must contain "model_type": "{expected}"')
    try:
        return config_class(**fields)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
