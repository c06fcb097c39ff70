from higgs_recipes.corpus.sources.parquet import ParquetTable
from tests.corpus.test_streaming import shard, wav


def test_a_parquet_file_is_read_by_row_groups(tmp_path):
    (tmp_path / "a.parquet").write_bytes(shard(1))  # two groups: rows 3 and 4, row 5
    rows = ParquetTable(tmp_path / "a.parquet")
    assert len(rows) == 3 and [row["name"] for row in rows] == ["row 3", "row 4", "row 5"]
    assert rows[2]["audio"] == {"bytes": wav(5), "path": "5.wav"}
    rows.use_columns(["name", "who"])
    assert rows[0] == {"name": "row 3", "who": 1}
    chosen = rows.select([0, 2])
    assert len(chosen) == 2 and chosen[1]["name"] == "row 5" and chosen.column("name") == ["row 3", "row 5"]
    assert rows.column("none") == [None] * 3 and len(rows) == 3
