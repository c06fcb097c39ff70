import os
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from higgs_recipes.corpus import encoded_check
from higgs_recipes.corpus.encoded import check_files, load_encoded
from higgs_recipes.errors import InputError
from tests.helpers.encoded_corpus import SCHEMA, encoded_rows, write_encoded, write_record


def refused(folder: Path, message: str, *, split: str = "train") -> None:
    with pytest.raises(InputError, match=message):
        load_encoded(folder, split=split)


def test_a_split_is_read_from_all_its_files_in_order(tmp_path):
    rows = encoded_rows(9)
    write_encoded(tmp_path, rows, num_files=4)
    write_encoded(tmp_path, rows[:2], split="test")
    (tmp_path / "data/._train-00000-of-00001.parquet").write_bytes(b"of macOS")
    loaded = load_encoded(tmp_path, split="train")
    assert loaded["id"][:] == [row["id"] for row in rows] and loaded["codes"][8] == rows[8]["codes"]
    assert "audio" not in load_encoded(tmp_path, split="train", with_audio=False).column_names


@pytest.mark.parametrize("name", ["a[b]c", "star*", "what?"])
def test_special_characters_in_folder_names_are_not_patterns(tmp_path, name):
    write_encoded(tmp_path / name, encoded_rows(3))
    write_encoded(tmp_path / "starfish", encoded_rows(8))
    assert len(load_encoded(tmp_path / name, split="train")) == 3


def test_half_a_corpus_is_refused(tmp_path):
    write_encoded(tmp_path, encoded_rows(6), num_files=3)
    (tmp_path / "data/train-00001-of-00003.parquet").unlink()
    refused(tmp_path, "split train: 1 of 3 files are missing, the first is data/train-00001-of-00003.parquet: fetch")


def test_two_corpora_in_one_folder_are_refused(tmp_path):
    write_encoded(tmp_path, encoded_rows(6), num_files=3)
    write_encoded(tmp_path, encoded_rows(2), split="test")
    write_encoded(tmp_path, encoded_rows(4), num_files=2)
    refused(tmp_path, "split train: two corpora are mixed: its files are named both -of-00002 and -of-00003: fetch")
    assert len(load_encoded(tmp_path, split="test")) == 2


@pytest.mark.parametrize("name", ["train-00000-of-00001 (1)", "train-0-of-1", "train-00000-of-00001-3f2a", "-of-"])
def test_a_file_with_another_name_is_refused(tmp_path, name):
    write_encoded(tmp_path, encoded_rows(2))
    (tmp_path / f"data/{name}.parquet").write_bytes(b"")
    refused(tmp_path, rf"data/{re.escape(name)}\.parquet is not named <split>-00000-of-00001\.parquet: rename it")


def test_an_index_beyond_the_count_is_refused(tmp_path):
    write_encoded(tmp_path, encoded_rows(2))
    path = tmp_path / "data/train-00000-of-00001.parquet"
    path.with_name("train-00007-of-00001.parquet").write_bytes(path.read_bytes())
    refused(tmp_path, "data/train-00007-of-00001.parquet has an index beyond its count")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("nowhere", path)])
def test_what_is_not_a_regular_file_is_not_opened(tmp_path, make):
    write_encoded(tmp_path, encoded_rows(2))
    (path := tmp_path / "data/train-00000-of-00001.parquet").unlink()
    make(path)
    refused(tmp_path, "data/train-00000-of-00001.parquet is not a regular file")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"<html>captive portal</html>", bytes(1000)])
def test_a_file_that_is_not_parquet_is_named(tmp_path, content):
    write_encoded(tmp_path, encoded_rows(4), num_files=2)
    (tmp_path / "data/train-00001-of-00002.parquet").write_bytes(content)
    refused(
        tmp_path, r"split train: data/train-00001-of-00002.parquet: the parquet file cannot be read \(.+\): fetch the"
    )


def test_a_truncated_file_and_one_with_broken_pages_are_named(tmp_path):
    write_encoded(tmp_path, encoded_rows(4))
    path = tmp_path / "data/train-00000-of-00001.parquet"
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    refused(tmp_path, "train-00000-of-00001.parquet: the parquet file cannot be read")
    path.write_bytes(content[:4] + bytes(2000) + content[2004:])
    refused(tmp_path, "train-00000-of-00001.parquet: the parquet file cannot be read")
    chunk = pq.read_metadata(write_encoded(tmp_path, encoded_rows(4)) / path).row_group(0).column(10)
    assert chunk.path_in_schema.startswith("codes.")
    path.write_bytes(
        content[: chunk.dictionary_page_offset] + bytes(50) + content[chunk.dictionary_page_offset + 50 :]
    )
    refused(tmp_path, r"split train: .*the parquet files? cannot be read \(.+\): fetch the corpus again")


def changed(column: str, type_: pa.DataType, values: list) -> pa.Table:
    table = pa.Table.from_pylist(encoded_rows(4), schema=SCHEMA)
    return table.set_column(table.schema.names.index(column), column, pa.array(values, type_))


@pytest.mark.parametrize(
    "table, message",
    [
        (changed("codes", pa.list_(pa.list_(pa.int16(), 7)), [[[1] * 7]] * 4), r"codes has the type .*\[7\]>, the"),
        (changed("codes", pa.list_(pa.list_(pa.int16())), [[[1] * 8]] * 4), "codes has the type list<.*, the format"),
        (changed("codes", pa.list_(pa.list_(pa.int64(), 8)), [[[1] * 8]] * 4), "codes has the type .*int64"),
        (changed("codes", pa.string(), ["1"] * 4), "codes has the type string, the format needs list<"),
        (changed("ref_codes", SCHEMA.field("codes").type, [[]] * 4), "ref_codes has the type "),
        (changed("messages", pa.list_(pa.string()), [["a"]] * 4), "messages has the type list<"),
        (changed("messages", pa.int64(), [1] * 4), "messages has the type int64, the format needs string: fetch"),
        (changed("text", pa.binary(), [b"a"] * 4), "text has the type binary, the format needs string"),
        (changed("seconds", pa.string(), ["1"] * 4), "seconds has the type string, the format needs float"),
        (changed("turn_speakers", pa.string(), ["anna"] * 4), "turn_speakers has the type string"),
        (changed("turn_speakers", pa.null(), [None] * 4), "turn_speakers has the type null"),
        (changed("audio", pa.binary(), [b"RIFF"] * 4), "audio has the type binary, the format needs struct<bytes"),
    ],
)
def test_a_column_of_another_type_is_named(tmp_path, table, message):
    write_encoded(tmp_path, table)
    refused(tmp_path, f"split train: data/train-00000-of-00001.parquet: column {message}")


def test_missing_and_repeated_columns_are_named_and_others_are_not_read(tmp_path):
    table = pa.Table.from_pylist(encoded_rows(4), schema=SCHEMA)
    write_encoded(tmp_path, table.drop_columns(["codec", "turn_speakers"]))
    refused(tmp_path, r"no encoded corpus \(no column codec, turn_speakers\): make one with")
    write_encoded(tmp_path, table.append_column("text", table["id"]))
    refused(tmp_path, "2 columns have the name text")
    write_encoded(tmp_path, table.append_column("audio.bytes", table["id"]))
    refused(tmp_path, "2 columns have the name audio")
    write_encoded(tmp_path, table.append_column("note", table["id"]).append_column("note.more", table["id"]))
    assert load_encoded(tmp_path, split="train").column_names == SCHEMA.names


def test_metadata_of_another_library_is_not_read(tmp_path):
    """`datasets` would take the types of its columns from there."""
    table = pa.Table.from_pylist(encoded_rows(4), schema=SCHEMA)
    for features in ("not JSON", '{"info": {"features": {"id": {"_type": "Evil"}}}}'):
        write_encoded(tmp_path, table.replace_schema_metadata({"huggingface": features}))
        assert len(load_encoded(tmp_path, split="train")) == 4


def test_a_split_without_rows_is_refused(tmp_path):
    write_encoded(tmp_path, [])
    refused(tmp_path, "split train: no rows: encode the corpus again; test_size")


def bomb(num_rows: int, **columns: pa.Array) -> pa.Table:
    """A table of equal rows, which takes some kilobytes in memory and in a file."""
    (row,) = encoded_rows(1)
    arrays = {name: pa.array([row[name]], SCHEMA.field(name).type) for name in SCHEMA.names} | columns
    indexes = pa.array(np.zeros(num_rows, dtype=np.int32))
    texts = ("id", "text", "raw_text", "messages", "codec")
    as_dictionaries = {name: pa.DictionaryArray.from_arrays(indexes, arrays[name]) for name in texts}
    others = {name: array.take(indexes) for name, array in arrays.items() if name not in texts}
    return pa.table({name: (as_dictionaries | others)[name] for name in SCHEMA.names})


def test_a_text_that_a_small_file_repeats_too_often_is_not_decoded(tmp_path):
    text = pa.array(["a" * 10**7])
    write_encoded(tmp_path, bomb(20_000, text=text), store_schema=False, dictionary_pagesize_limit=2**30)
    path = tmp_path / "data/train-00000-of-00001.parquet"
    # Without the stored Arrow schema the steps would be lists of any length: only the size is checked here.
    assert path.stat().st_size < 10**6
    schema = pa.schema([SCHEMA.field("id"), SCHEMA.field("text")])
    with pytest.raises(InputError, match=r"train-00000-of-00001.parquet: 186\.\d GiB or more once decoded, 1\.\d GiB"):
        check_files([str(path)], schema, where="corpus, split train")


def test_codes_that_a_small_file_repeats_too_often_are_not_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(encoded_check, "FREE_BYTES", 2**20)
    monkeypatch.setattr(encoded_check, "MAX_EXPANSION", 10)
    rows = encoded_rows(2)
    rows[1]["codes"] = [[7] * 8] * 500_000  # 8 MB
    write_encoded(tmp_path, rows, compression="zstd")
    refused(tmp_path, r"train-00000-of-00001.parquet: 0\.0 GiB or more once decoded, .* do not use it")


def test_a_row_group_that_fills_the_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(encoded_check, "MAX_GROUP_BYTES", 10_000)
    write_encoded(tmp_path, encoded_rows(20))
    refused(
        tmp_path, "a row group has 0.0 GiB or more once decoded, at most 0 GiB are read: write it with row groups of"
    )
    write_encoded(tmp_path, encoded_rows(20), row_group_size=2)
    assert len(load_encoded(tmp_path, split="train")) == 20


def test_rows_and_seconds_agree_with_the_record(tmp_path):
    rows = encoded_rows(40, num_steps=100)
    write_encoded(tmp_path, rows)
    write_record(tmp_path, rows)
    assert len(load_encoded(tmp_path, split="train")) == 40
    write_encoded(tmp_path, rows[:30])
    refused(
        tmp_path, "split train: the files have 30 rows, corpus.json says 40: half a corpus, or two mixed: fetch the"
    )
    write_encoded(tmp_path, [*rows[:39], rows[0]])
    refused(tmp_path, r"the files have 189\.\d+ seconds, corpus.json says 190\.8: half a corpus, or two mixed")


@pytest.mark.parametrize(
    "record",
    [
        "",
        "<html>",
        "[]",
        "null",
        '"splits"',
        "{}",
        '{"splits": null}',
        '{"splits": ["train"]}',
        '{"splits": {"test": {"rows": 4, "seconds": 1}}}',
        '{"splits": {"train": 4}}',
        '{"splits": {"train": {"rows": null, "seconds": 1}}}',
        '{"splits": {"train": {"rows": [4], "seconds": 1}}}',
        '{"splits": {"train": {"rows": "many", "seconds": 1}}}',
        f'{{"splits": {{"train": {{"rows": 1{"0" * 400}, "seconds": 1}}}}}}',
        "[" * 100_000,
        " " * 2**24 + "{}",
    ],
)
def test_a_damaged_record_is_refused(tmp_path, record):
    write_encoded(tmp_path, encoded_rows(4))
    (tmp_path / "corpus.json").write_text(record)
    refused(tmp_path, "split train: corpus.json ")


@pytest.mark.parametrize("rows, seconds", [("NaN", 1.5), (4, "NaN"), (4, "Infinity"), (-4, 1.5)])
def test_numbers_of_the_record_are_compared_as_numbers(tmp_path, rows, seconds):
    write_encoded(tmp_path, encoded_rows(4))
    (tmp_path / "corpus.json").write_text(f'{{"splits": {{"train": {{"rows": {rows}, "seconds": {seconds}}}}}}}')
    refused(tmp_path, "split train: the files have .* corpus.json says")


def test_a_record_that_is_not_a_file_is_refused(tmp_path):
    write_encoded(tmp_path, encoded_rows(4))
    os.mkfifo(tmp_path / "corpus.json")
    refused(tmp_path, "corpus.json is not a file of at most")
