"""Write the parquet files of an encoded corpus."""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from higgs_recipes.audio.codec import Codec
from higgs_recipes.constants import HOP, SAMPLE_RATE
from higgs_recipes.corpus.code_cache import CodeCache
from higgs_recipes.corpus.corpus import Corpus
from higgs_recipes.corpus.encoded import TEXT_COLUMNS, shard_features
from higgs_recipes.corpus.rows import Cell, TaskRow


SHARD_BYTES = 256 * 2**20
# A row group is held in memory as a whole, by readers and by this writer.
GROUP_ROWS, GROUP_BYTES = 1000, 32 * 2**20


def plan_shards(rows: Sequence[TaskRow], *, keep_audio: bool) -> list[list[TaskRow]]:
    """Distribute rows over files of about `SHARD_BYTES`, in their order; sizes are estimated from durations."""
    return list(_portions(rows, max_rows=len(rows), max_bytes=SHARD_BYTES, keep_audio=keep_audio))


def write_shard(
    path: Path, corpus: Corpus, rows: Sequence[TaskRow], *, cache: CodeCache, codec: Codec, keep_audio: bool
) -> None:
    """Write rows with their codes from the cache. Equal rows give equal bytes.

    Raises:
        InputError: a recording to keep can no longer be read.
    """
    schema = shard_features(num_codebooks=codec.num_codebooks).arrow_schema
    options = {"use_content_defined_chunking": True, "write_page_index": True}
    # Opened here, because pyarrow leaves a file that it has opened itself open when the disk is full.
    with path.open("wb") as file, pq.ParquetWriter(file, schema, **options) as writer:
        for group in _portions(rows, max_rows=GROUP_ROWS, max_bytes=GROUP_BYTES, keep_audio=keep_audio):
            columns = _columns(group, cache, codec)
            columns["audio"] = [_cell(corpus, row) if keep_audio else None for row in group]
            arrays = [pa.array(columns[field.name], field.type) for field in schema]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _portions(rows: Sequence[TaskRow], *, max_rows: int, max_bytes: int, keep_audio: bool) -> Iterator[list[TaskRow]]:
    bytes_per_second = 2 * SAMPLE_RATE if keep_audio else SAMPLE_RATE // HOP * 16
    portion: list[TaskRow] = []
    seconds = 0.0
    for row in rows:
        if portion and (len(portion) == max_rows or (seconds + row["seconds"]) * bytes_per_second > max_bytes):
            yield portion
            portion, seconds = [], 0.0
        portion.append(row)
        seconds += row["seconds"]
    yield portion


def _columns(rows: Sequence[TaskRow], cache: CodeCache, codec: Codec) -> dict[str, Any]:
    """All columns except the recordings."""
    own = [row["clips"][-1].content_hash for row in rows]
    references = [[clip.content_hash for clip in row["clips"][:-1]] for row in rows]
    ref_codes = _codes_array([cache[key] for keys in references for key in keys], codec.num_codebooks)
    columns = {name: [row[name] for row in rows] for name in (*TEXT_COLUMNS, "ref_texts", "turn_speakers", "seconds")}
    return columns | {
        "codec": [codec.revision] * len(rows),
        "content_hash": own,
        "codes": _codes_array([cache[key] for key in own], codec.num_codebooks),
        "ref_codes": pa.ListArray.from_arrays(_offsets(references), ref_codes),
    }


def _cell(corpus: Corpus, row: TaskRow) -> Cell:
    return {"bytes": corpus.recorded(row["own"], name=f"row {row['id']}"), "path": row["name"]}


def _codes_array(codes: Sequence[Tensor], num_codebooks: int) -> pa.ListArray:
    """A column of codes (T_i, C)."""
    steps = torch.cat([torch.empty(0, num_codebooks, dtype=torch.int16), *codes])  # (sum of T_i, C)
    flat = pa.FixedSizeListArray.from_arrays(pa.array(steps.flatten().numpy()), num_codebooks)
    return pa.ListArray.from_arrays(_offsets(codes), flat)


def _offsets(lists: Sequence[Any]) -> pa.Array:
    return pa.array(np.fromiter(accumulate(map(len, lists), initial=0), dtype=np.int32))
