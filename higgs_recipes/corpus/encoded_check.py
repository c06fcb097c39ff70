"""Check an encoded corpus as it is loaded: anyone can publish one, damaged or hostile.

`check_size` refuses a file that would fill memory or disk, `check_rows` damaged rows.
"""

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from higgs_recipes.chatml import conversation_problem
from higgs_recipes.constants import BOS_CODE, FRAMES_PER_SECOND, MAX_CLIP_SECONDS
from higgs_recipes.corpus.parquet_size import declared_chunks, text_bytes
from higgs_recipes.errors import InputError


MAX_STEPS = MAX_CLIP_SECONDS * FRAMES_PER_SECOND
MAX_TEXT_BYTES = 2**18  # of a cell; scripts/encode.py rejects transcripts of more than 1,000 characters
SECONDS_TOLERANCE = 0.1  # the codec pads the last step (0.04 s), and others may round to 0.1 s
REQUIRED = ("id", "text", "messages", "codec", "codes", "turn_speakers", "seconds")  # never null
NOT_BLANK = ("id", "text", "messages", "codec")
BATCH_ROWS = 1000

MAX_EXPANSION, FREE_BYTES = 1000, 2**30  # decoded bytes for each byte of a file, beyond the free ones
MAX_GROUP_BYTES = 2**32  # decoded; a reader holds a row group in memory


def check_size(path: str, metadata: pq.FileMetaData, schema: pa.Schema, *, file: str) -> None:
    """Check the size of a parquet file once decoded. A value counts as often as it is decoded.

    Args:
        metadata: of the file.
        schema: the columns that will be read; the file has them.
        file: its name in messages.

    Raises:
        InputError: it is absurd for the size on disk, or a row group is too large.
    """
    columns = [metadata.schema.column(index) for index in range(metadata.num_columns)]
    columns = [column for column in columns if column.path.partition(".")[0] in schema.names]
    groups = declared_chunks(path, metadata, leaves=[column.path for column in columns])
    limit = FREE_BYTES + MAX_EXPANSION * os.path.getsize(path)
    sizes = [sum(chunk.num_bytes for chunk in chunks) for chunks in groups]
    _refuse_large(sizes, limit, file=file)
    texts = [column.path for column in columns if column.physical_type == "BYTE_ARRAY"]
    for number in range(len(groups)):
        sizes[number] += text_bytes(path, metadata, number, leaves=texts)
        _refuse_large(sizes, limit, file=file)


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


class _Problem(NamedTuple):
    """Damaged rows of a batch in order, and what is wrong with the first."""

    column: str
    rows: np.ndarray
    text: str


def check_rows(table: pa.Table, *, where: str) -> None:
    """Check every cell. Only conversations are looked at one by one, the other columns as arrays.

    Args:
        table: rows in the schema of the format, with or without the column `audio`.
        where: the corpus and its split.

    Raises:
        InputError: names the first damaged row and its column, and how many rows are damaged.
    """
    first, num_damaged, start = "", 0, 0
    for batch in table.to_batches(max_chunksize=BATCH_ROWS):
        problems = [problem for problem in _problems(batch) if len(problem.rows)]
        if problems:
            num_damaged += len(np.unique(np.concatenate([problem.rows for problem in problems])))
        if problems and not first:
            problem = min(problems, key=lambda problem: problem.rows[0])
            row = int(problem.rows[0])
            name = _shown(batch["id"].cast(pa.binary())[row].as_py())
            first = f"row {name} (number {start + row}): column {problem.column}: {problem.text}"
        start += len(batch)
    if first:
        raise InputError(
            f"{where}: {first}; {num_damaged} of {len(table)} rows are damaged: remove these rows, or encode the "
            "corpus again with scripts/encode.py"
        )


def _shown(row_id: bytes | None) -> str:
    """An id of any content in a message."""
    text = (row_id or b"(without id)")[:100].decode(errors="replace")
    return text if text.isprintable() else repr(text)


def _problems(batch: pa.RecordBatch) -> Iterator[_Problem]:
    """The problems of each column; some of them have no rows."""
    every_row = np.arange(len(batch))
    for name in REQUIRED:
        yield _Problem(name, _nulls(batch[name]), "is null")
    for field in batch.schema:
        column = batch[field.name]
        if pa.types.is_string(field.type):
            yield from _text_problems(field.name, column, every_row)
        elif pa.types.is_list(field.type) and pa.types.is_string(field.type.value_type):
            yield from _text_problems(field.name, pc.list_flatten(column), _rows_of_items(column))
        elif pa.types.is_struct(field.type):
            yield from _text_problems(f"{field.name}.path", pc.struct_field(column, "path"), every_row)
    references = batch["ref_codes"]
    yield from _codes_problems("codes", batch["codes"], every_row)
    yield from _codes_problems("ref_codes", pc.list_flatten(references), _rows_of_items(references))
    num_texts, num_references = _lengths(batch["ref_texts"]), _lengths(references)
    wrong = np.flatnonzero((num_texts != num_references) & batch["ref_texts"].is_valid().to_numpy(False))
    if len(wrong):
        text = f"has {num_texts[wrong[0]]} texts for {num_references[wrong[0]]} clips in ref_codes"
        yield _Problem("ref_texts", wrong, text)
    yield from _seconds_problems(batch["seconds"], _lengths(batch["codes"]))
    yield from _messages_problems(batch["messages"], num_references + 1)


def _text_problems(name: str, texts: pa.StringArray, rows: np.ndarray) -> Iterator[_Problem]:
    """The problems of texts; `rows` has the row of each."""
    sizes = pc.binary_length(texts).fill_null(0).to_numpy()
    yield _Problem(name, rows[sizes > MAX_TEXT_BYTES], f"has more than {MAX_TEXT_BYTES} bytes")
    invalid = _invalid_utf8(texts)
    yield _Problem(name, rows[invalid], "is not valid UTF-8")
    if name in NOT_BLANK and not len(invalid):
        blank = pc.equal(pc.utf8_trim_whitespace(texts), "").fill_null(False)
        yield _Problem(name, rows[blank.to_numpy(False)], "is blank")


def _invalid_utf8(texts: pa.StringArray) -> np.ndarray:
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid:
        encoded = enumerate(texts.cast(pa.binary()).to_pylist())
        return np.array([index for index, text in encoded if text is not None and not _is_utf8(text)])
    return np.zeros(0, dtype=np.int64)


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _codes_problems(name: str, clips: pa.ListArray, rows: np.ndarray) -> Iterator[_Problem]:
    """The problems of clips (T, C); `rows` has the row of each."""
    num_steps, num_codebooks = _lengths(clips), clips.type.value_type.list_size
    yield _Problem(name, rows[_nulls(clips)], "has a clip that is null")
    yield _Problem(name, rows[(num_steps == 0) & clips.is_valid().to_numpy(False)], "has a clip without steps")
    too_long = np.flatnonzero(num_steps > MAX_STEPS)
    if len(too_long):
        text = f"has a clip of {num_steps[too_long[0]]} steps, at most {MAX_STEPS} ({MAX_CLIP_SECONDS} s) are read"
        yield _Problem(name, rows[too_long], text)

    steps, ends = pc.list_flatten(clips), num_steps.cumsum()  # a null clip has no steps
    null_steps = _nulls(steps)
    yield _Problem(name, rows[np.searchsorted(ends, null_steps, side="right")], "has a step that is null")
    if len(null_steps):  # they have no codes: the next positions would be those of other steps
        return
    codes = pc.list_flatten(steps)
    null_codes = _nulls(codes)
    yield _Problem(name, rows[np.searchsorted(ends, null_codes // num_codebooks, side="right")], "has a null code")
    limits = pc.min_max(codes)
    if len(codes) > len(null_codes) and (limits["min"].as_py() < 0 or limits["max"].as_py() >= BOS_CODE):
        numbers = codes.fill_null(0).to_numpy()
        outside = np.flatnonzero((numbers < 0) | (numbers >= BOS_CODE))
        text = f"has the code {numbers[outside[0]]}, codes are 0 to {BOS_CODE - 1}"
        yield _Problem(name, rows[np.searchsorted(ends, outside // num_codebooks, side="right")], text)


def _seconds_problems(column: pa.FloatArray, num_steps: np.ndarray) -> Iterator[_Problem]:
    seconds, coded = column.to_numpy(zero_copy_only=False), num_steps / FRAMES_PER_SECOND
    given = column.is_valid().to_numpy(False)
    yield _Problem("seconds", np.flatnonzero(given & ~np.isfinite(seconds)), "is not a finite number")
    wrong = np.flatnonzero(given & np.isfinite(seconds) & (np.abs(seconds - coded) > SECONDS_TOLERANCE))
    if len(wrong):
        text = f"is {seconds[wrong[0]]:.2f}, but codes has {num_steps[wrong[0]]} steps of 1/{FRAMES_PER_SECOND} s"
        yield _Problem("seconds", wrong, text)


def _messages_problems(messages: pa.StringArray, num_clips: np.ndarray) -> Iterator[_Problem]:
    """The problems of conversations, each with `num_clips` clips; not of what `_text_problems` refuses."""
    sizes = pc.binary_length(messages).fill_null(0).to_numpy()
    readable = (sizes > 0) & (sizes <= MAX_TEXT_BYTES)
    readable[_invalid_utf8(messages)] = False
    rows, text = [], ""
    conversations = messages.filter(pa.array(readable)).to_pylist()
    for row, conversation in zip(np.flatnonzero(readable), conversations, strict=True):
        if problem := conversation_problem(conversation, num_clips=num_clips[row]):
            text = text or problem
            rows.append(row)
    yield _Problem("messages", np.array(rows, dtype=np.int64), text)


def _nulls(array: pa.Array) -> np.ndarray:
    """The indexes of nulls."""
    if array.null_count == 0:
        return np.zeros(0, dtype=np.int64)
    return np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))


def _lengths(lists: pa.ListArray) -> np.ndarray:
    """The length of each list, 0 of a null."""
    return pc.list_value_length(lists).fill_null(0).to_numpy()


def _rows_of_items(lists: pa.ListArray) -> np.ndarray:
    """The index of the list of each item, of all items end to end."""
    return pc.list_parent_indices(lists).to_numpy()
