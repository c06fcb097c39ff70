"""Records that runs store next to their weights: run.json and merge.json."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from higgs_recipes.errors import InputError, shown
from higgs_recipes.records import Fields, read_record


RUN_INFO, MERGE_INFO = "run.json", "merge.json"

# The types of fields of run.json. The run.json of an adapter from the Hub may have been written by anybody.
_TEXT, _NUMBER = (str, type(None)), (int, float)
_FIELDS = {
    **dict.fromkeys(("base_model", "base_fingerprint", "method", "codec", "hardware"), (str,)),
    **dict.fromkeys(("base_revision", "git_commit", "adapter", "adapter_revision"), _TEXT),
    **dict.fromkeys(("recipe", "versions", "losses"), (dict,)),
    "best": (dict, type(None)),
    **dict.fromkeys(("datasets", "log_history"), (list,)),
    "steps": (int,),
    **dict.fromkeys(("untrained_base", "higgs_license"), (bool, type(None))),
}
_STEP = {"step": (int,)}
_DATASET = {"path": (str,), "fingerprint": (str,), "rows": (int,), "seconds": _NUMBER}
# What an evaluation and its report use.
_REPORTED = ("method", "steps", "hardware", "git_commit", "datasets", "log_history")
_LARGEST = 1e100  # of numbers: a plot fails near the largest float
_LOGGED = ("loss", "eos_", "eval_", "learning_rate", "step")  # names of numbers in the log begin so


def checked_run(run: Mapping[str, Any], file: str) -> Fields:
    """Check the types of the fields of run.json that are there.

    Args:
        file: name of the file in messages.

    Raises:
        InputError: a field has another type; names the file and the field.
    """
    _check_types(run, _FIELDS, where=file)
    for index, dataset in enumerate(run.get("datasets", ())):
        _check_types(dataset, _DATASET, where=f"{file}: datasets[{index}]")
    for index, entry in enumerate(run.get("log_history", ())):
        where = f"{file}: log_history[{index}]"
        if not isinstance(entry, dict) or "step" not in entry:
            raise InputError(
                f"{where} is {shown(entry, limit=80)}: it must be a mapping with a step; use a record of this project"
            )
        _check_types(entry, {name: _NUMBER for name in entry if str(name).startswith(_LOGGED)} | _STEP, where=where)
    return Fields(run, file)


def read_run(folder: Path) -> Fields | None:
    """Read run.json of an adapter or fine-tuned model; None if the folder has none.

    Raises:
        InputError: it is not JSON, or a field has an unexpected type.
    """
    path = folder / RUN_INFO
    return checked_run(read_record(path), str(path)) if path.is_file() else None


def read_reported_run(folder: Path) -> Fields | None:
    """Read run.json as `read_run`, for an evaluation: its report must not fail on it after hours of work.

    Raises:
        InputError: as `read_run`, or a field that the report uses is missing.
    """
    run = read_run(folder)
    if run is not None:
        for name in _REPORTED:
            run[name]  # raises if it is missing
        for index, dataset in enumerate(run["datasets"]):
            Fields(dataset, f"{run.file}: datasets[{index}]")["fingerprint"]
    return run


def _check_types(record: Any, types: Mapping[str, tuple[type, ...]], *, where: str) -> None:
    if not isinstance(record, dict):
        raise InputError(f"{where} is {shown(record, limit=80)}: it must be a mapping; use a record of this project")
    for name, allowed in types.items():
        if name in record and type(record[name]) not in allowed:
            expected = " or ".join(kind.__name__ for kind in allowed)
            found = shown(record[name], limit=80)
            raise InputError(
                f"{where}: field {name!r} is {found}: it must be {expected}; use a record of this project"
            )
        if type(record.get(name)) in _NUMBER and _LARGEST <= abs(record[name]) < math.inf:
            raise InputError(
                f"{where}: field {name!r} is {shown(record[name], limit=80)}: it is too large for a record"
            )
