import re

import pytest

from higgs_recipes.hub.markdown import cell, code, code_block, escape_marks, facts, inline, literal, table


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


@pytest.mark.parametrize("mark", list("\\`*[]#~"))
def test_marks_are_escaped_once(mark):
    assert escape_marks(f"a{mark}b") == f"a\\{mark}b"
    assert cell(escape_marks(f"{mark} | c")) == f"\\{mark} \\| c"


def test_underscores_are_escaped_where_they_format():
    assert escape_marks("a_b _c_ d__e") == "a_b \\_c\\_ d\\_\\_e"


def test_addresses_are_not_linked():
    assert literal("see https://evil.example or WWW.evil.example") == r"see https\://evil.example or WWW\.evil.example"


def test_facts_show_names_and_values_of_strangers_literally():
    assert facts({"versions": {"<b>": "*a*\n\n# b | c"}}) == "- versions: &lt;b&gt; \\*a\\* \\# b \\| c\n"


@pytest.mark.parametrize("text", ["a", "`", "a ``` b", "``", "a` `b"])
def test_code_has_a_fence_that_it_does_not_contain(text):
    fence = re.match("`+", code(text))[0]
    assert fence not in re.findall("`+", text)
    assert code(text) in (f"{fence}{text}{fence}", f"{fence} {text} {fence}")
    block = code_block(f"{text}\n{text}\n", "yaml")
    first, *lines, last = block.splitlines()
    assert first == f"{last}yaml" and len(last) >= 3 and last not in lines and lines == [text, text]
