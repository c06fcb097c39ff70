"""Write out numbers, dates, units and URLs before a text is spoken, with a package for the language.

The model was trained on transcripts as people write them, so it reads most numbers; what it makes of a date, a version
or a URL is not certain.
"""

import re
from collections.abc import Callable
from typing import Protocol

from higgs_recipes.configs.inference import GenerateConfig
from higgs_recipes.errors import InputError, import_module
from higgs_recipes.languages import language_code


WETEXT_LANGUAGES = ("en", "zh", "ja")
MAX_DIGITS = 12  # num2words: longer numbers, and those that begin with 0, are read digit by digit
# Not for a normalizer: speaker tags, event tags and other tags in brackets, and line breaks.
_TAGS = re.compile(r"(<SE\w*>\[\w+\]</SE\w*>|\[[^\[\]\n]*\]|\u3010[^\u3010\u3011\n]*\u3011|\n)")
# Languages of num2words that write 1,234.5; the others write 1.234,5 or 1 234,5.
_DECIMAL_POINT = frozenset("en zh ja ko th he hi bn te kn ta am".split())


class Normalize(Protocol):
    """text -> text; `place` says where it is from, for messages."""

    def __call__(self, text: str, *, place: str) -> str: ...


def text_normalizer(config: GenerateConfig) -> Normalize:
    """The function that the recipe's `text_normalizer` applies to each text, before the text is split into chunks.

    Raises:
        InputError: the package is not installed, or does not support `text_language`.
    """
    if config.text_normalizer == "none":
        return lambda text, *, place: text
    language = language_code(config.text_language)
    normalize = _wetext(language) if config.text_normalizer == "wetext" else _num2words(language)

    def normalize_between_tags(text: str, *, place: str) -> str:
        pieces = _TAGS.split(text)
        try:
            pieces[::2] = [_with_spaces(piece, normalize) for piece in pieces[::2]]
        except InputError as error:
            raise InputError(f"{place}: {error}") from error
        return "".join(pieces)

    return normalize_between_tags


def _with_spaces(text: str, normalize: Callable[[str], str]) -> str:
    """Normalize a text, and keep the spaces at its ends."""
    if not any(map(str.isdigit, text)) and "://" not in text and "@" not in text:
        return text
    start, end = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
    return start + normalize(text.strip()) + end


def _wetext(language: str) -> Callable[[str], str]:
    if language not in WETEXT_LANGUAGES:
        raise InputError(
            f"text_normalizer: wetext supports {', '.join(WETEXT_LANGUAGES)}, not {language}: use num2words"
        )
    wetext = import_module("wetext", needed_by="text_normalizer: wetext", install="pip install 'wetext>=0.1.8,<0.2'")
    normalizer = wetext.Normalizer(lang=language, operator="tn")

    def normalize(text: str) -> str:
        try:
            return normalizer.normalize(" ".join(text.split()))  # its parser fails at two spaces
        except (AssertionError, ValueError, IndexError, KeyError) as error:  # of its parser
            raise InputError(f"wetext cannot normalize {text[:80]!r}: write its numbers as words") from error

    return normalize


def _num2words(language: str) -> Callable[[str], str]:
    num2words = import_module(
        "num2words", needed_by="text_normalizer: num2words", install="pip install 'num2words>=0.5.14,<0.6'"
    )
    languages = num2words.CONVERTER_CLASSES
    if language not in languages:
        raise InputError(f"text_normalizer: num2words supports {', '.join(sorted(languages))}, not {language}")

    number = _number_pattern(language)

    def spell(match: re.Match) -> str:
        digits = re.sub(r"\D", "", match["whole"])
        if (len(digits) > 1 and digits.startswith("0")) or len(digits) > MAX_DIGITS:
            spelled = " ".join(num2words.num2words(int(digit), lang=language) for digit in digits)
            return spelled + match[0][len(match["whole"]) :]
        value = int(digits) if match["decimals"] is None else float(f"{digits}.{match['decimals']}")
        return num2words.num2words(value, lang=language)

    return lambda text: number.sub(spell, text)


def _number_pattern(language: str) -> re.Pattern:
    """An integer with its groups of three digits, and decimals. Not what is part of a date, time, version or word.

    >>> [_number_pattern(language).search("1.234,5 or 3.14") is not None for language in ("de", "en")]
    [True, True]
    >>> _number_pattern("en").search("3.141")["decimals"], _number_pattern("de").search("3.141")["decimals"]
    ('141', None)
    """
    group, decimal = (",", r"\.") if language in _DECIMAL_POINT else (r".\u00a0\u202f", ",")
    whole = rf"(?P<whole>[1-9]\d{{0,2}}(?:[{group}]\d{{3}})+|\d+)"
    return re.compile(rf"(?<![\w.,:/+-]){whole}(?:{decimal}(?P<decimals>\d+))?(?![\w:/-]|[.,]\d)")
