"""Import corpora of other formats into a folder of metadata.jsonl and recordings that encode reads.

Recordings keep their paths, below audio/. Without copy_audio, audio/ contains links to them. Nothing is written to the
source, and all paths in metadata.jsonl are inside the folder.
"""

import json
import logging
import os
from collections import Counter
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from higgs_recipes.configs.corpus import CONSTANTS, ImportConfig
from higgs_recipes.configs.model import source_mapping
from higgs_recipes.corpus.sources.link_roots import IMPORT_RECORD, link_roots, record_links
from higgs_recipes.corpus.sources.listing import is_audio_name
from higgs_recipes.corpus.sources.paths import SourceFolder, require_file_inside
from higgs_recipes.errors import InputError
from higgs_recipes.files import atomic_write
from higgs_recipes.ingest.formats.readers import READERS
from higgs_recipes.ingest.importer import Importer, ImportSource
from higgs_recipes.ingest.source_check import check_source
from higgs_recipes.output_folder import staged_output
from higgs_recipes.provenance import git_commit, library_versions
from higgs_recipes.rejects import Reject


logger = logging.getLogger(__name__)

LIST_FORMATS = ("ms_swift", "gpt_sovits", "f5")  # a source is a file, not a folder


def import_corpus(config: ImportConfig) -> dict[str, Any]:
    """Write the corpus and return import.json: format, sources, rows, seconds, rejects by category, recipe.

    Raises:
        InputError: a source is missing or not in the format, or all rows are rejected.
    """
    sources = _open_sources(config)
    num_rows, seconds = 0, 0.0
    counts: Counter[str] = Counter()
    examples: dict[str, dict[str, Any]] = {}  # the first reject of each category
    with (
        staged_output(config, kind="import_corpus") as folder,
        closing(Importer(config, folder)) as importer,
    ):
        with (
            (folder / "metadata.jsonl").open("w", encoding="utf-8") as metadata,
            (folder / "rejects.jsonl").open("w", encoding="utf-8", errors="backslashreplace") as rejects,
        ):
            rows = ((row, source) for path, source in sources for row in READERS[config.format](path, source.folder))
            for row, source in tqdm(rows, desc="Importing", unit=" rows"):
                result = importer.row_or_reject(row, source)
                if isinstance(result, Reject):
                    record = result.record()
                    rejects.write(json.dumps(record, ensure_ascii=False) + "\n")
                    counts[result.category] += 1
                    examples.setdefault(result.category, record)
                else:
                    metadata.write(json.dumps(result, ensure_ascii=False) + "\n")
                    num_rows, seconds = num_rows + 1, seconds + result["duration"]
        if not num_rows and not counts:
            raise InputError(f"sources: no rows in {', '.join(str(path) for path, _ in sources)}")
        if not num_rows:
            first = next(iter(examples.values()))
            raise InputError(f"all {counts.total()} rows were rejected: {dict(counts)}; the first: {first}")
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
        content = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
        atomic_write(folder / IMPORT_RECORD, content.encode("utf-8", "backslashreplace"))  # paths may not be UTF-8
        if not config.copy_audio:
            folders = [source.folder for _, source in sources]
            record_links(folder, {root for source in folders for root in (*link_roots(source.root), *source.linked)})
    for category, count in counts.most_common():
        example = examples[category]
        place = f"{example['file']} line {example['line']}"
        logger.warning("%d rejected: %s; the first: %s: %s", count, category, place, example["reason"])
    if importer.num_unrated:
        logger.warning("%d rows have no quality_score; min_quality_score does not reject them", importer.num_unrated)
    for _, source in sources:
        source.folder.log_notes()
    return record


def _open_sources(config: ImportConfig) -> list[tuple[Path, ImportSource]]:
    """The path of each source, and how its rows are imported."""
    if config.audio_dir is not None and not os.path.isdir(os.path.expanduser(config.audio_dir)):
        raise InputError(f"audio_dir: no such folder: {config.audio_dir}")
    opened = []
    for index, source in enumerate(map(source_mapping, config.sources)):
        path = Path(os.path.abspath(os.path.expanduser(source["path"])))
        if not os.path.exists(path):
            raise InputError(f"sources: no such file or folder: {source['path']}")
        needs_file = config.format in LIST_FORMATS
        if needs_file != path.is_file() or not needs_file and not path.is_dir():
            kind = "list file" if needs_file else "folder"
            raise InputError(f"sources: {source['path']} is not a {kind}; format {config.format} needs one")
        check_source(path, config.output_dir)
        if config.audio_dir is not None:
            check_source(config.audio_dir, config.output_dir)
            folder = SourceFolder(Path(config.audio_dir), match_ends=True, follow_links=config.follow_links)
        else:
            hint = "set audio_dir to the folder of all recordings"
            folder = SourceFolder(path.parent if needs_file else path, hint=hint, follow_links=config.follow_links)
        if not needs_file and not config.follow_links:
            _check_linked_lists(path)
        constants = {key: source[key] for key in CONSTANTS if key in source}
        prefix = str(index) if len(config.sources) > 1 else ""
        opened.append((path, ImportSource(folder, prefix, constants)))
    return opened


def _check_linked_lists(source: Path) -> None:
    """Refuse lists in a source that are links to files outside; recordings and transcripts are rejected one by one."""
    for name in sorted(os.listdir(source)):
        is_list = (source / name).is_file() and not is_audio_name(name) and not name.lower().endswith(".txt")
        if is_list and (source / name).is_symlink():
            require_file_inside(source / name, source)
