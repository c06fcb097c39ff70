"""YAML of unknown origin: plain values or an `InputError`, in bounded time and memory."""

import time

import pytest

from higgs_recipes.errors import InputError
from higgs_recipes.safe_yaml import MAX_DEPTH, MAX_NODES, load_yaml


def test_values_and_aliases_are_read():
    assert load_yaml("a: &x {b: [1, 2.5, true, null]}\nc: *x\nd: [*x]") == {
        "a": {"b": [1, 2.5, True, None]},
        "c": {"b": [1, 2.5, True, None]},
        "d": [{"b": [1, 2.5, True, None]}],
    }


@pytest.mark.parametrize("merge", ["[{}]", "{{<<: [{}]}}"])
def test_aliases_that_multiply_are_refused_at_once(merge):
    lines = ["a0: &a0 {x: 1}"]
    for level in range(1, 12):
        lines.append(f"a{level}: &a{level} {merge.format(', '.join([f'*a{level - 1}'] * 9))}")
    start = time.perf_counter()
    with pytest.raises(InputError, match=f"more than {MAX_NODES:,} values once its aliases are expanded"):
        load_yaml("\n".join(lines))
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize(
    "text, message",
    [
        ("a: 1\nb: !!int abc", "line 2: 'abc' is not a valid int"),
        ("!!int ''", "line 1: '' is not a valid int"),
        ("!!bool maybe", "'maybe' is not a valid bool"),
        ("!!float .", "'.' is not a valid float"),
        ("!!timestamp x", "'x' is not a valid timestamp"),
        ("2021-02-30", "'2021-02-30' is not a valid timestamp"),
        ("1" * 5000, "has more than 100 digits"),
        ("0x" + "f" * 5000, "has more than 100 digits"),
        ("&a [*a]", "an alias inside the value that it refers to"),
        ("[" * 60 + "]" * 60, f"nested deeper than {MAX_DEPTH} levels"),
        ("{a: " * 3000 + "1" + "}" * 3000, f"nested deeper than {MAX_DEPTH} levels"),
        ('"\\ud800"', "has a NUL character or half of a surrogate pair"),
        ('{"a\\0": 1}', "has a NUL character or half of a surrogate pair"),
        ('"\\U00110000"', "not YAML: "),
        ("[", "not YAML: while parsing a flow node"),
        ("!!map 5", "not YAML: expected a mapping node"),
        ("!!python/object/apply:os.getcwd []", "not YAML: could not determine a constructor"),
    ],
)
def test_an_invalid_document_is_an_input_error(text, message):
    with pytest.raises(InputError) as error:
        load_yaml(text)
    assert message in str(error.value) and len(str(error.value)) < 500
