"""Codes already made, on disk, by content of the recording: a killed run goes on, a second run encodes nothing."""

import re
import secrets
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from huggingface_hub.constants import HF_HOME
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from higgs_recipes.errors import InputError
from higgs_recipes.files import atomic_write


class CodeCache:
    """Codes (T, C) of one codec by content hash; each `add` writes one file, so several processes share a cache.

    Args:
        folder: of the caches of all codecs; None is one below HF_HOME.
        codec: `Codec.revision`.
    """

    def __init__(self, folder: str | Path | None, *, codec: str) -> None:
        root = Path(HF_HOME) / "higgs_recipes" / "codes" if folder is None else Path(folder).expanduser()
        self.folder = root / re.sub(r"[^\w.@-]+", "--", codec)
        self._files: set[Path] = set()
        self._shards: dict[str, Path] = {}
        self.refresh()

    def __contains__(self, content_hash: str) -> bool:
        return content_hash in self._shards

    def __getitem__(self, content_hash: str) -> Tensor:
        return _open(self._shards[content_hash]).get_tensor(content_hash)

    def refresh(self) -> None:
        """See what other processes have added."""
        for path in sorted(set(self.folder.glob("*.safetensors")) - self._files):
            self._shards |= dict.fromkeys(_open(path).keys(), path)
            self._files.add(path)

    def add(self, codes: Mapping[str, Tensor]) -> None:
        """Keep codes by content hash; they are on disk when this returns."""
        path = self.folder / f"{secrets.token_hex(8)}.safetensors"
        atomic_write(path, save(dict(codes)))
        self._shards |= dict.fromkeys(codes, path)
        self._files.add(path)


@lru_cache(maxsize=256)  # files held open; a corpus of 500 hours has some thousands
def _open(path: Path) -> safe_open:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise InputError(f"cache of codes: {path} cannot be read ({error}); remove it and run again") from error
