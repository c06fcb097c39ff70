"""The packages are optional: where they are missing, stand-ins show what reaches them."""

import sys
from types import SimpleNamespace

import pytest

from higgs_recipes.configs.inference import GenerateConfig
from higgs_recipes.errors import InputError
from higgs_recipes.generation.text_normalizers import text_normalizer


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    monkeypatch.setattr("higgs_recipes.configs.fields.find_spec", lambda name: name)


def normalizer(name: str, language: str):
    return text_normalizer(GenerateConfig(text="Hi.", text_normalizer=name, text_language=language))


@pytest.fixture
def wetext(monkeypatch):
    """A stand-in for wetext that brackets what it is given, and fails for what has a plus sign."""

    def normalize(text: str) -> str:
        assert "+" not in text and text == " ".join(text.split())
        return f"<{text}>"

    module = SimpleNamespace(Normalizer=lambda lang, operator: SimpleNamespace(normalize=normalize))
    monkeypatch.setitem(sys.modules, "wetext", module)


@pytest.fixture
def num2words(monkeypatch):
    """A stand-in for num2words that brackets numbers."""
    module = SimpleNamespace(CONVERTER_CLASSES={"de": None, "en": None}, num2words=lambda number, lang: f"<{number}>")
    monkeypatch.setitem(sys.modules, "num2words", module)


def test_without_a_normalizer_a_text_is_unchanged():
    assert normalizer("none", "tlh")("5 \u00a0 [x]", place="text 0") == "5 \u00a0 [x]"


def test_only_text_between_tags_with_something_to_write_out_is_normalized(wetext):
    text = "[SPEAKER0]  It is  5\u2028[laugh] now.\n[SPEAKER1] See a@b.org <SE>[Laughter]</SE> 7"
    expected = "[SPEAKER0]  <It is 5>\u2028[laugh] now.\n[SPEAKER1] <See a@b.org> <SE>[Laughter]</SE> <7>"
    assert normalizer("wetext", "en-US")(text, place="text 0") == expected


def test_what_a_package_cannot_read_is_named(wetext):
    with pytest.raises(InputError, match=r"text 3: wetext cannot normalize 'Call \+1.*': write its numbers as words"):
        normalizer("wetext", "zh")("Call +1 555", place="text 3")


@pytest.mark.parametrize(
    "text, expected",
    [
        ("3 und 1.234,5 oder 12 345", "<3> und <1234.5> oder <12> <345>"),
        ("1\u202f234.567", "<1234567>"),
        ("0176 und 1234567890123", "<0> <1> <7> <6> und <1> <2> <3> <4> <5> <6> <7> <8> <9> <0> <1> <2> <3>"),
        ("am 12.05.2024 um 12:30, v1.2.3, A4, 5-6", "am 12.05.2024 um 12:30, v1.2.3, A4, 5-6"),
        ("Es sind 7.", "Es sind <7>."),
    ],
)
def test_numbers_are_written_out_and_nothing_else(num2words, text, expected):
    assert normalizer("num2words", "de")(text, place="text 0") == expected


@pytest.mark.parametrize(
    "language, expected",
    [
        ("en", "<3.141>, <0.125>, <1234>, <1234.5> and 1.234.567"),
        ("de", "<3141>, 0.125, <1.234>, 1,234.5 and <1234567>"),
    ],
)
def test_separators_are_those_of_the_language(num2words, language, expected):
    text = "3.141, 0.125, 1,234, 1,234.5 and 1.234.567"
    assert normalizer("num2words", language)(text, place="text 0") == expected


def test_other_languages_are_refused(wetext, num2words):
    with pytest.raises(InputError, match="text_normalizer: wetext supports en, zh, ja, not de: use num2words"):
        normalizer("wetext", "de")
    with pytest.raises(InputError, match="text_normalizer: num2words supports de, en, not zh"):
        normalizer("num2words", "zh")
    with pytest.raises(InputError, match="language '\\?{3}' is not a language code"):
        normalizer("wetext", "???")


def test_wetext_itself():
    pytest.importorskip("wetext")
    spoken = normalizer("wetext", "en")("[SPEAKER0] On 2024-05-12 I paid $12.50.", place="text 0")
    assert spoken == "[SPEAKER0] On the twelfth of may twenty twenty four I paid twelve point five dollars."
    assert (
        normalizer("wetext", "zh")("\u51711234\u4e2a", place="text 0")
        == "\u5171\u4e00\u5343\u4e8c\u767e\u4e09\u5341\u56db\u4e2a"
    )


def test_num2words_itself():
    pytest.importorskip("num2words")
    assert normalizer("num2words", "fr")("3,5 ou 21", place="text 0") == "trois virgule cinq ou vingt et un"
