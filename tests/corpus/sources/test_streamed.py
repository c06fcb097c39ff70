"""A streamed table has the file of the requested row on disk, and no other."""

from pathlib import Path

import pytest
from datasets import ClassLabel

from higgs_recipes.corpus.sources import streamed
from higgs_recipes.corpus.sources.hub_dataset import HubFiles
from higgs_recipes.corpus.sources.streamed import StreamedTable
from higgs_recipes.errors import InputError
from tests.corpus.test_streaming import NAMES, shard


@pytest.fixture
def fetched(monkeypatch) -> list[str]:
    """The downloaded files, in order."""
    names: list[str] = []

    def fetch(repo: str, *, local_dir: Path, allow_patterns: list[str], **options: str) -> None:
        (name,) = allow_patterns
        names.append(name)
        local_dir.mkdir()
        (local_dir / name).write_bytes(shard(NAMES.index(name)))

    monkeypatch.setattr(streamed, "fetch", fetch)
    return names


def table(folder: Path, **where: str) -> StreamedTable:
    files = HubFiles("user/name", "main", dict.fromkeys(NAMES, "content"), None)
    return StreamedTable(files, folder / "streaming", where=where)


def test_one_file_is_on_disk_at_a_time(tmp_path, fetched):
    rows = table(tmp_path)
    rows.set_counts([3] * len(NAMES))
    rows.use_columns(["name"])
    assert [rows[index]["name"] for index in (0, 1, 4, 11)] == ["row 0", "row 1", "row 4", "row 11"]
    assert fetched == [NAMES[0], NAMES[1], NAMES[3]]
    assert [path.name for path in (tmp_path / "streaming").iterdir()] == [NAMES[3]]
    assert rows[11].keys() == {"name"} and len(rows) == 12
    rows.close()
    assert not (tmp_path / "streaming").exists()


def test_where_applies_to_every_file(tmp_path, fetched):
    rows = table(tmp_path, use="yes")
    assert [len(rows.open_file(index)) for index in range(4)] == [3, 3, 2, 3]
    assert isinstance(rows.features["who"], ClassLabel)


def test_a_failed_download_is_an_error_and_not_a_reject(tmp_path, monkeypatch):
    from higgs_recipes.configs.corpus import EncodeConfig
    from higgs_recipes.corpus.sources.source import Source
    from higgs_recipes.corpus.validation import check_place

    def fetch(*args, **options):
        raise InputError("user/name could not be fetched")

    monkeypatch.setattr(streamed, "fetch", fetch)
    rows = table(tmp_path)
    rows.set_counts([3] * len(NAMES))
    source = Source("user/name:train", rows, {"text": ("text",)}, {}, None, None, {})
    with pytest.raises(InputError, match="could not be fetched"):
        check_place([source], 0, 0, EncodeConfig(sources=["user/name"]))
