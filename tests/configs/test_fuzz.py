"""Damaged recipes at random: each is a config or an `InputError` of limited length, in limited time."""

import random
import re
from dataclasses import fields

import pytest
import yaml

from higgs_recipes.configs.parser import parse_recipe
from higgs_recipes.errors import InputError
from tests.helpers.configs import REQUIRED
from tests.recipes.test_recipes import CONFIGS


TRIALS = pytest.mark.parametrize("num_trials", [12, pytest.param(600, marks=pytest.mark.slow)])
VALUES = [
    *("!!int abc", "!!int ''", "!!int 0x", "!!float abc", "!!float .", "!!bool maybe", "!!null a", "!!timestamp x"),
    *(
        "!!timestamp 2021-99-99",
        "2021-02-30",
        "2021-01-01t21:59:43-99:99",
        "!!binary ///",
        "!!binary é",
        "!!set {a, b}",
    ),
    *(
        "!!omap [a: 1]",
        "!!map 5",
        "!!set 5",
        "!!seq {a: 1}",
        "!!str [a]",
        "!!python/name:os.system",
        "!other b",
        "! c",
    ),
    *("&a [*a]", "&a {b: *a}", "*nope", "{<<: *a}", "{<<: {a: 1}}", "? [a]\n: 1", "1" * 5000, "0x" + "f" * 5000),
    *(".inf", "-.inf", ".nan", "1e999", "[.nan]", "1e308", "-1", "0", "5", "0.5", "190:20:30", "1_000", "08", "null"),
    *('"\\ud800"', '"\\U00110000"', '"\\0"', "''", "' '", "x" * 300, "yes", "[]", "{}", "[null]", "[1, a]", "{1: 2}"),
    *(
        "{null: 1}",
        "{true: 1}",
        "{path: a}",
        "[{path: 5}]",
        "[{path: a, speaker: null}]",
        "|\n  x",
        "@a",
        "`a",
        "%",
        "=",
    ),
    *("[" * 2000 + "]" * 2000, "{a: " * 2000 + "1" + "}" * 2000, "~nobody/x", "/", "..", "\t", "2001-12-14"),
]
CHARACTERS = [*"\n:-{}[]&*!|>'\"%@`#,? \t\0\x07é\u2028", *VALUES]


def damaged(text: str, names: list[str], draw: random.Random) -> str:
    """The recipe with fields replaced, and characters and lines inserted, repeated or removed."""
    for _ in range(draw.choice((1, 1, 2, 3))):
        lines, kind = text.split("\n"), draw.random()
        index, start = draw.randrange(len(lines)), draw.randrange(len(text) + 1)
        if kind < 0.5:
            name = draw.choice(names)
            text = re.sub(rf"(?m)^{name}:.*(\n[ -].*)*", "", text) + f"\n{name}: {draw.choice(VALUES)}\n"
        elif kind < 0.65:
            lines[index] = f"{lines[index].partition(':')[0]}: {draw.choice(VALUES)}"
            text = "\n".join(lines)
        elif kind < 0.85:
            text = text[:start] + draw.choice(CHARACTERS) + text[start + draw.choice((0, 0, 1, 5)) :]
        elif kind < 0.95:
            text = "\n".join([*lines[:index], *lines[index:][:1] * 2, *lines[index + 1 :]])
        else:
            text += f"\n{draw.choice(VALUES)}: {draw.choice(VALUES)}\n"
    return text


@TRIALS
@pytest.mark.parametrize("script", CONFIGS)
def test_damaged_recipes(tmp_path, script, num_trials):
    draw, config_class = random.Random(script), CONFIGS[script]
    names = [field.name for field in fields(config_class) if field.init]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(REQUIRED[config_class]), encoding="utf-8")
    whole = recipe.read_text("utf-8")
    assert isinstance(parse_recipe(config_class, ["--config", str(recipe)]), config_class)
    for _ in range(num_trials):
        recipe.write_text(damaged(whole, names, draw), encoding="utf-8", newline="")
        flags = [f"--{draw.choice(names)}", draw.choice(VALUES)] if draw.random() < 0.15 else []
        try:
            parse_recipe(config_class, ["--config", str(recipe), *flags])
        except InputError as error:
            assert str(error) and len(str(error)) < 10_000 + 2 * len("".join(flags))
