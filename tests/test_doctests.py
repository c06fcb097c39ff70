"""Every worked example in a docstring is true."""

import doctest
import importlib

import pytest

from tests.helpers.paths import ROOT


PACKAGE = ROOT / "higgs_recipes"
WITH_EXAMPLES = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


def test_the_pure_modules_have_examples():
    assert {"text", "chatml", "delay", "audio.word_errors", "collator"} <= set(WITH_EXAMPLES)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_are_true(name):
    module = importlib.import_module(f"higgs_recipes.{name}")
    results = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert results.attempted and not results.failed
