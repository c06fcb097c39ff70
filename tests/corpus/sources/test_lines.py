import pytest

from higgs_recipes.corpus.sources.lines import json_object, parse_lines
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
    (tmp_path / "wide").write_text("one\n", encoding="utf-16")
    with pytest.raises(InputError, match="UTF-16: save .*wide as UTF-8"):
        list(parse_lines(tmp_path / "wide", lambda line: {}))


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
