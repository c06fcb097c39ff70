"""Imports for tests: what went into the corpus, what was rejected and where it stands."""

import json
from pathlib import Path
from typing import Any

from higgs_recipes.configs.corpus import ImportConfig
from higgs_recipes.ingest.import_corpus import import_corpus
from tests.helpers.corpus_folder import write_tone


# Each must come out as it went in.
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
    """(rows, (file name, line) to the reject's reason) of an import into `output_dir`."""
    import_corpus(ImportConfig(output_dir=str(output_dir), overwrite_output_dir=overwrite, **fields))
    rejects = json_lines(output_dir / "rejects.jsonl")
    places = {(Path(reject["file"]).name, reject["line"]): reject["reason"] for reject in rejects}
    assert len(places) == len(rejects)
    return json_lines(output_dir / "metadata.jsonl"), places


def write_tones(folder: Path, *names: str) -> Path:
    """Hums of 0.4 s at those paths, no two alike."""
    for index, name in enumerate(names):
        write_tone(folder / name, seconds=0.4, hertz=200.0 + 10 * index)
    return folder
