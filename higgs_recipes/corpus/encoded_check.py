"""Check the rows of an encoded corpus as they are loaded: anyone can publish one, damaged or hostile."""

import json
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from higgs_recipes.chatml import CONTROL_TOKEN
from higgs_recipes.constants import BOS_CODE, FRAMES_PER_SECOND, MAX_CLIP_SECONDS
from higgs_recipes.errors import InputError


MAX_STEPS = MAX_CLIP_SECONDS * FRAMES_PER_SECOND
MAX_TEXT_BYTES = 2**18  # of a cell; scripts/encode.py rejects transcripts of more than 1,000 characters
SECONDS_TOLERANCE = 0.1  # the codec pads the last step (0.04 s), and others may round to 0.1 s
REQUIRED = ("id", "text", "messages", "codec", "codes", "turn_speakers", "seconds")  # never null
NOT_BLANK = ("id", "text", "messages", "codec")
ROLES = ("system", "scene", "user", "assistant")
BATCH_ROWS = 1000


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


def conversation_problem(messages: str, *, num_clips: int) -> str:
    """Describe what is wrong with a conversation; return "" if it is JSON of what `chatml.conversation` makes.

    The prompt of a valid conversation has an audio token for each clip and ends with the assistant's clip, as
    `samples.label_sample` requires.

    >>> conversation_problem('[{"role": "assistant", "content": [{"type": "audio"}]}]', num_clips=1)
    ''
    >>> conversation_problem('[{"role": "assistant", "content": "Hi."}]', num_clips=1)
    'the content of turn 0 is not a list of items'
    """
    try:
        turns = json.loads(messages)
    except (ValueError, RecursionError) as error:  # nested too deeply
        return f"is not JSON ({str(error)[:100]})"
    if not isinstance(turns, list) or not turns:
        return "is not a list of turns"
    num_audio = 0
    for index, turn in enumerate(turns):
        role, content = (turn.get("role"), turn.get("content")) if isinstance(turn, dict) else (None, None)
        if role not in ROLES:
            return f"turn {index} has none of the roles {', '.join(ROLES)}"
        if not isinstance(content, list) or not content:
            return f"the content of turn {index} is not a list of items"
        types = [item.get("type") if isinstance(item, dict) else None for item in content]
        if role == "scene" and (index != 1 or turns[0]["role"] != "system" or types[0] != "text"):
            return f"turn {index} is a scene: it must follow the system turn, and begin with text"
        for item, kind in zip(content, types, strict=True):
            if kind == "audio":
                num_audio += 1
            elif kind != "text" or not isinstance(item.get("text"), str):
                return f"turn {index} has an item that is neither audio nor text"
            elif problem := _prompt_problem(item["text"]):
                return f"the text of turn {index} {problem}"
    if role != "assistant" or types != ["audio"]:
        return "the last turn is not the assistant's with one audio item"
    if num_audio != num_clips:
        return f"has {num_audio} audio items for {num_clips} clips in codes and ref_codes"
    return ""


def _prompt_problem(text: str) -> str:
    if "<|" in text and (token := CONTROL_TOKEN.search(text)):
        return f"has the control token {token[0][:40]}, which only the prompt may set"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "has invalid Unicode"
    return ""


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
