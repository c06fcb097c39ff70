"""HTML pages: values are escaped, and a template gets all its variables."""

import re

import jinja2
import pytest

from higgs_recipes.pages import render_page
from tests.helpers.paths import ROOT


TEMPLATES = ROOT / "higgs_recipes" / "templates"


def test_values_are_escaped():
    page = render_page("head", title="<script>", style="")
    assert "&lt;script&gt;" in page and "<script>" not in page


def test_values_go_through_finalize_before_they_are_escaped():
    assert "&lt;A&gt;" in render_page("head", finalize=lambda value: str(value).upper(), title="<a>", style="")


def test_missing_variable_is_an_error():
    with pytest.raises(jinja2.UndefinedError):
        render_page("head")


def test_templates_load_nothing_from_the_network():
    for template in TEMPLATES.glob("*.jinja"):
        assert not re.search(r"(src|href)=\"https?:", template.read_text(encoding="utf-8")), template.name
