"""Text files of a corpus: tables and JSON arrays."""

import json

import pytest

from higgs_recipes.errors import InputError
from higgs_recipes.ingest.formats.lines import array_elements, parse_json, read_table


def test_the_lines_of_a_table_by_key(tmp_path):
    (tmp_path / "table").write_bytes(b"\xef\xbb\xbfa one two\r\n\r\nb\tthree\r\na again\r\nc\r\nd caf\xe9\r\n")
    table, rejects = read_table(tmp_path / "table")
    assert {key: (line["line"], line["value"]) for key, line in table.items()} == {
        "a": (1, "one two"),
        "b": (3, "three"),
    }
    assert [(reject.columns["line"], reject.columns["id"]) for reject in rejects] == [(4, "a"), (5, None), (6, None)]


@pytest.mark.parametrize(
    "text", ['{"a": [1, "two,\\n]", {"b": [3]}, [[]], null], "c": 4}', '[\n1,\n\n{"x": "]"}\n,2]', "[ ]"]
)
def test_the_elements_of_an_array_with_their_lines(text):
    start = text.index("[")
    parsed = json.loads(text)
    assert [element for _, element in array_elements(text, start)] == (
        parsed["a"] if isinstance(parsed, dict) else parsed
    )
    lines = [line for line, _ in array_elements(text, start)]
    assert lines == ([2, 4, 5] if text.startswith("[\n") else [1] * len(lines))


@pytest.mark.parametrize(
    "text, message",
    [
        ('{"a": 1,\n}', "x.json line 2: not JSON: .*; remove a comma after the last item$"),
        ('{"a" 1}', "x.json line 1: not JSON: .*delimiter$"),
        ("[" * 100_000, "x.json: not JSON that can be read: maximum recursion depth"),
        ('{"a": ' + "1" * 5000 + "}", "x.json: not JSON that can be read: Exceeds the limit"),
    ],
)
def test_json_that_cannot_be_read_is_an_error(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        parse_json(text, path=tmp_path / "x.json")
