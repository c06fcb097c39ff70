"""Records that runs store next to their weights: run.json and merge.json."""

from pathlib import Path
from typing import Any

from higgs_recipes.records import read_record


RUN_INFO, MERGE_INFO = "run.json", "merge.json"


def read_run(folder: Path) -> dict[str, Any] | None:
    """Read run.json of an adapter or fine-tuned model; None if the folder has none."""
    path = folder / RUN_INFO
    return read_record(path) if path.is_file() else None
