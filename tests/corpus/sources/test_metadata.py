"""Metadata files: encode refuses a file with an invalid line, import rejects the line."""

import pytest

from higgs_recipes.corpus.sources.metadata import metadata_rows, read_metadata
from higgs_recipes.errors import InputError
from higgs_recipes.rejects import Reject, RejectCode


def test_cells_are_read_verbatim(tmp_path):
    path = tmp_path / "metadata.csv"
    path.write_bytes(b'\xef\xbb\xbffile_name,text\r\na.wav,"One,\r\n\r\n ""two"""\r\nb.wav,\r\n\r\nc.wav,NA\r\n')
    rows = [
        {"file_name": "a.wav", "text": 'One,\r\n\r\n "two"'},
        {"file_name": "b.wav", "text": ""},
        {"file_name": "c.wav", "text": "NA"},
    ]
    assert read_metadata(path) == rows
    assert [number for number, _ in metadata_rows(path)] == [4, 5, 7]  # the last line of each row


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_all_line_endings_are_read(tmp_path, end):
    (tmp_path / "metadata.csv").write_bytes(end.join([b"file_name,text", b"a.wav,One", b"b.wav,Two", b""]))
    assert [(number, row["text"]) for number, row in metadata_rows(tmp_path / "metadata.csv")] == [
        (2, "One"),
        (3, "Two"),
    ]


def test_each_invalid_csv_line_is_rejected_and_encode_refuses_the_first(tmp_path):
    path = tmp_path / "metadata.csv"
    path.write_bytes(b'file_name,text\na.wav,One\nb.wav\nc.wav,caf\xe9\nd.wav,"x"y\ne.wav,Two\nf.wav,"open\n')
    rows = list(metadata_rows(path))
    good = [row for row in rows if not isinstance(row, Reject)]
    assert good == [(2, {"file_name": "a.wav", "text": "One"}), (6, {"file_name": "e.wav", "text": "Two"})]
    assert {row.columns["line"]: row.code for row in rows if isinstance(row, Reject)} == {
        3: RejectCode.WRONG_CELLS,
        4: RejectCode.NOT_UTF_8,
        5: RejectCode.NOT_CSV,
        7: RejectCode.NOT_CSV,
    }
    with pytest.raises(InputError, match="metadata.csv line 3: not one cell for each of file_name, text; quote"):
        read_metadata(path)


def test_each_invalid_json_line_is_rejected(tmp_path):
    path = tmp_path / "metadata.jsonl"
    path.write_bytes(b'{"text": "One", "line": 99, "file": "x", "reason": "r"}\n\n[]\n{\n{"text": "\xe9"}\n')
    first, *rejects = metadata_rows(path)
    assert first == (1, {"text": "One", "line": 99, "file": "x", "reason": "r"})
    assert [(row.columns["line"], row.code) for row in rejects] == [
        (3, RejectCode.NOT_AN_OBJECT),
        (4, RejectCode.NOT_JSON),
        (5, RejectCode.NOT_UTF_8),
    ]


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_a_file_in_utf_16_is_refused(tmp_path, name):
    (tmp_path / name).write_text('{"text": "One"}\n', encoding="utf-16")
    with pytest.raises(InputError, match="UTF-16: save"):
        read_metadata(tmp_path / name)
