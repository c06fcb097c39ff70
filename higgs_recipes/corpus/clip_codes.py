"""The codes of a corpus's clips: each sound is encoded once, in batches of equal length, shared out over processes."""

import logging
from collections.abc import Mapping, Sequence

from accelerate import PartialState
from torch import Tensor
from tqdm.auto import tqdm

from higgs_recipes.audio.codec import Codec, equal_length_batches, num_steps
from higgs_recipes.constants import HOP, SAMPLE_RATE
from higgs_recipes.corpus.clips import Clip
from higgs_recipes.corpus.code_cache import CodeCache
from higgs_recipes.corpus.corpus import Corpus, Row


logger = logging.getLogger(__name__)


def encode_clips(corpus: Corpus, rows: Sequence[Row], codec: Codec, *, cache: CodeCache, batch_seconds: float) -> None:
    """Put the codes of all clips of the rows into the cache: of those that are not there yet, this process's share.

    All processes come here together, and when they leave the cache has what each of them has made.
    """
    state = PartialState()
    cache.refresh()
    clips = {clip.content_hash: (row["id"], clip) for row in rows for clip in row["clips"]}
    missing = {key: clips[key] for key in sorted(clips) if key not in cache}
    logger.info("%d of %d recordings are in the cache %s", len(clips) - len(missing), len(clips), cache.folder)
    # Shared out by content, so that it does not matter if another process sees a fuller cache.
    mine = {key: each for key, each in missing.items() if int(key, 16) % state.num_processes == state.process_index}
    add_codes(corpus, mine, codec, cache=cache, batch_seconds=batch_seconds)
    state.wait_for_everyone()
    cache.refresh()


def add_codes(
    corpus: Corpus, clips: Mapping[str, tuple[str, Clip]], codec: Codec, *, cache: CodeCache, batch_seconds: float
) -> None:
    """Encode clips, each given by its content hash with the id of a row that has it, and put them into the cache."""
    picked = list(clips.values())
    steps = [num_steps(round(clip.seconds * SAMPLE_RATE)) for _, clip in picked]
    batches = equal_length_batches(steps, batch_seconds=batch_seconds)
    unsaved: dict[str, Tensor] = {}
    hidden = not PartialState().is_main_process or not batches
    for batch in tqdm(batches, desc="Encoding", unit=" batches", disable=hidden, leave=False):
        waveforms = [corpus.waveform(clip, name=f"row {row_id}") for row_id, clip in map(picked.__getitem__, batch)]
        codes = codec.encode(waveforms, batch_seconds=batch_seconds)
        unsaved |= {picked[index][1].content_hash: each for index, each in zip(batch, codes, strict=True)}
        if sum(map(len, unsaved.values())) * HOP >= batch_seconds * SAMPLE_RATE:
            cache.add(unsaved)
            unsaved = {}
    if unsaved:
        cache.add(unsaved)
