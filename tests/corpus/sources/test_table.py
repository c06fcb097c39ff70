"""The interface of tables: the same rows in all storage formats."""

import io
from pathlib import Path

import pytest
from datasets import Dataset

from higgs_recipes.corpus.sources import streamed
from higgs_recipes.corpus.sources.hub_dataset import DatasetTable, HubFiles
from higgs_recipes.corpus.sources.metadata import MetadataTable
from higgs_recipes.corpus.sources.parquet import ParquetTable
from higgs_recipes.corpus.sources.streamed import StreamedTable
from higgs_recipes.corpus.sources.table import ConcatTable, Table, matching_rows, select_matching
from higgs_recipes.corpus.sources.webdataset import WebDatasetTable
from higgs_recipes.rejects import RejectedRow
from tests.recipes.test_hub_recipes import tar


ROWS = [{"text": text, "mic": mic} for text, mic in (("One.", "1"), ("Two.", "2"), ("Three.", "1"))]


def parquet_bytes() -> bytes:
    content = io.BytesIO()
    Dataset.from_list(ROWS).to_parquet(content, batch_size=2)
    return content.getvalue()


def dataset_table(folder: Path, monkeypatch) -> Table:
    return DatasetTable(Dataset.from_list(ROWS))


def metadata_table(folder: Path, monkeypatch) -> Table:
    return MetadataTable(ROWS)


def parquet_table(folder: Path, monkeypatch) -> Table:
    (folder / "a.parquet").write_bytes(parquet_bytes())
    return ParquetTable(folder / "a.parquet")


def streamed_table(folder: Path, monkeypatch) -> Table:
    def fetch(repo, *, local_dir, **options):
        local_dir.mkdir()
        (local_dir / "a.parquet").write_bytes(parquet_bytes())

    monkeypatch.setattr(streamed, "fetch", fetch)
    table = StreamedTable(HubFiles("user/name", "main", {"a.parquet": "x"}, None), folder / "streaming", where={})
    table.set_counts([3])
    table.open_file(0)
    return table


def webdataset_table(folder: Path, monkeypatch) -> Table:
    files = {f"{index}.text": row["text"].encode() for index, row in enumerate(ROWS)}
    (folder / "a.tar").write_bytes(tar(files))
    return WebDatasetTable([folder / "a.tar"])


def concat_table(folder: Path, monkeypatch) -> Table:
    return ConcatTable([MetadataTable(ROWS[:1]), MetadataTable([], column_names=["text"]), MetadataTable(ROWS[1:])])


TABLES = [dataset_table, metadata_table, parquet_table, streamed_table, concat_table]


@pytest.fixture(params=TABLES, ids=lambda build: build.__name__)
def table(request, tmp_path, monkeypatch) -> Table:
    return request.param(tmp_path, monkeypatch)


def test_rows_and_columns_are_read(table):
    assert list(table.column_names) == ["text", "mic"] and len(table) == 3
    assert [dict(table[index]) for index in range(3)] == ROWS
    assert list(table.column("mic")) == ["1", "2", "1"]
    assert list(table.column("none")) == [None] * 3


def test_selected_rows_are_a_table_with_the_same_columns(table):
    chosen = table.select([0, 2])
    assert len(chosen) == 2 and dict(chosen[1]) == ROWS[2] and list(chosen.column("text")) == ["One.", "Three."]
    assert list(chosen.column_names) == ["text", "mic"] and list(table.select([]).column_names) == ["text", "mic"]
    assert len(table) == 3


def test_needed_columns_are_read(table):
    table.use_columns(["text"])
    assert [table[index]["text"] for index in range(3)] == ["One.", "Two.", "Three."]
    assert table.select([1])[0]["text"] == "Two."


def test_valid_tables_have_no_broken_rows(table):
    assert list(table.broken()) == []
    kept = matching_rows({"mic": table.column("mic")}, {"mic": "1"})
    assert [row["text"] for row in select_matching(table, kept)] == ["One.", "Three."]


def test_typed_storage_has_features(request, table):
    typed = request.node.callspec.id in (
        "dataset_table",
        "streamed_table",
    )  # those of a parquet file are set by its reader
    assert set(table.features) == ({"text", "mic"} if typed else set())


def test_close_removes_the_file_of_a_streamed_table(request, table, tmp_path):
    is_streamed = "streamed" in request.node.callspec.id
    assert table.streamed is is_streamed and (tmp_path / "streaming").exists() is is_streamed
    table.close()
    assert not (tmp_path / "streaming").exists()
    table.close()  # a second call does nothing
    assert dict(table[0]) == ROWS[0]  # a streamed file is downloaded again


def test_a_tar_table_has_the_same_interface(tmp_path, monkeypatch):
    table = webdataset_table(tmp_path, monkeypatch)
    assert table.column_names == ["__key__", "text"] and len(table) == 3 and not table.streamed
    assert table.column("__key__") == ["0", "1", "2"] and table.column("none") == [None] * 3
    assert table.select([2])[0]["text"]["bytes"] == b"Three." and table.features == {}
    table.use_columns(["text"])
    table.close()
    assert table[0]["text"]["bytes"] == b"One."


def test_broken_rows_are_always_selected(tmp_path):
    files = {"a.json": b'{"mic": "1"}', "b.json": b"{", "c.json": b'{"mic": "2"}'}
    (tmp_path / "a.tar").write_bytes(tar(files))
    table = WebDatasetTable([tmp_path / "a.tar"])
    kept = matching_rows({"json.mic": table.column("json.mic")}, {"json.mic": "2"})
    chosen = select_matching(table, kept)
    assert kept == [2] and len(chosen) == 2 and chosen[1]["json.mic"] == "2"
    with pytest.raises(RejectedRow):
        chosen[0]


def test_tables_in_a_row_keep_their_folders_and_broken_rows(tmp_path):
    (tmp_path / "a.tar").write_bytes(tar({"a.json": b"{", "b.json": b'{"mic": "2"}'}))
    table = ConcatTable([MetadataTable(ROWS, folder=tmp_path), WebDatasetTable([tmp_path / "a.tar"])])
    assert table.column_names == ["text", "mic", "__key__", "json.mic"] and len(table) == 5
    assert [table.recordings_folder(index) for index in (0, 2, 3)] == [tmp_path, tmp_path, None]
    assert table.broken() == [3] and table.column("json.mic") == [None] * 4 + ["2"]
    chosen = table.select([0, 2, 4])
    assert [row.get("text", row.get("json.mic")) for row in chosen] == ["One.", "Three.", "2"] and len(chosen) == 3
    assert chosen.select([1, 2]).recordings_folder(0) == tmp_path
    for index in (-1, 5):
        with pytest.raises(IndexError):
            table[index]
