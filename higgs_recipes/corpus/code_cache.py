"""Codes on disk by content of the recording: an interrupted run continues, a second run encodes nothing.

The clips of a corpus that are not in the cache are encoded in batches of equal length, distributed over processes.
"""

import logging
import re
import secrets
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from accelerate import PartialState
from huggingface_hub.constants import HF_HOME
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from tqdm.auto import tqdm

from higgs_recipes.audio.codec import Codec, equal_length_batches, num_steps
from higgs_recipes.audio.convolutions import Arithmetic
from higgs_recipes.constants import HOP, SAMPLE_RATE
from higgs_recipes.corpus.clips import Clip
from higgs_recipes.corpus.corpus import Corpus
from higgs_recipes.corpus.rows import TaskRow
from higgs_recipes.errors import InputError
from higgs_recipes.files import atomic_write


logger = logging.getLogger(__name__)


class CodeCache:
    """Codes (T, C) of one codec by content hash. Each `add` writes a new file, so processes can share a cache.

    Args:
        folder: parent folder of the caches of all codecs; None: a folder below HF_HOME.
        codec: `Codec.revision`.
        arithmetic: `Codec.arithmetic`: codes of TF32 are kept apart from those of float32.
    """

    def __init__(self, folder: str | Path | None, *, codec: str, arithmetic: Arithmetic = "float32") -> None:
        root = Path(HF_HOME) / "higgs_recipes" / "codes" if folder is None else Path(folder).expanduser()
        name = re.sub(r"[^\w.@-]+", "--", codec)
        self.folder = root / (name if arithmetic == "float32" else f"{name}--{arithmetic}")
        self._files: set[Path] = set()
        self._shards: dict[str, Path] = {}
        self.refresh()

    def __contains__(self, content_hash: str) -> bool:
        return content_hash in self._shards

    def __getitem__(self, content_hash: str) -> Tensor:
        return _open(self._shards[content_hash]).get_tensor(content_hash)

    def refresh(self) -> None:
        """Read the names of codes that other processes have added."""
        for path in sorted(set(self.folder.glob("*.safetensors")) - self._files):
            self._shards |= dict.fromkeys(_open(path).keys(), path)
            self._files.add(path)

    def add(self, codes: Mapping[str, Tensor]) -> None:
        """Store codes by content hash; they are on disk when this returns."""
        path = self.folder / f"{secrets.token_hex(8)}.safetensors"
        atomic_write(path, save(dict(codes)))
        self._shards |= dict.fromkeys(codes, path)
        self._files.add(path)


def encode_clips(
    corpus: Corpus, rows: Sequence[TaskRow], codec: Codec, *, cache: CodeCache, batch_seconds: float
) -> None:
    """Encode this process's share of the rows' clips that are not in the cache.

    All processes must call it. When it returns, the cache has the codes that each of them has made.
    """
    state = PartialState()
    cache.refresh()
    clips = {clip.content_hash: (row["id"], clip) for row in rows for clip in row["clips"]}
    missing = {key: clips[key] for key in sorted(clips) if key not in cache}
    logger.info("%d of %d recordings are in the cache %s", len(clips) - len(missing), len(clips), cache.folder)
    # Shares depend on content only: another process may have a newer view of the cache.
    share = {key: clip for key, clip in missing.items() if int(key, 16) % state.num_processes == state.process_index}
    add_codes(corpus, share, codec, cache=cache, batch_seconds=batch_seconds)
    state.wait_for_everyone()
    cache.refresh()


def add_codes(
    corpus: Corpus, clips: Mapping[str, tuple[str, Clip]], codec: Codec, *, cache: CodeCache, batch_seconds: float
) -> None:
    """Encode clips and add their codes to the cache.

    Args:
        clips: content hash to (id of a row with the clip, clip).
    """
    ids_and_clips = list(clips.values())
    steps = [num_steps(round(clip.seconds * SAMPLE_RATE)) for _, clip in ids_and_clips]
    batches = equal_length_batches(steps, batch_seconds=batch_seconds)
    unsaved: dict[str, Tensor] = {}
    hidden = not PartialState().is_main_process or not batches
    for batch in tqdm(batches, desc="Encoding", unit=" batches", disable=hidden, leave=False):
        chosen = [ids_and_clips[index] for index in batch]
        waveforms = [corpus.waveform(clip, name=f"row {row_id}") for row_id, clip in chosen]
        codes = codec.encode(waveforms, batch_seconds=batch_seconds)
        unsaved |= {clip.content_hash: clip_codes for (_, clip), clip_codes in zip(chosen, codes, strict=True)}
        if sum(map(len, unsaved.values())) * HOP >= batch_seconds * SAMPLE_RATE:
            cache.add(unsaved)
            unsaved = {}
    if unsaved:
        cache.add(unsaved)


@lru_cache(maxsize=256)  # open files; the cache of a corpus of 500 hours has some thousands
def _open(path: Path) -> safe_open:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise InputError(f"cache of codes: {path} cannot be read ({error}); remove it and run again") from error
