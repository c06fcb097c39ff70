"""Imports for tests: the rows of the corpus and the rejects by file and line."""

import json
from pathlib import Path
from typing import Any

from higgs_recipes.configs.corpus import ImportConfig
from higgs_recipes.ingest.import_corpus import import_corpus
from tests.helpers.corpus_folder import write_tone


# Import must not change these.
TEXTS = [
    "你好，世界。",
    "Xin chào, tôi là Ngọc.",
    "مرحبا بالعالم",
    "Party 🎉 at 8:30!",
    'She said "no" — 42 times.',
    "NA",
]


def json_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def imported(output_dir: Path, *, overwrite: bool = True, **fields: Any) -> tuple[list[dict], dict[tuple, str]]:
    """Import into `output_dir`; returns (rows, {(file name, line): reason of the reject})."""
    import_corpus(ImportConfig(output_dir=str(output_dir), overwrite_output_dir=overwrite, **fields))
    rejects = json_lines(output_dir / "rejects.jsonl")
    places = {(Path(reject["file"]).name, reject["line"]): reject["reason"] for reject in rejects}
    assert len(places) == len(rejects)
    return json_lines(output_dir / "metadata.jsonl"), places


def write_tones(folder: Path, *names: str) -> Path:
    """Write tones of 0.4 s, all different."""
    for index, name in enumerate(names):
        write_tone(folder / name, seconds=0.4, hertz=200.0 + 10 * index)
    return folder
