"""The encoded corpus: its columns, and reading it from a folder or the Hub."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from glob import escape
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import Audio, Dataset, Features, List, Value, load_dataset
from datasets.config import HF_DATASETS_CACHE
from datasets.exceptions import DatasetGenerationError

from higgs_recipes.constants import NUM_CODEBOOKS
from higgs_recipes.corpus.encoded_check import check_rows, check_size
from higgs_recipes.errors import InputError
from higgs_recipes.files import explain_full_disk, sha256_files
from higgs_recipes.hub.download import Snapshot, fetch


FILE_NAME = re.compile(r"(\w+)-([0-9]{5})-of-([0-9]{5})\.parquet")
MAX_RECORD_BYTES = 2**24  # of corpus.json
REMEDY = "fetch the corpus again, or encode it again with scripts/encode.py"


def fetch_encoded(name_or_path: str | Path, *, revision: str | None = None) -> Snapshot:
    """The files of an encoded corpus.

    Raises:
        InputError: no such folder or repository, or it cannot be fetched.
    """
    return fetch(name_or_path, repo_type="dataset", revision=revision, allow_patterns=["corpus.json", "data/*"])


def load_encoded(corpus: str | Path | Snapshot, *, split: str, with_audio: bool = True) -> Dataset:
    """A split of an encoded corpus, from a folder or the Hub; its fingerprint is that of the files' content.

    Args:
        with_audio: whether to read the column `audio`, which can be far larger than all others.

    Raises:
        InputError: what `fetch_encoded` raises, no such split or no rows in it, or a file or a row that is
            damaged, see `check_files` and `check_rows`.
    """
    files = corpus if isinstance(corpus, Snapshot) else fetch_encoded(corpus)
    where = f"{files.name}, split {split}"
    paths = split_files(files.folder, corpus=files.name, split=split)
    features = shard_features(num_codebooks=NUM_CODEBOOKS)
    if not with_audio:
        del features["audio"]
    check_files(paths, features.arrow_schema, where=where)
    try:
        with explain_full_disk(HF_DATASETS_CACHE):
            rows = load_dataset(
                "parquet",
                data_files={split: list(map(escape, paths))},
                split=split,
                columns=list(features),
                features=features,
                batch_size=1000,  # by default the rows of the first row group, which may be 0
            )
    except DatasetGenerationError as error:
        reason = _short_reason(error.__cause__ or error)
        raise InputError(f"{where}: the parquet files cannot be read ({reason}): {REMEDY}") from error
    check_rows(rows.data.table, where=where)
    check_record(files.folder, rows.data.table, split=split, where=where)
    # Of the content: the one that `datasets` gives changes with the folder that the files lie in.
    rows._fingerprint = sha256_files(paths)
    return rows


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
        with _explain_unreadable(file):
            with pq.ParquetFile(path) as parquet:
                metadata, found = parquet.metadata, parquet.schema_arrow
            _check_schema(found, schema, file=file)
            check_size(path, metadata, schema, file=file)
        num_rows += sum(metadata.row_group(number).num_rows for number in range(metadata.num_row_groups))
    if num_rows == 0:
        raise InputError(f"{where}: no rows: encode the corpus again; test_size sets how many rows are held out")


@contextmanager
def _explain_unreadable(file: str) -> Iterator[None]:
    """Turn what pyarrow raises on a file that it cannot read into an `InputError`."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: the parquet file cannot be read ({_short_reason(error)}): {REMEDY}") from error


def _short_reason(error: BaseException) -> str:
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


def check_codec(rows: Dataset, codec_revision: str, *, where: str) -> None:
    """Refuse codes of another codec: they mean other sounds.

    Args:
        codec_revision: `Codec.revision` of the codec in use.
        where: the corpus and its split.

    Raises:
        InputError: a row has another; names the corpus and both codecs and says what to do.
    """
    others = sorted(set(rows.unique("codec")) - {codec_revision})
    if others:
        raise InputError(
            f"{where}: column codec: the codes were made by {', '.join(others[:3])}, the recipe's codec is "
            f"{codec_revision}: set codec_name_or_path and codec_revision to the corpus's, or run scripts/encode.py "
            "with this codec"
        )


TEXT_COLUMNS = ("id", "text", "raw_text", "speaker", "language", "scene", "task", "messages")


def shard_features(*, num_codebooks: int) -> Features:
    """The columns of an encoded corpus."""
    codes = List(List(Value("int16"), length=num_codebooks))
    texts = {name: Value("string") for name in (*TEXT_COLUMNS, "codec", "content_hash")}
    others = {
        "codes": codes,
        "ref_codes": List(codes),
        "ref_texts": List(Value("string")),
        "turn_speakers": List(Value("string")),
        "seconds": Value("float32"),
    }
    return Features(texts | others | {"audio": Audio(decode=False)})
