"""List files of ms-swift, GPT-SoVITS and F5-TTS: each rejected line is named by its number."""

import shutil

import pytest

from higgs_recipes.errors import InputError
from tests.helpers.import_folder import TEXTS, imported, write_tones
from tests.helpers.ms_swift import swift_line


LINES = {  # format to (name of the list, head, a line of path and text)
    "ms_swift": ("list.jsonl", [], lambda audio, text: swift_line(audio, f"<think>{text}")),
    "gpt_sovits": ("list.list", [], lambda audio, text: f"{audio}|anna|zh|{text}"),
    "f5": ("metadata.csv", ["audio_file|text"], lambda audio, text: f"{audio}|{text}"),
}


@pytest.mark.parametrize("format", LINES)
def test_texts_are_unchanged_by_windows_line_ends_and_a_byte_order_mark(tmp_path, format):
    name, head, line = LINES[format]
    write_tones(tmp_path / "in", *[f"wavs/{index}.wav" for index in range(len(TEXTS))])
    lines = head + [line(f"wavs/{index}.wav", text) for index, text in enumerate(TEXTS)]
    (tmp_path / "in" / name).write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    rows, rejects = imported(tmp_path / "out", format=format, sources=[str(tmp_path / "in" / name)])
    assert [row["text"] for row in rows] == TEXTS and not rejects
    assert rows[1]["id"] == "wavs_1" and rows[1]["file_name"] == "audio/wavs/1.wav" and rows[1]["duration"] == 0.4
    assert {row["speaker"] for row in rows} == ({"anna"} if format == "gpt_sovits" else {None})  # never from a path


@pytest.mark.parametrize("format", LINES)
def test_broken_lines_are_rejected_with_file_and_line(tmp_path, format):
    name, head, line = LINES[format]
    folder = write_tones(tmp_path / "in", "good.wav", "other.wav", "../outside.wav")
    (folder / "empty.wav").write_bytes(b"")
    (folder / "noise.wav").write_bytes(b"no audio at all")
    shutil.copy(folder / "good.wav", folder / "copy.wav")
    outside = str(tmp_path / "outside.wav")
    lines = [
        line("good.wav", "A good row.").encode(),
        b"",
        line("missing.wav", "Hello.").encode(),
        line("empty.wav", "Hello.").encode(),
        line("noise.wav", "Hello.").encode(),
        line("../outside.wav", "Hello.").encode(),
        line(outside, "Hello.").encode(),
        line("good.wav", "Hello.").encode(),
        line("copy.wav", "A good row.").encode(),
        line("other.wav", " ").encode(),
        line("other.wav", "caf\u00e9").encode("latin-1"),
        line("C:/clips/a.wav", "Hello.").encode(),
        b"{'torn': ",
        line(str(folder / "other.wav"), "Inside, and named from the root.").encode(),
    ]
    (folder / name).write_bytes(b"\n".join([*(each.encode() for each in head), *lines]))
    rows, rejects = imported(tmp_path / "out", format=format, sources=[str(folder / name)])
    assert [row["file_name"] for row in rows] == ["audio/good.wav", "audio/other.wav"]
    wanted = {
        3: "recording: cannot be read: No such file",
        4: "recording: zero bytes",
        5: "recording: not audio",
        6: "recording leaves its folder",
        7: "recording leaves its folder",
        8: "duplicate id: ",
        9: "same recording: ",
        10: "empty transcript",
        11: "not UTF-8 (byte 0xe9)",
        12: "recording leaves its folder",
        13: {"ms_swift": "not JSON", "gpt_sovits": "1 cells", "f5": "one cell"}[format],
    }
    shift = len(head)
    assert rejects.keys() == {(name, number + shift) for number in wanted}
    for number, reason in wanted.items():
        assert rejects[name, number + shift].startswith(reason), (number, rejects[name, number + shift])
    assert f"line {1 + shift} has good too" in rejects[name, 8 + shift]


@pytest.mark.parametrize("format", LINES)
def test_utf_16_is_read_by_its_mark(tmp_path, format):
    name, head, line = LINES[format]
    folder = write_tones(tmp_path / "in", "a.wav", "b.wav")
    content = "\r\n".join([*head, line("a.wav", "Xin chào."), line("b.wav", "你好。")])
    (folder / name).write_bytes(content.encode("utf-16"))
    rows, rejects = imported(tmp_path / "out", format=format, sources=[str(folder / name)])
    assert [row["text"] for row in rows] == ["Xin chào.", "你好。"] and not rejects
    (folder / name).write_bytes(content.encode("utf-16-le"))
    with pytest.raises(InputError, match="UTF-16: .* has no byte order mark; convert it: iconv -f UTF-16LE"):
        imported(tmp_path / "out", format=format, sources=[str(folder / name)])


@pytest.mark.parametrize("format", LINES)
def test_carriage_returns_alone_end_lines(tmp_path, format):
    name, head, line = LINES[format]
    folder = write_tones(tmp_path / "in", "a.wav", "b.wav")
    (folder / name).write_bytes("\r".join([*head, line("a.wav", "One."), line("b.wav", "Two.")]).encode())
    rows, rejects = imported(tmp_path / "out", format=format, sources=[str(folder / name)])
    assert [row["text"] for row in rows] == ["One.", "Two."] and not rejects


@pytest.mark.parametrize("format", LINES)
def test_blank_lines_before_the_first_row_are_skipped(tmp_path, format):
    name, head, line = LINES[format]
    folder = write_tones(tmp_path / "in", "a.wav")
    (folder / name).write_text("\n \r\n" + "\n".join([*head, line("a.wav", "Hello.")]))
    rows, rejects = imported(tmp_path / "out", format=format, sources=[str(folder / name)])
    assert [row["text"] for row in rows] == ["Hello."] and not rejects
