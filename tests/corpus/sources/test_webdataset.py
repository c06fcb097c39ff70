"""Rows of tar files, valid and broken."""

from pathlib import Path

import pytest

from higgs_recipes.corpus.sources.webdataset import WebDatasetTable
from higgs_recipes.errors import InputError
from higgs_recipes.rejects import RejectCode, RejectedRow
from tests.recipes.test_hub_recipes import tar


def test_tar_rows_are_read_without_unpacking(tmp_path: Path):
    path = tmp_path / "a.tar"
    path.write_bytes(tar({"x/one.wav": b"first", "x/one.json": b'{"text": "One."}', "x/two.wav": b"second"}))
    rows = WebDatasetTable([path, path])
    assert len(rows) == 4 and rows.column_names == ["__key__", "json.text", "wav"]
    assert rows[0] == {"__key__": "x/one", "json.text": "One.", "wav": {"path": "x/one.wav", "bytes": b"first"}}
    assert rows[3] == {"__key__": "x/two", "wav": {"path": "x/two.wav", "bytes": b"second"}}
    assert rows.column("json.text") == ["One.", None, "One.", None] and rows.select([1])[0] == rows[1]


@pytest.mark.parametrize(
    "files, message",
    [
        ({"a.json": b"{"}, "a.tar: a.json: not JSON: "),
        ({"a.json": b"[]"}, "a.tar: a.json: not a JSON object but a list"),
        ({"a.wav": b"1", "./a.wav": b"2"}, "occurs twice"),
    ],
)
def test_a_broken_row_of_a_tar_file_is_rejected_and_the_others_are_read(tmp_path, files, message):
    (tmp_path / "a.tar").write_bytes(tar(files | {"b.json": b'{"text": "B."}', "b.wav": b"b"}))
    rows = WebDatasetTable([tmp_path / "a.tar"])
    assert len(rows) == 2 and rows.broken() == [0] and rows[1]["json.text"] == "B."
    for broken in (rows, rows.select([0])):
        with pytest.raises(RejectedRow, match=message) as error:
            broken[0]
        assert error.value.reject.code is RejectCode.BROKEN_TAR_ROW


def test_a_truncated_tar_file_is_named(tmp_path):
    (tmp_path / "a.tar").write_bytes(tar({"a.wav": b"1" * 5000})[:2000])
    with pytest.raises(InputError, match="a.tar is not a complete tar file"):
        WebDatasetTable([tmp_path / "a.tar"])
