import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from higgs_recipes.corpus.sources import parquet
from higgs_recipes.corpus.sources.parquet import ParquetTable, check_parquet
from higgs_recipes.errors import InputError
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


LONG = pa.array(["a" * 2**16])


def test_a_repeated_value_in_a_large_file_is_refused(tmp_path, monkeypatch):
    """A file that an incompressible recording makes large is read, too, only if its rows are of a sensible size."""
    monkeypatch.setattr(parquet, "MAX_BYTES", 2**20)
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 2_000, pa.int32()), LONG)
    audio = [random.Random(0).randbytes(2**20), *[b""] * 1_999]
    pq.write_table(pa.table({"text": column, "audio": audio}), tmp_path / "bomb.parquet")
    with pytest.raises(InputError, match="2,000 rows of more than"):
        check_parquet(tmp_path / "bomb.parquet")
    pq.write_table(pa.table({"text": ["One."] * 2_000, "audio": audio}), tmp_path / "corpus.parquet")
    check_parquet(tmp_path / "corpus.parquet")


@pytest.mark.parametrize(
    "column, options, problem",
    [
        (pa.nulls(50_000, pa.string()), {}, "50,000 rows"),
        (LONG.take(pa.array([0] * 700)), {}, "700 rows of more than"),
        (pa.DictionaryArray.from_arrays(pa.array([0] * 700, pa.int32()), LONG), {}, "700 rows of more than"),
        (pa.array([b"\0" * 2**21] * 20), {"use_dictionary": False, "compression": "zstd"}, "20 rows of"),
    ],
    ids=["more rows than bytes", "a repeated value", "a dictionary", "compressed zeros"],
)
def test_a_file_that_would_fill_the_memory_is_refused_before_it_is_read(
    tmp_path, monkeypatch, column, options, problem
):
    monkeypatch.setattr(parquet, "MAX_BYTES", 2**25)
    path = tmp_path / "bomb.parquet"
    pq.write_table(pa.table({"text": column}), path, **options)
    assert path.stat().st_size < 2**19
    with pytest.raises(InputError, match=r"bomb.parquet: a file of [\d,]+ bytes with " + problem):
        check_parquet(path)
    with pytest.raises(InputError, match="is not a corpus"):
        ParquetTable(path)


def test_a_parquet_file_with_two_columns_of_one_name_is_refused(tmp_path):
    table = pa.Table.from_arrays([pa.array(["One."]), pa.array(["Two."])], names=["text", "text"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(InputError, match="two columns are named 'text'; rename or remove one"):
        check_parquet(tmp_path / "a.parquet")


def test_small_tables_of_recordings_are_not_refused(tmp_path):
    (tmp_path / "a.parquet").write_bytes(shard(0))
    check_parquet(tmp_path / "a.parquet")
    pq.write_table(
        pa.table({"text": ["Same text."] * 500, "audio": [f"{i}.wav" for i in range(500)]}), tmp_path / "b.parquet"
    )
    check_parquet(tmp_path / "b.parquet")
