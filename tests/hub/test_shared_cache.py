"""Several processes that fetch one repository at the same time."""

import errno
import hashlib
import json
from pathlib import Path

import pytest

from higgs_recipes.hub.download import DamagedDownloadError, _checked_blobs


NAME = "tester/voice"


@pytest.fixture
def blobs(tmp_path, monkeypatch) -> Path:
    """The folder of the files of a repository in an empty cache of the Hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--tester--voice" / "blobs"
    folder.mkdir(parents=True)
    return folder


def add(blobs: Path, content: bytes, *, arrived: bytes | None = None) -> Path:
    path = blobs / hashlib.sha256(content).hexdigest()
    path.write_bytes(content if arrived is None else arrived)
    return path


def hashed(monkeypatch) -> list[str]:
    """The files that are compared from here on."""
    names = []

    def has_git_hash(path: Path, expected: str) -> bool:
        names.append(path.name)
        return hashlib.sha256(path.read_bytes()).hexdigest() == expected

    monkeypatch.setattr("higgs_recipes.hub.download.has_git_hash", has_git_hash)
    return names


def test_each_of_two_processes_compares_what_both_have_added(blobs, monkeypatch):
    old, names = add(blobs, b"old"), hashed(monkeypatch)
    with _checked_blobs(NAME, "model"):
        with _checked_blobs(NAME, "model"):
            new = add(blobs, b"new")
        assert names == [new.name]
        with pytest.raises(KeyboardInterrupt), _checked_blobs(NAME, "model"):
            later = add(blobs, b"later")
            raise KeyboardInterrupt
    assert names[1:] == [later.name, *sorted([new.name, later.name])]
    del names[:]
    with _checked_blobs(NAME, "model"):
        pass
    assert names == [] and old.exists()


def test_a_process_that_ends_does_not_hide_what_another_has_not_compared(blobs, monkeypatch):
    killed = _checked_blobs(NAME, "model")
    killed.__enter__()
    damaged = add(blobs, b"weights", arrived=b"w")
    other = _checked_blobs(NAME, "model")
    other.__enter__()
    with pytest.raises(DamagedDownloadError, match=damaged.name), _checked_blobs(NAME, "model"):
        pass
    add(blobs, b"weights", arrived=b"w")  # by the process that is killed now
    with pytest.raises(DamagedDownloadError, match=damaged.name):
        other.__exit__(None, None, None)
    assert not damaged.exists()


def test_a_file_that_another_process_removed_is_downloaded_again(blobs, monkeypatch):
    def remove_first(path: Path) -> str:
        path.unlink()
        return hashlib.sha256(path.read_bytes()).hexdigest()

    monkeypatch.setattr("higgs_recipes.files.sha256_file", remove_first)
    with pytest.raises(DamagedDownloadError), _checked_blobs(NAME, "model"):
        add(blobs, b"weights")


def test_a_cache_that_cannot_be_written_is_read(blobs, tmp_path, monkeypatch):
    def refuse(*paths: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("os.replace", refuse)
    add(blobs, b"old")
    with _checked_blobs(NAME, "model"):
        pass
    assert not list(tmp_path.rglob("*.json"))


def test_a_record_that_is_removed_while_it_is_read_is_written_again(blobs, tmp_path, monkeypatch):
    with _checked_blobs(NAME, "model"):
        new = add(blobs, b"new")
    (record,) = (tmp_path / ".locks").rglob("*.json")
    assert json.loads(record.read_bytes()) == [new.name]
    read = Path.read_bytes

    def remove_first(path: Path) -> bytes:
        path.unlink()
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", remove_first)
    with _checked_blobs(NAME, "model"):
        pass
    assert record.is_file()
