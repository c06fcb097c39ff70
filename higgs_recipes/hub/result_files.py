"""The files of a result, by name. Only these are pushed, as the folder may contain other files of the user."""

import logging
import re
from collections.abc import Collection
from pathlib import Path, PurePath

from higgs_recipes.errors import InputError
from higgs_recipes.files import file_inside
from higgs_recipes.hub.evaluation_card import EVALUATION_FOLDER
from higgs_recipes.hub.run_record import MERGE_INFO, RUN_INFO
from higgs_recipes.hub.safe_files import ADAPTER_CONFIG, WEIGHTS_INDEX
from higgs_recipes.metrics_schema import SYSTEMS
from higgs_recipes.output_folder import FILE_LIST
from higgs_recipes.records import Fields, read_record
from higgs_recipes.run_lock import LOCK


logger = logging.getLogger(__name__)

CARD, CORPUS_RECORD, METRICS_RECORD = "README.md", "corpus.json", "metrics.json"
STATE = "state.json"  # of the run on this machine; never pushed
ADAPTER_WEIGHTS = "adapter_model.safetensors"
MODEL_CONFIG, MODEL_WEIGHTS = "config.json", "model.safetensors"
# Files of a base model that belong to a model fine-tuned from it. Nothing else of a base is copied or pushed.
BASE_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json"),
    "vocab.txt",
    *("merges.txt", "tokenizer.model", "chat_template.jinja", "chat_template.json", "processor_config.json"),
    *("preprocessor_config.json", "generation_config.json", MODEL_CONFIG),
)
LICENSE_FILES = ("LICENSE", "LICENSE.txt", "NOTICE", "NOTICE.txt")  # copied and pushed too, but never deleted
REPORT_PAGES = ("report.md", "report.html")
MAX_NAMED = 20  # skipped files in the log

_SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
_CORPUS_SHARD = re.compile(r"data/(\w+)-\d{5}-of-\d{5}\.parquet")
_REPORT_FOLDER = rf"({EVALUATION_FOLDER}(?:/[a-z0-9_-]+)?)"  # group 1: as of `evaluation_card.report_folder`
_REPORT_FILE = re.compile(rf"{_REPORT_FOLDER}/(?:metrics\.json|report\.(?:md|html)|samples/[^/]+\.wav)")


def model_files(folder: Path) -> list[str]:
    """The files of an adapter, a fine-tuned or a merged model, and of its report in the subfolder evaluation/.

    Raises:
        InputError: the folder has no record of a run, or a file is missing, is a link out of the folder, or is not
            valid.
    """
    if (folder / MERGE_INFO).is_file():
        required, optional = _whole_model(folder), [RUN_INFO, *BASE_FILES, *LICENSE_FILES]
        required.append(MERGE_INFO)
    elif read_record(folder / RUN_INFO)["method"] == "lora":
        required, optional = [RUN_INFO, ADAPTER_CONFIG, ADAPTER_WEIGHTS], []
    else:
        required, optional = [RUN_INFO, *_whole_model(folder)], [*BASE_FILES, *LICENSE_FILES]
    if (folder / EVALUATION_FOLDER / METRICS_RECORD).is_file():
        required += [f"{EVALUATION_FOLDER}/{file}" for file in report_files(folder / EVALUATION_FOLDER)]
    return _existing(folder, [CARD, *required], optional)


def report_files(folder: Path) -> list[str]:
    """The files of an evaluation report: metrics.json, its pages, and the clips that it names.

    Raises:
        InputError: as `model_files`.
    """
    metrics = read_record(folder / METRICS_RECORD)
    clips = []
    for index, clip in enumerate(metrics["clips"]):
        for system in SYSTEMS:
            if system in clip:
                wav = Fields(clip[system], f"{metrics.file}: clips[{index}].{system}")["wav"]
                if wav is None and clip[system].get("missing") is True:
                    continue
                file_inside(folder, wav, field=f"{metrics.file}: clips[{index}].{system}.wav")
                if not wav.endswith(".wav"):
                    raise InputError(f"{metrics.file}: clips[{index}].{system}.wav is {wav!r}: it must be a wav file")
                clips.append(wav)
    return _existing(folder, [METRICS_RECORD, *sorted(set(clips))], list(REPORT_PAGES))


def corpus_files(folder: Path) -> list[str]:
    """The files of an encoded corpus: its card, its records, and the parquet files of its splits.

    Raises:
        InputError: as `model_files`.
    """
    splits = read_record(folder / CORPUS_RECORD)["splits"]
    shards = [f"data/{path.name}" for path in sorted((folder / "data").glob("*.parquet"))]
    shards = [name for name in shards if (match := _CORPUS_SHARD.fullmatch(name)) and match[1] in splits]
    return _existing(folder, [CARD, CORPUS_RECORD, *shards], ["rejects.jsonl"])


def is_model_file(name: str) -> bool:
    """Whether a file in a model's repository may be one of a pushed result, so that a later push may delete it."""
    fixed = (CARD, RUN_INFO, MERGE_INFO, ADAPTER_CONFIG, ADAPTER_WEIGHTS, MODEL_WEIGHTS, WEIGHTS_INDEX, *BASE_FILES)
    return name in fixed or _SHARD.fullmatch(name) is not None or is_report_file(name)


def is_report_file(name: str, folder: str | None = None) -> bool:
    """Whether a file in a model's repository may be one of a pushed report, in this folder of it; None: in any."""
    match = _REPORT_FILE.fullmatch(name)
    return match is not None and folder in (None, match[1])


def is_corpus_shard(name: str) -> bool:
    """Whether a file in a dataset's repository has the name of a parquet file of an encoded corpus."""
    return _CORPUS_SHARD.fullmatch(name) is not None


def log_skipped(folder: Path, pushed: Collection[str]) -> None:
    """Log the names of the files and folders next to the pushed files that are not pushed."""
    parents = {PurePath("."), *(parent for name in pushed for parent in PurePath(name).parents)}
    ours = {*map(PurePath, (*pushed, STATE, FILE_LIST, LOCK)), *parents}
    found = {parent / path.name: path for parent in parents for path in (folder / parent).iterdir()}
    skipped = sorted(f"{name}{'/' * path.is_dir()}" for name, path in found.items() if name not in ours)
    if skipped:
        more = f" and {len(skipped) - MAX_NAMED} more" if len(skipped) > MAX_NAMED else ""
        logger.info("not pushed, as not part of the result: %s%s", ", ".join(skipped[:MAX_NAMED]), more)


def _whole_model(folder: Path) -> list[str]:
    if not (folder / WEIGHTS_INDEX).is_file():
        return [MODEL_CONFIG, MODEL_WEIGHTS]
    shards = set(read_record(folder / WEIGHTS_INDEX)["weight_map"].values())
    for shard in shards:
        if _SHARD.fullmatch(str(shard)) is None:
            raise InputError(f"{folder / WEIGHTS_INDEX} names {shard!r}, which is not a file of weights")
    return [MODEL_CONFIG, WEIGHTS_INDEX, *sorted(shards)]


def _existing(folder: Path, required: list[str], optional: list[str]) -> list[str]:
    names = required + [name for name in optional if (folder / name).is_file() and name not in required]
    for name in names:
        file_inside(folder, name, field="a file to push")
    return sorted(names)
