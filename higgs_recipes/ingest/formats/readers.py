"""The reader of each format: `read_<format>` in the module of that name."""

from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import get_args

from higgs_recipes.configs.corpus import Format
from higgs_recipes.corpus.sources.paths import SourceFolder
from higgs_recipes.ingest.rows import ImportRow
from higgs_recipes.rejects import Reject


Reader = Callable[[Path, SourceFolder], Iterator[ImportRow | Reject]]

READERS: dict[str, Reader] = {
    name: getattr(import_module(f"higgs_recipes.ingest.formats.{name}"), f"read_{name}") for name in get_args(Format)
}
