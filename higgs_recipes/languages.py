"""How a language is written: its code, the unit that errors are counted in, and one spelling for what sounds alike.

Texts are compared as Unicode text: composed (NFC), full-width forms folded, in one case, with the combining marks of
their script, without punctuation, symbols, event tags and zero-width characters. Digits of every script are ASCII
digits. What is optional in writing is dropped or spelled one way:

- Arabic, Persian, Urdu: vowel signs (tashkil, U+064B to U+065F and U+0670), Quranic signs and tatweel are dropped.
  Hamza, the forms of alef, alef maqsura and ta marbuta are letters: another one is an error.
- Hebrew: vowel points and cantillation marks are dropped.
- Russian: е for ё. Russian, Ukrainian, Belarusian: stress marks are dropped. French: oe and ae for their ligatures.
- Vietnamese: the tone mark of oa, oe and uy stands on the second vowel (hoà for hòa).
- Turkish, Azerbaijani: I is the capital of ı. German: ss for ß, as Unicode folds case.
- Chinese, Cantonese, Japanese: numbers are digits (二十三 is 23), 百分之 and パーセント are read for %.

Elsewhere a number in words and the same in digits differ: write texts as the ASR model writes them.
"""

import re
import unicodedata
from typing import Literal

from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

from higgs_recipes.errors import InputError


Unit = Literal["word", "character"]

# Written without spaces between words; and Korean, whose spaces writers and ASR models set differently, so that its
# error rate is counted in syllables.
CHARACTER_LANGUAGES = frozenset("zh yue ja th lo km my ko".split())

_CODES = {  # of ISO 639-2 and 639-3 to the code that the rules here and Whisper know
    **dict.fromkeys(("zho", "chi", "cmn"), "zh"),
    **{"zh-yue": "yue", "jpn": "ja", "tha": "th", "khm": "km", "mya": "my", "bur": "my", "kor": "ko", "eng": "en"},
    **{"vie": "vi", "hin": "hi", "ara": "ar", "arb": "ar", "deu": "de", "ger": "de", "fra": "fr", "fre": "fr"},
    **{"spa": "es", "rus": "ru", "ukr": "uk", "bel": "be", "tur": "tr", "aze": "az", "fas": "fa", "per": "fa"},
    **{"urd": "ur", "ron": "ro", "rum": "ro"},
}

# Compatibility forms that are another width or shape of the same letters: Kangxi radicals, ligatures and Arabic
# presentation forms, full and half width. NFKC of the whole text would also split the Thai sara am.
_SHAPES = re.compile("[\u2f00-\u2fdf\ufb00-\ufdff\ufe70-\ufefc\uff00-\uffef]+")
# <SE>[Laughter]</SE>, [laugh], [SPEAKER0], <laughter>. Not what `normalize_transcript` makes of the spoken 《红楼梦》
# and 【重要】: names in <> that do not look like tags, and East Asian text in [].
_TAG = re.compile("</?(?:SE\\w*|[a-z][a-z0-9_]*)/?>|\\[[^\\[\\]\u2e80-\U0003ffff]*\\]")
_APOSTROPHES = dict.fromkeys(map(ord, "\u2019\u2018\u02bc\u02bb\u2032\u05f3\u00b4`"), "'")
_OPTIONAL = re.compile(
    "["
    "\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed"  # Arabic
    "\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u05f4"  # Hebrew, with gershayim, which stands inside words
    "\u00b7\u055b\u055c\u055e"  # inside words: of Catalan l·l, and Armenian
    "\u034f\u17b4\u17b5\u180b-\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef"  # invisible marks, as variation selectors
    "]"
)
_STRESS = {"\u0300": None, "\u0301": None}
_SPELLINGS = {
    language: str.maketrans(spellings)
    for language, spellings in {
        "fr": {"œ": "oe", "æ": "ae"},
        "ru": {"ё": "е"} | _STRESS,
        "uk": _STRESS,
        "be": _STRESS,
        "ro": {"ş": "ș", "ţ": "ț"},
        "fa": {"ي": "ی", "ك": "ک"},
        "ur": {"ي": "ی", "ك": "ک"},
    }.items()
}
_TONES = "\u0300\u0301\u0309\u0303\u0323"
_VIETNAMESE = {
    unicodedata.normalize("NFC", first + tone + second): unicodedata.normalize("NFC", first + second + tone)
    for first, second in ("oa", "oe", "uy")
    for tone in _TONES
}
_VIETNAMESE_RHYME = re.compile(f"(?:{'|'.join(_VIETNAMESE)})(?!\\w)")

_DIGITS = {
    digit: str(value) for value, digits in enumerate("〇零 一 二两兩 三 四 五 六 七 八 九".split()) for digit in digits
}
_UNITS = {"亿": 10**8, "億": 10**8, "万": 10**4, "萬": 10**4, "千": 1000, "百": 100, "十": 10}  # the largest first
MAX_NUMERAL = 30  # characters of a numeral with units; a longer run of such characters is not one number
_NUMERALS = {  # 百 and 千 alone are numbers in Japanese, and parts of words in Chinese
    language: re.compile(f"[0-9{''.join(_DIGITS)}{first}][0-9{''.join(_DIGITS)}{''.join(_UNITS)}]*")
    for language, first in {"zh": "十", "yue": "十", "ja": "十百千"}.items()
}
_PERCENT = {"zh": r"百分之\1", "yue": r"百分之\1", "ja": r"\1パーセント"}


def language_code(language: str) -> str:
    """The code of a language as Whisper has it, from a code of ISO 639, a locale or an English name.

    >>> [language_code(name) for name in ("en-US", "zh_TW", "cmn", "Cantonese", "vi")]
    ['en', 'zh', 'zh', 'yue', 'vi']

    Raises:
        InputError: neither a code nor a name.
    """
    name = language.strip().lower().replace("_", "-")
    code = _CODES.get(name) or TO_LANGUAGE_CODE.get(name) or name.split("-")[0]
    code = _CODES.get(code, code)
    if not re.fullmatch("[a-z]{2,3}", code):
        raise InputError(f"language {language!r} is not a language code; use one of ISO 639, such as en, zh or yue")
    return code


def normalize_words(text: str, language: str) -> str:
    """The words of a text in a language (a code), with one space between them; "" where it has none.

    An apostrophe inside a word stays, a hyphen parts two words.

    >>> normalize_words("L’e-mail… coûte 1.000 <SE>[Laughter]</SE> francs !", "fr")
    "l'e mail coûte 1000 francs"
    """
    return " ".join(_folded(text, language).split())


def normalize_characters(text: str, language: str) -> str:
    """The letters, marks and digits of a text in a language (a code), without spaces; "" where it has none.

    A combining mark is a character, so that one wrong vowel or tone sign is one error.

    >>> normalize_characters("今天，气温是２３度。", "zh") == normalize_characters("今天气温是二十三度", "zh")
    True
    """
    return "".join(_folded(text, language).split()).replace("'", "")


def _folded(text: str, language: str) -> str:
    text = unicodedata.normalize("NFC", text)
    text = _SHAPES.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text)
    text = _TAG.sub(" ", unicodedata.normalize("NFC", text))
    if language in ("tr", "az"):
        text = text.replace("İ", "i").replace("I", "ı")
    text = unicodedata.normalize("NFC", text.casefold().replace("i\u0307", "i")).translate(_APOSTROPHES)
    text = _OPTIONAL.sub("", re.sub(r"\d", lambda match: str(int(match[0])), text))
    text = re.sub(r"(?<=\d)[.,'\u066b\u066c\u00a0\u202f](?=\d{3}(?!\d))", "", text)  # 1,000 and 1.000 are 1000
    text = re.sub(r"(?<=\d)[,\u066b](?=\d)", ".", text)  # 3,5 is 3.5
    if language in _PERCENT:
        text = re.sub(r"(\d+(?:\.\d+)?)\s*[%\u066a]", _PERCENT[language], text)
    text = _letters(text).translate(_SPELLINGS.get(language, {}))
    if language == "vi":
        return _VIETNAMESE_RHYME.sub(lambda match: _VIETNAMESE[match[0]], text)
    if language in ("th", "lo"):  # as typed otherwise: nikhahit and aa for am, e twice for ae
        text = re.sub("\u0e4d([\u0e48-\u0e4b]?)\u0e32", "\\1\u0e33", text).replace("\u0e40\u0e40", "\u0e41")
        return re.sub("\u0ecd([\u0ec8-\u0ecb]?)\u0eb2", "\\1\u0eb3", text).replace("\u0ec0\u0ec0", "\u0ec1")
    if language in _NUMERALS:
        text = re.sub(r"(?<=\d)\.(?=\d)", "点", text)
        return _NUMERALS[language].sub(lambda match: _in_digits(match[0]), text)
    return text


def _letters(text: str) -> str:
    """Letters, digits and the marks on them, an apostrophe or decimal point inside a word; spaces for the rest."""
    kept: list[str] = []
    for char in text:
        category = unicodedata.category(char)
        if category[0] in "LN" or char in "'.":
            kept.append(char)
        elif category in ("Mn", "Mc"):
            if kept and kept[-1] not in " '.":
                kept.append(char)
        elif category != "Cf":  # zero width
            kept.append(" ")
    return re.sub(r"(?<!\w)'|'(?!\w)|(?<!\d)\.|\.(?!\d)", " ", "".join(kept))


def _in_digits(numeral: str) -> str:
    """A Chinese numeral in digits: by value where it has units, else digit by digit.

    A part of a word that only looks like one keeps its units, so that both texts still agree on it.
    """
    has_units = any(unit in numeral for unit in _UNITS)
    value = _value(numeral) if has_units and len(numeral) <= MAX_NUMERAL else None
    return "".join(_DIGITS.get(char, char) for char in numeral) if value is None else str(value)


def _value(numeral: str) -> int | None:
    """What a numeral counts; None where it is not one number."""
    unit = next((unit for unit in _UNITS if unit in numeral), None)
    if unit is None:
        is_one_digit_or_ascii = len(numeral) == 1 or numeral.isascii()
        return int("".join(_DIGITS.get(char, char) for char in numeral)) if is_one_digit_or_ascii else None
    before, _, after = numeral.partition(unit)
    size = _UNITS[unit]
    if any(_UNITS.get(char, 0) >= size for char in after) or (size < 10**4 and any(char in _UNITS for char in before)):
        return None
    many = _value(before) if before else 1
    rest = after.lstrip("〇零")
    few = _value(rest) if rest else 0
    if many is None or few is None:
        return None
    if len(after) == 1 and rest:  # 三百五 is 350
        few *= size // 10
    return many * size + few
