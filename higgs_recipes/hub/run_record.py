"""Records that runs store next to their weights: run.json and merge.json."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from higgs_recipes.errors import InputError, shown
from higgs_recipes.hub.public import with_revision
from higgs_recipes.records import Fields, read_record


RUN_INFO, MERGE_INFO = "run.json", "merge.json"
LISTENING = "listening"  # entry of run.json: scores of generated speech, and what scored it
LISTEN_SAMPLES = "eval_listen_samples"
# Logged score -> its name in a card and its format.
_SCORE_FORMATS = {
    "eval_wer": ("WER", "{:.1%}"),
    "eval_cer": ("CER", "{:.1%}"),
    "eval_similarity": ("similarity", "{:.3f}"),
    "eval_stop_rate": ("stopped by themselves", "{:.0%}"),
    "eval_chars_per_second": ("characters per second", "{:.1f}"),
}
LISTEN_SCORES = (*_SCORE_FORMATS, LISTEN_SAMPLES, "eval_listen_seconds")

# The types of fields of run.json. The run.json of an adapter from the Hub may have been written by anybody.
_TEXT, _NUMBER = (str, type(None)), (int, float)
_FIELDS = {
    **dict.fromkeys(("base_model", "base_fingerprint", "method", "codec", "hardware"), (str,)),
    **dict.fromkeys(("base_revision", "git_commit", "adapter", "adapter_revision"), _TEXT),
    **dict.fromkeys(("recipe", "versions", "losses"), (dict,)),
    **dict.fromkeys(("best", LISTENING), (dict, type(None))),
    **dict.fromkeys(("datasets", "log_history"), (list,)),
    "steps": (int,),
    **dict.fromkeys(("untrained_base", "higgs_license"), (bool, type(None))),
}
_STEP = {"step": (int,)}
_LISTENING = {
    **dict.fromkeys(("asr", "speaker"), (str,)),
    **dict.fromkeys(("asr_revision", "speaker_revision", "speaker_score"), _TEXT),
    "step": (int, type(None)),
    "scores": (dict,),
}
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
    listening = run.get(LISTENING)
    if listening is not None:
        _check_types(listening, _LISTENING, where=f"{file}: {LISTENING}")
        scores = listening.get("scores", {})
        _check_types(scores, dict.fromkeys(scores, _NUMBER), where=f"{file}: {LISTENING}: scores")
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


def describe_listening(run: Mapping[str, Any]) -> str | None:
    """The scores of generated speech in a checked run.json, with their step, n and metric models; None without any.

    >>> scores = {"eval_wer": 0.125, "eval_similarity": 0.7, "eval_listen_samples": 8}
    >>> models = {"asr": "whisper", "asr_revision": "1", "speaker": "xvector", "speaker_revision": "2"}
    >>> describe_listening({"listening": models | {"speaker_score": "cosine", "step": 40, "scores": scores}})
    'step 40: WER 12.5%, similarity 0.700; 8 held-out texts; whisper @ 1, xvector @ 2 (cosine)'
    """
    listening = run.get(LISTENING)
    if not listening or not listening.get("scores"):
        return None
    listening = Fields(listening, f"{RUN_INFO}: {LISTENING}")
    scores = Fields(listening["scores"], f"{RUN_INFO}: {LISTENING}: scores")
    values = [f"{name} {form.format(scores[key])}" for key, (name, form) in _SCORE_FORMATS.items() if key in scores]
    asr, speaker = (with_revision(listening[name], listening[f"{name}_revision"]) for name in ("asr", "speaker"))
    return (
        f"step {listening['step']}: {', '.join(values)}; {scores[LISTEN_SAMPLES]} held-out texts; {asr}, {speaker} "
        f"({listening['speaker_score']})"
    )


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
