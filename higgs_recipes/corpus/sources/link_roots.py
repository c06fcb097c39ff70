"""Which folders the links in a source may lead to.

scripts/import_corpus.py links to the recordings of its sources, unless it copies them. A folder that somebody else
made may have links too, to any file of this machine, and a record that looks like that of an import. So what an import
linked to is recorded outside its folder, on the machine that made it.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path

from huggingface_hub.constants import HF_HOME

from higgs_recipes.errors import InputError
from higgs_recipes.files import atomic_write, sha256_file


IMPORT_RECORD = "import.json"
RECORDS = Path(HF_HOME) / "higgs_recipes" / "imports"  # one file for each import, named by the hash of its import.json


def record_links(folder: Path, roots: Iterable[str]) -> None:
    """Record the real folders that the links of an import lead to; its import.json must be complete.

    Raises:
        InputError: the record cannot be written.
    """
    path = _record(folder)
    known = set(_stored(path)) if path.is_file() else set()
    try:
        atomic_write(path, json.dumps({"roots": sorted(known | set(roots))}))
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror}), and encode would refuse the links of this import: set "
            "HF_HOME to a folder that can be written, or copy_audio: true"
        ) from error


def link_roots(folder: Path) -> tuple[str, ...]:
    """The real folders that links in a source may lead to, with the folder itself.

    A snapshot in the Hub's cache links to its repository's files, and an import to its recordings.
    """
    real = Path(os.path.realpath(folder))
    blobs = [str(real.parents[1] / "blobs")] if real.parent.name == "snapshots" else []
    is_import = os.path.isfile(real / IMPORT_RECORD) and os.path.isfile(_record(real))
    return (str(real), *blobs, *(_stored(_record(real)) if is_import else ()))


def is_below(path: str | os.PathLike, folders: Iterable[str]) -> bool:
    """Whether a real path is one of the folders or inside one."""
    return any(Path(path).is_relative_to(folder) for folder in folders)


def _record(folder: Path) -> Path:
    return RECORDS / f"{sha256_file(folder / IMPORT_RECORD)}.json"


def _stored(path: Path) -> list[str]:
    return json.loads(path.read_bytes())["roots"]
