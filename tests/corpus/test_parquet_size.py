"""The size of a parquet file in memory, by its metadata, the headers of its pages and its dictionaries."""

from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from higgs_recipes.corpus import parquet_size
from higgs_recipes.corpus.parquet_size import Chunk, declared_chunks, text_bytes
from higgs_recipes.errors import InputError


TYPES = {
    "text": ["a", "bb"],
    "list": [["x"], ["y", "zz"]],
    "map": pa.array([[("k", "v")], []], pa.map_(pa.string(), pa.string())),
    "struct": [{"bytes": b"1234", "number": 1}] * 2,
    "structs": [[{"text": "x"}], []],
    "dictionary": pa.array(["q", "q"]).dictionary_encode(),
    "large": pa.array([["x"], ["y"]], pa.large_list(pa.large_string())),
    "number": [1.5, 2.5],
    "flag": [True, False],
    "fixed": pa.array([b"ab", b"cd"], pa.binary(2)),
    "decimal": pa.array([1, 2], pa.decimal128(10, 2)),
    "pairs": pa.array([[1, 2], [3, 4]], pa.list_(pa.int16(), 2)),
}


def write(path: Path, columns: dict, **options) -> tuple[str, pq.FileMetaData, list[str]]:
    """The arguments of `declared_chunks`."""
    pq.write_table(pa.table(columns), path, **options)
    metadata = pq.read_metadata(path)
    return str(path), metadata, [metadata.schema.column(index).path for index in range(metadata.num_columns)]


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd", "gzip", "brotli", "lz4"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_pages_of_every_type_and_compression_are_found(tmp_path, compression, version):
    path, metadata, leaves = write(tmp_path / "a", TYPES, compression=compression, data_page_version=version)
    (chunks,) = declared_chunks(path, metadata, leaves=leaves)
    assert [chunk.path for chunk in chunks] == leaves
    for index, chunk in enumerate(chunks):
        stated = metadata.row_group(0).column(index)
        assert 0 < chunk.num_bytes <= max(stated.total_uncompressed_size, 12 * stated.num_values)
        assert chunk.num_values == stated.num_values
        assert (chunk.dictionary_bytes > 0) == (stated.has_dictionary_page and stated.physical_type == "BYTE_ARRAY")
    assert text_bytes(path, metadata, 0, leaves=["text", "struct.bytes", "list.list.element"]) == 3 + 8 + 4
    assert text_bytes(path, metadata, 0, leaves=[leaf for leaf in leaves if leaf.startswith("map")]) >= 2


def test_a_page_with_a_header_that_lies_counts_as_large_as_it_says(tmp_path):
    path, metadata, leaves = write(tmp_path / "a", {"text": ["x" * 20_000]}, compression="zstd", use_dictionary=False)
    column, content = metadata.row_group(0).column(0), bytearray((tmp_path / "a").read_bytes())
    start = column.data_page_offset + 3  # after the type of the page and the head of the next field
    assert content[start - 1] == 0x15 and content[start] > 127 and content[start + 1] > 127 > content[start + 2]
    content[start : start + 3] = b"\xfe\xff\x7f"
    (tmp_path / "a").write_bytes(content)
    (chunk,) = declared_chunks(path, metadata, leaves=leaves)[0]
    assert column.total_uncompressed_size < 21_000 and chunk.num_bytes == 2**20 - 1


def test_a_page_that_expands_beyond_the_limits_is_refused(tmp_path, monkeypatch):
    arguments = write(tmp_path / "a", {"text": [b"\0" * 2**20]}, compression="zstd", use_dictionary=False)
    declared_chunks(*arguments[:2], leaves=arguments[2])
    monkeypatch.setattr(parquet_size, "MAX_PAGE_BYTES", 2**19)
    with pytest.raises(InputError, match=r"a page of the column text has [\d,]+ bytes that expand to 1,048,5"):
        declared_chunks(*arguments[:2], leaves=arguments[2])


@pytest.mark.parametrize("damage", [b"\0" * 30, b"\xff" * 30, b"\x15\x00\x15\x01\x15\x00", b"\x19" + b"\xff" * 4])
def test_a_damaged_header_of_a_page_is_an_error_of_arrow(tmp_path, damage):
    path, metadata, leaves = write(tmp_path / "a", {"text": ["x" * 200]}, use_dictionary=False)
    content, start = bytearray((tmp_path / "a").read_bytes()), metadata.row_group(0).column(0).data_page_offset
    content[start : start + len(damage)] = damage
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(pa.ArrowInvalid, match="the header of a page"):
        declared_chunks(path, metadata, leaves=leaves)


@pytest.mark.parametrize("kind", range(1, 13))
def test_a_list_in_a_header_that_declares_more_elements_than_bytes_is_cut_off(tmp_path, kind):
    length = b"\xff" * 8 + b"\x7f"  # 2^63 - 1 as a variable-length integer
    content = b"\x19" + bytes([0xF0 | kind]) + length + b"\x01" * 14
    (tmp_path / "a").write_bytes(content)
    with (tmp_path / "a").open("rb") as file, pytest.raises(pa.ArrowInvalid, match="the header of a page"):
        parquet_size._header(file, 0)


def test_lists_in_a_header_are_skipped(tmp_path):
    lists = [b"\x21" + b"\1\2", b"\x23" + b"\1\2", b"\x27" + b"\1" * 16, b"\x25" + b"\1\2", b"\x2c" + b"\0\0"]
    content = b"".join(b"\x19" + each for each in [*lists, b"\x08"]) + b"\x15\x06\0"
    (tmp_path / "a").write_bytes(content)
    with (tmp_path / "a").open("rb") as file:
        assert parquet_size._header(file, 0) == (dict.fromkeys(range(1, 7)) | {7: 3}, len(content))


@pytest.mark.parametrize("offset, size", [(0, 30), (-5, 30), (4, 2**62), (2**62, 2**62)])
def test_pages_outside_the_file_are_an_error_of_arrow(tmp_path, offset, size):
    (tmp_path / "a").write_bytes(b"PAR1" + bytes(60))
    column = SimpleNamespace(dictionary_page_offset=None, data_page_offset=offset, total_compressed_size=size)
    with (tmp_path / "a").open("rb") as file, pytest.raises(pa.ArrowInvalid, match="pages outside the file"):
        next(parquet_size._pages(file, column))


def test_the_most_bytes_are_those_of_a_dictionary_for_each_value():
    assert Chunk("text", num_bytes=10, dictionary_bytes=100, num_values=7).most_bytes == 710
