"""JSON files read with care: records that a run leaves behind (run.json, merge.json, metrics.json, corpus.json), and
configs of models to make."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from higgs_recipes.errors import InputError


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
