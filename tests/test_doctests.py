"""Every worked example in a docstring is true."""

import doctest
import importlib
from pathlib import Path

import pytest


PACKAGE = Path(__file__).parent.parent / "higgs_recipes"
WITH_EXAMPLES = sorted(path.stem for path in PACKAGE.glob("*.py") if ">>> " in path.read_text(encoding="utf-8"))


def test_the_pure_modules_have_examples():
    assert {"text", "chatml", "delay", "metrics", "collator"} <= set(WITH_EXAMPLES)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_are_true(name):
    module = importlib.import_module(f"higgs_recipes.{name}")
    results = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert results.attempted and not results.failed
