import pytest

from higgs_recipes.hub.markdown import cell, escape_marks, facts, inline, table


def test_a_table_has_one_line_per_row_and_formats_numbers():
    assert table(["row", "value"], [["a", 0.123456], ["b", 7], ["c|d", "x\ny"]]) == (
        "| row | value |\n| --- | --- |\n| a | 0.1235 |\n| b | 7 |\n| c\\|d | x y |\n"
    )


@pytest.mark.parametrize(
    "value, text",
    [
        (None, "not recorded"),
        (["a", 0.5, None], "a, 0.5, not recorded"),
        ({"torch": "2.11", "seeds": (0, 1)}, "torch 2.11, seeds 0, 1"),
        (1e-4, "0.0001"),
        (123456.0, "1.235e+05"),
        (True, "True"),
    ],
)
def test_values_on_one_line(value, text):
    assert inline(value) == text
    assert facts({"field": value}) == f"- field: {text}\n"


def test_text_cannot_add_cells_lines_or_html():
    assert cell("a | b\n\n<script>&amp;") == "a \\| b &lt;script&gt;&amp;amp;"


@pytest.mark.parametrize("mark", list("\\`*_[]#~"))
def test_marks_are_escaped_once(mark):
    assert escape_marks(f"a{mark}b") == f"a\\{mark}b"
    assert cell(escape_marks(f"{mark} | c")) == f"\\{mark} \\| c"
