"""Metadata files: an invalid line is rejected, the others are read."""

import pytest

from higgs_recipes.corpus.sources.metadata import metadata_rows, open_metadata
from higgs_recipes.errors import InputError
from higgs_recipes.rejects import Reject, RejectCode, RejectedRow


def test_cells_are_read_verbatim(tmp_path):
    path = tmp_path / "metadata.csv"
    path.write_bytes(b'\xef\xbb\xbffile_name,text\r\na.wav,"One,\r\n\r\n ""two"""\r\nb.wav,\r\n\r\nc.wav,NA\r\n')
    rows = [
        {"file_name": "a.wav", "text": 'One,\r\n\r\n "two"'},
        {"file_name": "b.wav", "text": ""},
        {"file_name": "c.wav", "text": "NA"},
    ]
    assert list(open_metadata(path, renamed={})) == rows
    assert [number for number, _ in metadata_rows(path)] == [4, 5, 7]  # the last line of each row


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_all_line_endings_are_read(tmp_path, end):
    (tmp_path / "metadata.csv").write_bytes(end.join([b"file_name,text", b"a.wav,One", b"b.wav,Two", b""]))
    assert [(number, row["text"]) for number, row in metadata_rows(tmp_path / "metadata.csv")] == [
        (2, "One"),
        (3, "Two"),
    ]


def test_each_invalid_csv_line_is_rejected(tmp_path):
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
    table = open_metadata(path, renamed={"file_name": "audio"})
    assert len(table) == 6 and len(table.broken()) == 4 and table.column("audio").count(None) == 4
    with pytest.raises(RejectedRow, match="not one cell for each of file_name, .*; line 3 of metadata.csv"):
        table[1]


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
def test_a_file_in_utf_16_is_read_by_its_mark(tmp_path, name):
    content = 'file_name,text\na.wav,"Ünï, ""你好"""\n' if name == "metadata.csv" else ""
    content = content or '{"file_name": "a.wav", "text": "Ünï, \\"你好\\""}\n'
    (tmp_path / name).write_text(content, encoding="utf-16")
    assert open_metadata(tmp_path / name, renamed={})[0] == {"file_name": "a.wav", "text": 'Ünï, "你好"'}
    (tmp_path / name).write_bytes(content.encode("utf-16-le"))
    with pytest.raises(InputError, match="UTF-16: .* has no byte order mark; convert it: iconv"):
        open_metadata(tmp_path / name, renamed={})


def rows_and_lines(path) -> tuple[list[dict], list[int]]:
    rows = list(metadata_rows(path))
    rejects = [row.columns["line"] for row in rows if isinstance(row, Reject)]
    return [row[1] for row in rows if not isinstance(row, Reject)], rejects


def test_a_quotation_that_contains_the_rows_after_it_rejects_all_of_them(tmp_path):
    path = tmp_path / "metadata.csv"
    rows = ['a.wav,"Come over here', "b.wav,and sit down by the fire", 'c.wav,said the old man"', "d.wav,He nodded."]
    path.write_text("\n".join(["file_name,text", *rows]))
    assert rows_and_lines(path) == ([{"file_name": "d.wav", "text": "He nodded."}], [4, 3, 2])
    path.write_text('text,file_name\n"Come over,a.FLAC\nand sit,b.flac\n')
    assert rows_and_lines(path) == ([], [3, 2])
    reject = next(metadata_rows(path))
    assert "a quotation opens in line 2 and ends in line 3; close it or remove it" in reject.reason
    path.write_text('text,file_name\n"Two lines,\nsaid she.",a.wav\nOne.,b.wav\n')
    assert [row["text"] for row in rows_and_lines(path)[0]] == ["Two lines,\nsaid she.", "One."]
    path.write_text('file_name,text\na.wav,"Two lines,\nof .wav files and others."\nb.wav,One.\n')
    assert [row["file_name"] for row in rows_and_lines(path)[0]] == ["a.wav", "b.wav"]


def test_two_columns_of_one_name_are_refused(tmp_path):
    path = tmp_path / "metadata.csv"
    path.write_text("file_name,text,text\na.wav,One.,Two.\n")
    with pytest.raises(InputError, match="two columns are named 'text'; rename or remove one"):
        open_metadata(path, renamed={})
    path.write_text("file_name,text,,\na.wav,One.,,\n")
    assert list(open_metadata(path, renamed={})) == [{"file_name": "a.wav", "text": "One."}]
    path.write_text("file_name,audio,text\na.wav,b.wav,One.\n")
    with pytest.raises(InputError, match="the columns file_name and audio both are a row's audio; keep one"):
        open_metadata(path, renamed={"file_name": "audio"})
    path = tmp_path / "metadata.jsonl"
    path.write_text('{"text": "One.", "text": "Two."}\n{"text": "Three."}')
    assert rows_and_lines(path) == ([{"text": "Three."}], [1])


@pytest.mark.parametrize("separator", ["\t", ";", "|"])
def test_another_separator_is_named(tmp_path, separator):
    (tmp_path / "metadata.csv").write_text(f"file_name{separator}text\na.wav{separator}One.\n")
    with pytest.raises(InputError, match="the cells are separated by .*; separate them by commas"):
        open_metadata(tmp_path / "metadata.csv", renamed={})


def test_rows_are_relative_to_the_folder_of_their_file(tmp_path):
    (tmp_path / "metadata.csv").write_text("file_name,text\na.wav,One.\nb.wav,Two.\n")
    table = open_metadata(tmp_path / "metadata.csv", renamed={"file_name": "audio"})
    assert table.recordings_folder(0) == table.select([1]).recordings_folder(0) == tmp_path
    assert table.select([1]).column("audio") == ["b.wav"]
