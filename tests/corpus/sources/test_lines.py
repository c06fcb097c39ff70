import pytest

from higgs_recipes.corpus.sources.lines import json_object, merged_file, parse_lines, raw_lines
from higgs_recipes.errors import InputError
from higgs_recipes.rejects import Reject, RejectCode, RejectedRow


def test_an_invalid_line_rejects_only_that_line(tmp_path):
    path = tmp_path / "list"
    path.write_bytes(b"\xef\xbb\xbfone\r\n\r\ncaf\xe9\nbad\nlast")

    def parse(line):
        if line == "bad":
            raise RejectedRow(RejectCode.WRONG_CELLS, detail="bad line")
        return {"text": line}

    rows = list(parse_lines(path, parse))
    assert rows[0] == {"file": str(path), "line": 1, "text": "one"} and rows[3]["text"] == "last"
    assert [(row.code, row.columns) for row in rows[1:3]] == [
        (RejectCode.NOT_UTF_8, {"file": str(path), "line": 3}),
        (RejectCode.WRONG_CELLS, {"file": str(path), "line": 4}),
    ]


def test_other_errors_are_raised(tmp_path):
    (tmp_path / "list").write_text("one\n")

    def parse(line):
        raise InputError("the disk is full")

    with pytest.raises(InputError, match="the disk is full"):
        list(parse_lines(tmp_path / "list", parse))


def test_an_unreadable_file_is_named(tmp_path):
    with pytest.raises(InputError, match="cannot be read: No such file or directory: .*none"):
        list(parse_lines(tmp_path / "none", lambda line: {}))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_file_with_a_byte_order_mark_is_read_in_its_encoding(tmp_path, encoding, end):
    texts = ["one", "你好", "", "emoji 🎉"]
    (tmp_path / "list").write_bytes(end.join(texts).encode(encoding))
    rows = list(parse_lines(tmp_path / "list", lambda line: {"text": line}))
    assert [(row["line"], row["text"]) for row in rows] == [(1, "one"), (2, "你好"), (4, "emoji 🎉")]


def test_both_byte_orders_of_utf_16_are_read(tmp_path):
    for name, mark in (("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff")):
        (tmp_path / "list").write_bytes(mark + "hé\nlo".encode(name))
        assert list(raw_lines(tmp_path / "list")) == ["hé\n".encode(), b"lo"]


@pytest.mark.parametrize(
    "content, message",
    [
        ("a.wav|x|en|Hello.\n".encode("utf-16-le"), "has no byte order mark; convert it: iconv -f UTF-16LE -t UTF-8"),
        ("a.wav|x|zh|你好。\n".encode("utf-16-be"), "has no byte order mark; convert it: iconv -f UTF-16BE -t UTF-8"),
        (b"\xff\xfea\0\0\xd8a\0", "is damaged at byte"),
        (b"\xff\xfea\0b", "is damaged at byte"),
    ],
)
def test_utf_16_that_cannot_be_read_is_an_error_with_the_file(tmp_path, content, message):
    (tmp_path / "list").write_bytes(content)
    with pytest.raises(RejectedRow, match=f"UTF-16: .*list {message}") as error:
        list(raw_lines(tmp_path / "list"))
    assert error.value.reject.code is RejectCode.UTF_16


def test_bytes_of_other_encodings_are_rejects_with_the_command_that_converts_them(tmp_path):
    (tmp_path / "list").write_bytes("a.wav|x|zh|你好。\n".encode("gbk"))
    (row,) = parse_lines(tmp_path / "list", lambda line: {"text": line})
    assert row.code is RejectCode.NOT_UTF_8 and "convert the file by `iconv -f GBK -t UTF-8 OLD > NEW`" in row.reason


@pytest.mark.parametrize(
    "cell, merged",
    [
        ("Come here\nb.wav,and sit down\nc.wav,he said", "b.wav"),
        ("Come here\nand sit down,clips/b 1.FLAC", "clips/b 1.FLAC"),
        ('Come here\n"b.mp3"|ann|Hello', "b.mp3"),
        ("Come here\nand sit down, he said.\nThen he left.", None),
        ("b.wav,Come here", None),
        ("See b.wav\nand c.wav for it", None),
        ("One line.\n", None),
        ("Hello,a.wav\nWorld", "a.wav"),
        ("Hello,a.wav\r\nWorld", "a.wav"),
        ("a.wav,Hello\nWorld", "a.wav"),
        ("Hello\nann,b.wav,World", "b.wav"),
        ("Hello\n\tb.wav\t", "b.wav"),
        ("Hello\nb.wav", "b.wav"),
        ("He plays a.wav\nand leaves", None),
    ],
)
def test_file_names_of_other_rows_in_a_cell(cell, merged):
    assert merged_file(cell) == merged


@pytest.mark.parametrize(
    "content, code, reason",
    [
        ("{'a': 1}", RejectCode.NOT_JSON, "not JSON: Expecting property name"),
        (b"\xff", RejectCode.NOT_JSON, "not JSON: "),
        ("[1]", RejectCode.NOT_AN_OBJECT, "not a JSON object but a list"),
    ],
)
def test_invalid_json_is_rejected(content, code, reason):
    with pytest.raises(RejectedRow) as error:
        json_object(content)
    assert error.value.reject.code is code and str(error.value).startswith(reason)
    assert json_object('{"a": 1}') == {"a": 1} and isinstance(error.value.reject, Reject)


@pytest.mark.parametrize(
    "content, reason",
    [
        ("[" * 100_000, "nested deeper than 100 levels"),
        ('{"a": ' * 200 + "1" + "}" * 200, "nested deeper than 100 levels"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "two values for 'c'; keep one"),
        ('{"a": ' + "9" * 5000 + "}", "Exceeds the limit"),
    ],
    ids=["brackets", "objects", "two values", "digits"],
)
def test_hostile_json_is_rejected(content, reason):
    with pytest.raises(RejectedRow) as error:
        json_object(content)
    assert error.value.reject.code is RejectCode.NOT_JSON and error.value.reject.reason.startswith(
        f"not JSON: {reason}"
    )
