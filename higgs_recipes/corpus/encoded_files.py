"""Check the files of an encoded corpus: all are there, can be read, and are not decompression bombs."""

import io
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from higgs_recipes.errors import InputError


# Parquet stores equal values once: a file of 4 kB can decode to terabytes, and its metadata does not say so.
MAX_EXPANSION, FREE_BYTES = 1000, 2**30  # decoded bytes for each byte of a file, beyond the free ones
MAX_GROUP_BYTES = 2**32  # decoded; a reader holds a row group in memory
MAX_RECORD_BYTES = 2**24
VALUE_BYTES = 2  # an int16 code; other values are larger

FILE_NAME = re.compile(r"(\w+)-([0-9]{5})-of-([0-9]{5})\.parquet")
REMEDY = "fetch the corpus again, or encode it again with scripts/encode.py"


def split_files(folder: Path, *, corpus: str, split: str) -> list[str]:
    """The parquet files of a split, `data/<split>-<index>-of-<count>.parquet`, in order.

    Args:
        folder: of the corpus.
        corpus: its name in messages.

    Raises:
        InputError: no such split; or a file of it is missing, misnamed, of another count, or not a regular file.
    """
    names = sorted(path.name for path in (folder / "data").glob("*-of-*.parquet") if not path.name.startswith("."))
    if not names:
        raise InputError(f"{corpus}: no encoded corpus (no data/*.parquet): make one with scripts/encode.py")
    splits: dict[str, dict[str, str]] = {}  # of each split: name to count
    for name in names:
        match = FILE_NAME.fullmatch(name)
        if match is None:
            raise InputError(
                f"{corpus}: data/{name} is not named <split>-00000-of-00001.parquet: rename it, or remove it"
            )
        splits.setdefault(match[1], {})[name] = match[3]
    if split not in splits:
        raise InputError(f"{corpus}: no split {split!r}; it has {', '.join(splits)}")
    counts = sorted(set(splits[split].values()))
    if len(counts) > 1:
        raise InputError(
            f"{corpus}, split {split}: two corpora are mixed: its files are named both -of-{counts[0]} and "
            f"-of-{counts[1]}: {REMEDY}"
        )
    expected = [f"{split}-{index:05d}-of-{counts[0]}.parquet" for index in range(int(counts[0]))]
    if missing := [name for name in expected if name not in splits[split]]:
        raise InputError(
            f"{corpus}, split {split}: {len(missing)} of {len(expected)} files are missing, the first is "
            f"data/{missing[0]}: {REMEDY}"
        )
    if extra := sorted(splits[split].keys() - set(expected)):
        raise InputError(f"{corpus}, split {split}: data/{extra[0]} has an index beyond its count: {REMEDY}")
    for name in expected:
        if not (folder / "data" / name).is_file():  # reading from a FIFO would never end
            raise InputError(f"{corpus}, split {split}: data/{name} is not a regular file: {REMEDY}")
    return [str(folder / "data" / name) for name in expected]


def check_files(paths: Sequence[str], schema: pa.Schema, *, where: str) -> None:
    """Check what can be checked before rows are decoded.

    Args:
        paths: the parquet files of a split.
        schema: the columns that will be read; a file may have others.
        where: the corpus and its split.

    Raises:
        InputError: a file cannot be read, lacks a column, has one of another type or twice, or is absurdly large once
            decoded; or the files together have no rows.
    """
    num_rows = 0
    for path in paths:
        file = f"{where}: data/{Path(path).name}"
        with explain_unreadable(file):
            with pq.ParquetFile(path) as parquet:
                metadata, found = parquet.metadata, parquet.schema_arrow
            _check_schema(found, schema, file=file)
            _check_size(path, metadata, schema, file=file)
        num_rows += sum(metadata.row_group(number).num_rows for number in range(metadata.num_row_groups))
    if num_rows == 0:
        raise InputError(f"{where}: no rows: encode the corpus again; test_size sets how many rows are held out")


@contextmanager
def explain_unreadable(file: str) -> Iterator[None]:
    """Turn what pyarrow raises on a file that it cannot read into an `InputError`."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: the parquet file cannot be read ({short_reason(error)}): {REMEDY}") from error


def short_reason(error: BaseException) -> str:
    """The message of an exception in one line."""
    return " ".join(str(error).split())[:200]


def _check_schema(found: pa.Schema, schema: pa.Schema, *, file: str) -> None:
    missing = ", ".join(sorted(set(schema.names) - set(found.names)))
    if missing:
        raise InputError(f"{file}: no encoded corpus (no column {missing}): make one with scripts/encode.py")
    for name in schema.names:
        same = [other for other in found.names if other.partition(".")[0] == name]  # "audio.bytes" is a part of audio
        if len(same) > 1:
            raise InputError(f"{file}: {len(same)} columns have the name {name}: {REMEDY}")
        if found.field(name).type != schema.field(name).type:
            raise InputError(
                f"{file}: column {name} has the type {str(found.field(name).type)[:200]}, the format needs "
                f"{schema.field(name).type}: {REMEDY}"
            )


def _check_size(path: str, metadata: pq.FileMetaData, schema: pa.Schema, *, file: str) -> None:
    """Refuse a file that would fill memory or disk: a value counts as often as it is decoded."""
    columns = [(index, metadata.schema.column(index)) for index in range(metadata.num_columns)]
    columns = [(index, column) for index, column in columns if column.path.partition(".")[0] in schema.names]
    _check_chunks(path, metadata, leaves=[column.path for _, column in columns])
    limit = FREE_BYTES + MAX_EXPANSION * os.path.getsize(path)
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    sizes = [sum(_stated_bytes(group.column(index)) for index, _ in columns) for group in groups]
    _refuse_large(sizes, limit, file=file)
    texts = [column.path for _, column in columns if column.physical_type == "BYTE_ARRAY"]
    with pq.ParquetFile(path, metadata=metadata, read_dictionary=texts) as parquet:
        for number in range(len(groups)):
            table = parquet.read_row_group(number, columns=texts)
            sizes[number] += sum(_decoded_bytes(chunk) for column in table.columns for chunk in column.chunks)
            _refuse_large(sizes, limit, file=file)


class _NoData(io.RawIOBase):
    """A file that has a size, and raises when it is read."""

    class Read(Exception):
        """Raised by `read`."""

    def __init__(self, size: int) -> None:
        self.size, self.position = size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self.position, os.SEEK_END: self.size}[whence]
        return self.position

    def tell(self) -> int:
        return self.position

    def read(self, size: int = -1) -> bytes:
        raise self.Read


def _check_chunks(path: str, metadata: pq.FileMetaData, *, leaves: Sequence[str]) -> None:
    """Let a reader check the metadata of all chunks, without their data.

    `RowGroupMetaData.column` ends the process (std::terminate) on damaged metadata, for which a reader raises. The
    buffer makes it open all chunks before it reads from the first.
    """
    with pq.ParquetFile(_NoData(os.path.getsize(path)), metadata=metadata, buffer_size=4096) as parquet:
        for number in range(metadata.num_row_groups):
            with suppress(_NoData.Read):
                next(parquet.iter_batches(batch_size=1, row_groups=[number], columns=leaves), None)


def _stated_bytes(chunk: pq.ColumnChunkMetaData) -> int:
    """The least size of a chunk by its metadata: of the decompressed pages, or of the values."""
    return max(0, chunk.total_uncompressed_size, chunk.num_values * VALUE_BYTES)


def _decoded_bytes(array: pa.Array) -> int:
    """The bytes of texts or recordings, counted from their dictionary."""
    if pa.types.is_struct(array.type):
        return sum(map(_decoded_bytes, array.flatten()))
    if pa.types.is_list(array.type):
        return _decoded_bytes(array.flatten())
    return pc.sum(pc.binary_length(array.dictionary).take(array.indices), min_count=0).as_py()


def _refuse_large(sizes: Sequence[int], limit: int, *, file: str) -> None:
    """Check the decoded sizes of the row groups of a file."""
    if sum(sizes) > limit:
        raise InputError(
            f"{file}: {sum(sizes) / 2**30:.1f} GiB or more once decoded, {limit / 2**30:.1f} GiB are allowed for its "
            "size on disk: scripts/encode.py does not write such files, do not use it"
        )
    if max(sizes, default=0) > MAX_GROUP_BYTES:
        raise InputError(
            f"{file}: a row group has {max(sizes) / 2**30:.1f} GiB or more once decoded, at most "
            f"{MAX_GROUP_BYTES / 2**30:.0f} GiB are read: write it with row groups of 1,000 rows"
        )


def check_record(folder: Path, table: pa.Table, *, split: str, where: str) -> None:
    """Compare the rows of a split with what corpus.json says of it, if the corpus has that file.

    Raises:
        InputError: rows or seconds differ, so the files are half a corpus or of two; or corpus.json is damaged.
    """
    path = folder / "corpus.json"
    if not path.exists():
        return
    if not path.is_file() or path.stat().st_size > MAX_RECORD_BYTES:
        raise InputError(f"{where}: corpus.json is not a file of at most {MAX_RECORD_BYTES} bytes: {REMEDY}")
    try:
        splits = json.loads(path.read_text(encoding="utf-8"))["splits"]
        recorded = {name: float(splits[split][name]) for name in ("rows", "seconds")}
    except (ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError) as error:
        raise InputError(f"{where}: corpus.json has no rows and seconds of this split: {REMEDY}") from error
    seconds = pc.sum(table["seconds"]).as_py()
    for name, found, tolerance in (("rows", len(table), 0.0), ("seconds", seconds, 1 + seconds / 1000)):
        if not abs(recorded[name] - found) <= tolerance:  # NaN differs too
            raise InputError(
                f"{where}: the files have {found:.10g} {name}, corpus.json says {recorded[name]:.10g}: half a corpus, "
                f"or two mixed: {REMEDY}; if you removed rows on purpose, remove corpus.json"
            )
