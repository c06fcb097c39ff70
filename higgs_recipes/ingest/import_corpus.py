"""Import corpora of other formats into a folder of metadata.jsonl and recordings that encode reads.

Recordings keep their paths, below audio/. Without copy_audio, audio/ contains links to them. Nothing is written to the
source, and all paths in metadata.jsonl are inside the folder.
"""

import json
import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from higgs_recipes.configs.corpus import CONSTANTS, ImportConfig
from higgs_recipes.errors import InputError
from higgs_recipes.files import atomic_write, staged_folder
from higgs_recipes.ingest.formats.readers import READERS
from higgs_recipes.ingest.importer import Importer, ImportSource
from higgs_recipes.ingest.rows import ImportRow
from higgs_recipes.provenance import git_commit, library_versions
from higgs_recipes.rejects import Reject


logger = logging.getLogger(__name__)

LIST_FORMATS = ("ms_swift", "gpt_sovits", "f5")  # a source is a file, not a folder


def import_corpus(config: ImportConfig) -> dict[str, Any]:
    """Write the corpus and return import.json: format, sources, rows, seconds, rejects by category, recipe.

    Raises:
        InputError: a source is missing or not in the format, or all rows are rejected.
    """
    sources = [{"path": source} if isinstance(source, str) else source for source in config.sources]
    num_rows, seconds, counts, first_reject = 0, 0.0, Counter(), None
    with staged_folder(config.output_dir, overwrite=config.overwrite_output_dir) as folder:
        importer = Importer(config, folder)
        with (
            (folder / "metadata.jsonl").open("w", encoding="utf-8") as metadata,
            (folder / "rejects.jsonl").open("w", encoding="utf-8", errors="backslashreplace") as rejects,
        ):
            for row, source in tqdm(_read_sources(config, sources), desc="Importing", unit=" rows"):
                result = importer.row_or_reject(row, source)
                if isinstance(result, Reject):
                    rejects.write(json.dumps(result.record(), ensure_ascii=False) + "\n")
                    counts[result.category] += 1
                    first_reject = first_reject or result.record()
                else:
                    metadata.write(json.dumps(result, ensure_ascii=False) + "\n")
                    num_rows, seconds = num_rows + 1, seconds + result["duration"]
        if not num_rows:
            raise InputError(f"all {counts.total()} rows were rejected: {dict(counts)}; the first: {first_reject}")
        record = {
            "format": config.format,
            "sources": config.sources,
            "rows": num_rows,
            "seconds": round(seconds, 2),
            "rejects": dict(counts.most_common()),
            "recipe": asdict(config),
            "git_commit": git_commit(),
            "versions": library_versions(),
        }
        atomic_write(folder / "import.json", json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    for category, count in counts.most_common():
        logger.warning("%d rejected: %s", count, category)
    return record


def _read_sources(
    config: ImportConfig, sources: list[Mapping[str, str]]
) -> Iterator[tuple[ImportRow | Reject, ImportSource]]:
    """Each row with its source."""
    for index, source in enumerate(sources):
        path = Path(os.path.abspath(Path(source["path"]).expanduser()))
        if not path.exists():
            raise InputError(f"sources: no such file or folder: {source['path']}")
        needs_file = config.format in LIST_FORMATS
        if needs_file != path.is_file():
            kind = "list file" if needs_file else "folder"
            raise InputError(f"sources: {source['path']} is not a {kind}; format {config.format} needs one")
        folder = path.parent if needs_file else path
        # Links are not resolved: users may link into their own corpora.
        root = folder if config.audio_dir is None else Path(os.path.abspath(Path(config.audio_dir).expanduser()))
        constants = {key: source[key] for key in CONSTANTS if key in source}
        prefix = str(index) if len(sources) > 1 else ""
        for row in READERS[config.format](path):
            yield row, ImportSource(root, prefix, constants)
