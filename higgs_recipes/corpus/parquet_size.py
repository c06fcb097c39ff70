"""The size of a parquet file in memory, found out before its data is read.

Parquet compresses pages and stores equal values once: a file of 4 kB can decode to terabytes. Its metadata need not
say so, and the headers of its pages need not agree with the metadata.
"""

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from higgs_recipes.errors import InputError


MAX_PAGE_BYTES, MAX_PAGE_RATIO = 2**28, 100  # a page beyond both does not contain recordings or texts
_VALUE_BYTES = {"BOOLEAN": 0, "INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8, "INT96": 12, "BYTE_ARRAY": 4}
_MAX_HEADER = 2**24  # bytes of the header of a page, as in Arrow
_DICTIONARY_PAGE = 2
_MAX_DEPTH = 8  # of structs in the header of a page
_ELEMENT_BYTES = {1: 1, 2: 1, 3: 1, 7: 8}  # true, false, byte and double in a list


class Chunk(NamedTuple):
    """The declared size of a column in a row group.

    Attributes:
        path: path of the column.
        num_bytes: the least size of its values in memory.
        dictionary_bytes: size of its dictionary of texts or bytes, of which each value may be a copy; 0 without one.
        num_values: number of its values.
    """

    path: str
    num_bytes: int
    dictionary_bytes: int
    num_values: int

    @property
    def most_bytes(self) -> int:
        """The size if each value were the whole dictionary."""
        return self.num_bytes + self.dictionary_bytes * self.num_values


def declared_chunks(path: str, metadata: pq.FileMetaData, *, leaves: Sequence[str]) -> list[list[Chunk]]:
    """The columns of each row group, with the sizes that the metadata and the headers of all pages declare.

    Args:
        leaves: paths of the columns that will be read.

    Raises:
        InputError: a page larger than `MAX_PAGE_BYTES` that was compressed more than `MAX_PAGE_RATIO` times.
        pyarrow.ArrowInvalid: damaged metadata or pages.
    """
    _check_metadata(path, metadata, leaves=leaves)
    schema = (metadata.schema.column(index) for index in range(metadata.num_columns))
    # The decoded bytes of a value, without the content of texts.
    value_bytes = {
        column.path: _VALUE_BYTES.get(column.physical_type, max(0, column.length or 0)) for column in schema
    }
    groups = []
    with open(path, "rb") as file:
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            columns = [group.column(index) for index in range(group.num_columns)]
            columns = [column for column in columns if column.path_in_schema in leaves]
            groups.append([_chunk(file, column, value_bytes[column.path_in_schema]) for column in columns])
    return groups


def text_bytes(path: str, metadata: pq.FileMetaData, group: int, *, leaves: Sequence[str]) -> int:
    """The decoded size of columns of texts or bytes in a row group, counted without decoding them.

    Raises:
        pyarrow.ArrowException: damaged data.
    """
    with pq.ParquetFile(path, metadata=metadata, read_dictionary=list(leaves)) as parquet:
        table = parquet.read_row_group(group, columns=list(leaves))
    return sum(_decoded_bytes(chunk) for column in table.columns for chunk in column.chunks)


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


def _check_metadata(path: str, metadata: pq.FileMetaData, *, leaves: Sequence[str]) -> None:
    """Let a reader check the metadata of all chunks, without their data.

    `RowGroupMetaData.column` ends the process (std::terminate) on damaged metadata, for which a reader raises. The
    buffer makes it open all chunks before it reads from the first.
    """
    with pq.ParquetFile(_NoData(os.path.getsize(path)), metadata=metadata, buffer_size=4096) as parquet:
        for number in range(metadata.num_row_groups):
            with suppress(_NoData.Read):
                next(parquet.iter_batches(batch_size=1, row_groups=[number], columns=list(leaves)), None)


def _chunk(file: BinaryIO, column: pq.ColumnChunkMetaData, value_bytes: int) -> Chunk:
    pages_bytes = dictionary_bytes = page_values = 0
    for kind, uncompressed, compressed, num_values in _pages(file, column):
        if uncompressed > max(MAX_PAGE_BYTES, MAX_PAGE_RATIO * compressed):
            raise InputError(
                f"{file.name}: a page of the column {column.path_in_schema} has {compressed:,} bytes that expand to "
                f"{uncompressed:,}: it would fill the memory and is not read"
            )
        pages_bytes += uncompressed
        if kind == _DICTIONARY_PAGE:
            dictionary_bytes = max(dictionary_bytes, uncompressed)
        else:
            page_values += num_values
    num_values = max(0, column.num_values, page_values)
    num_bytes = max(0, column.total_uncompressed_size, pages_bytes, num_values * value_bytes)
    is_text = column.physical_type == "BYTE_ARRAY"
    return Chunk(column.path_in_schema, num_bytes, dictionary_bytes if is_text else 0, num_values)


def _pages(file: BinaryIO, column: pq.ColumnChunkMetaData) -> Iterator[tuple[int, int, int, int]]:
    """(type, bytes uncompressed and compressed, number of values) of each page by its header."""
    starts = [start for start in (column.dictionary_page_offset, column.data_page_offset) if start]
    position = min(starts, default=-1)
    end = position + column.total_compressed_size
    if position < 0 or end > os.fstat(file.fileno()).st_size:
        raise pa.ArrowInvalid("the metadata places pages outside the file")
    while position < end:
        header, length = _header(file, position)
        kind, uncompressed, compressed = (header.get(field, -1) for field in (1, 2, 3))
        details = next((header[field] for field in (5, 7, 8) if field in header), {})
        num_values = details.get(1, 0) if isinstance(details, dict) else -1
        numbers = (kind, uncompressed, compressed, num_values)
        if not all(isinstance(number, int) and number >= 0 for number in numbers):
            raise pa.ArrowInvalid("the header of a page has no valid sizes")
        yield numbers
        position += length + compressed


def _header(file: BinaryIO, position: int) -> tuple[dict, int]:
    """The fields of the header of a page by their numbers (Thrift's compact protocol), and its length."""
    size = 2**9
    while size <= _MAX_HEADER:
        file.seek(position)
        content = file.read(size)
        try:
            return _struct(content, 0, 0)
        except IndexError:  # it may be longer
            if len(content) < size:
                break
            size *= 8
    raise pa.ArrowInvalid("the header of a page is cut off")


def _struct(content: bytes, position: int, depth: int) -> tuple[dict, int]:
    fields: dict = {}
    number = 0
    while (byte := content[position]) != 0:
        position += 1
        if byte >> 4:
            number += byte >> 4
        else:
            value, position = _varint(content, position)
            number = _signed(value)
        fields[number], position = _value(content, position, byte & 15, depth)
    return fields, position + 1


def _value(content: bytes, position: int, kind: int, depth: int) -> tuple[int | dict | None, int]:
    """An integer or a struct; None for values of other types, which are skipped."""
    if depth > _MAX_DEPTH:
        raise pa.ArrowInvalid("the header of a page is nested too deep")
    if kind in (1, 2):  # true, false
        return None, position
    if kind == 3:
        return None, position + 1
    if kind in (4, 5, 6):
        value, position = _varint(content, position)
        return _signed(value), position
    if kind == 7:
        return None, position + 8
    if kind == 8:
        length, position = _varint(content, position)
        return None, _skip(content, position, length)
    if kind in (9, 10):
        head, position = content[position], position + 1
        length, inner = head >> 4, head & 15
        if length == 15:
            length, position = _varint(content, position)
        if inner in _ELEMENT_BYTES:
            return None, _skip(content, position, length * _ELEMENT_BYTES[inner])
        _skip(content, position, length)  # an element has at least one byte: not more elements than bytes are read
        for _ in range(length):
            _, position = _value(content, position, inner, depth + 1)
        return None, position
    if kind == 12:
        return _struct(content, position, depth + 1)
    raise pa.ArrowInvalid("the header of a page has a field of an unknown type")


def _skip(content: bytes, position: int, length: int) -> int:
    if position + length > len(content):
        raise IndexError("cut off")
    return position + length


def _varint(content: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = content[position]
        value, shift, position = value | (byte & 127) << shift, shift + 7, position + 1
        if byte < 128:
            return value, position
    raise pa.ArrowInvalid("the header of a page has a number of more than 64 bits")


def _signed(value: int) -> int:
    return (value >> 1) ^ -(value & 1)


def _decoded_bytes(array: pa.Array) -> int:
    """The bytes of texts or recordings, counted from their dictionary."""
    kind = array.type
    if pa.types.is_struct(kind):
        return sum(map(_decoded_bytes, array.flatten()))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _decoded_bytes(array.flatten())
    if pa.types.is_map(kind):
        return _decoded_bytes(array.keys) + _decoded_bytes(array.items)
    if not pa.types.is_dictionary(kind) or not _has_length(kind.value_type):
        return array.nbytes
    return pc.sum(pc.binary_length(array.dictionary).take(array.indices), min_count=0).as_py()


def _has_length(kind: pa.DataType) -> bool:
    return any(
        is_kind(kind)
        for is_kind in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    )
