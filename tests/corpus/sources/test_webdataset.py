"""Rows of tar files, valid and broken."""

import io
import tarfile
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
    assert len(rows) == 4 and rows.column_names == ["__key__", "json.text", "wav", "audio"]
    first, second = (
        {"path": f"x/{name}.wav", "bytes": content} for name, content in (("one", b"first"), ("two", b"second"))
    )
    assert rows[0] == {"__key__": "x/one", "json.text": "One.", "wav": first, "audio": first}
    assert rows[3] == {"__key__": "x/two", "wav": second, "audio": second}
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


def rows_of(folder: Path, files: dict[str, bytes]) -> dict[str, dict]:
    """Rows by their keys, without the bytes of recordings."""
    (folder / "a.tar").write_bytes(tar(files))
    table = WebDatasetTable([folder / "a.tar"])
    found = {}
    for row in table:
        found[row["__key__"]] = {
            name: value["path"] if isinstance(value, dict) else value
            for name, value in row.items()
            if name != "__key__"
        }
    assert len(found) == len(table)
    return found


def text(words: str) -> bytes:
    return b'{"text": "%s"}' % words.encode()


def test_names_with_dots_are_rows_of_their_own(tmp_path):
    files = {}
    for name in ("talk_0", "talk.1", "talk.2", "v1.2/talk", "a.b.c"):
        files |= {f"{name}.flac": b"f", f"{name}.json": text(name)}
    assert rows_of(tmp_path, files) == {
        name: {"json.text": name, "flac": f"{name}.flac", "audio": f"{name}.flac"}
        for name in ("talk_0", "talk.1", "talk.2", "v1.2/talk", "a.b.c")
    }


def test_members_that_are_not_a_row_belong_to_the_shorter_name(tmp_path):
    files = {
        "a.left.wav": b"l",
        "a.right.wav": b"r",
        "a.json": text("A."),
        "b.wav": b"b",
        "b.txt": b"B.",
        "b.meta.json": b"{}",
    }
    files |= {"c.1.flac": b"c", "c.flac": b"c", "c.txt": b"C."}
    assert rows_of(tmp_path, files) == {
        "a": {"json.text": "A.", "left.wav": "a.left.wav", "right.wav": "a.right.wav", "audio": "a.left.wav"},
        "b": {"txt": "B.", "wav": "b.wav", "meta.json": "b.meta.json", "audio": "b.wav"},
        "c.1": {"flac": "c.1.flac", "audio": "c.1.flac"},
        "c": {"txt": "C.", "flac": "c.flac", "audio": "c.flac"},
    }


def test_text_files_are_texts_and_recordings_of_any_extension_are_audio(tmp_path):
    files = {
        "a.flac": b"f",
        "a.txt": " Eins: Ä.\n".encode(),
        "b.WAV": b"w",
        "b.TXT": b"\xef\xbb\xbfTwo.",
        "C.Mp3": b"m",
    }
    assert rows_of(tmp_path, files) == {
        "a": {"txt": "Eins: Ä.", "flac": "a.flac", "audio": "a.flac"},
        "b": {"txt": "Two.", "wav": "b.WAV", "audio": "b.WAV"},
        "C": {"mp3": "C.Mp3", "audio": "C.Mp3"},
    }


def test_two_recordings_of_one_row_need_a_column(tmp_path):
    (tmp_path / "a.tar").write_bytes(tar({"a.wav": b"w", "a.flac": b"f", "a.txt": b"A."}))
    table = WebDatasetTable([tmp_path / "a.tar"])
    table.use_columns(["txt", "flac"])
    assert table[0]["flac"]["bytes"] == b"f"
    table.use_columns(["txt", "audio"])
    with pytest.raises(
        RejectedRow, match="a.wav and a.flac are recordings of one row; set columns, e.g. {audio: wav}"
    ):
        table[0]


def test_files_that_macos_adds_are_skipped(tmp_path):
    files = {
        "._a.wav": b"x",
        "x/._b.wav": b"x",
        ".DS_Store": b"x",
        "__MACOSX/a.wav": b"x",
        "./a.wav": b"w",
        "a.txt": b"A.",
    }
    assert rows_of(tmp_path, files) == {"a": {"txt": "A.", "wav": "./a.wav", "audio": "./a.wav"}}


def add_member(archive: tarfile.TarFile, name: str, content: bytes = b"", **changes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for attribute, value in changes.items():
        setattr(member, attribute, value)
    archive.addfile(member, io.BytesIO(content))


def test_a_file_with_two_names_is_in_both_rows_and_other_links_are_broken_rows(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        add_member(archive, "a.wav", b"recording")
        add_member(archive, "b.wav", type=tarfile.LNKTYPE, linkname="a.wav")
        add_member(archive, "c.wav", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add_member(archive, "d.wav", type=tarfile.FIFOTYPE)
        add_member(archive, "e.wav", type=tarfile.LNKTYPE, linkname="none.wav")
    table = WebDatasetTable([tmp_path / "a.tar"])
    assert [table[index]["wav"]["bytes"] for index in range(2)] == [b"recording"] * 2
    assert table.broken() == [2, 3, 4]
    with pytest.raises(RejectedRow, match="a.tar: c.wav is not a regular file"):
        table[2]


@pytest.mark.parametrize("size", [b"77777777777\0", b"-1\0", b"\x80" + b"\xff" * 11, b"\xff" * 12, b"notanumber1\0"])
def test_odd_sizes_are_refused_by_name(tmp_path, size):
    content = bytearray(tar({"a.wav": b"1" * 600, "b.wav": b"2" * 600}))
    content[124:136] = size.ljust(12, b"\0")
    content[148:156] = b"        "
    content[148:156] = b"%06o\0 " % sum(content[:512])
    (tmp_path / "a.tar").write_bytes(content)
    try:
        table = WebDatasetTable([tmp_path / "a.tar"])
    except InputError as error:
        assert "a.tar is not a complete tar file" in str(error)
    else:
        assert table.broken()


def test_a_text_that_cannot_be_one_is_a_broken_row(tmp_path):
    files = {
        "a.wav": b"w",
        "a.txt": b"caf\xe9",
        "b.wav": b"w",
        "b.json": b"[" * 5000,
        "c.wav": b"w",
        "c.json": text("C."),
    }
    (tmp_path / "a.tar").write_bytes(tar(files))
    table = WebDatasetTable([tmp_path / "a.tar"])
    assert table.broken() == [0, 1] and table[2]["json.text"] == "C."
    with pytest.raises(RejectedRow, match="a.tar: a.txt: not UTF-8"):
        table[0]
    (tmp_path / "b.tar").write_bytes(tar({"a.wav": b"w", "a.txt": "Xin chào.\r\n".encode("utf-16")}))
    assert WebDatasetTable([tmp_path / "b.tar"])[0]["txt"] == "Xin chào."
