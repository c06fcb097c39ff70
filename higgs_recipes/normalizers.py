"""Text normalizers, applied to a reference and a transcript before they are compared; `auto` chooses by language."""

import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from transformers.models.whisper.english_normalizer import BasicTextNormalizer, EnglishTextNormalizer

from higgs_recipes.errors import InputError, import_module
from higgs_recipes.languages import (
    CHARACTER_LANGUAGES,
    Unit,
    language_code,
    normalize_characters,
    normalize_words,
)


Normalizer = Literal[
    "auto",
    "none",
    "basic",
    "whisper_en",
    "whisper_en_no_spelling",
    "words",
    "characters",
    "characters_simplified",
    "seed_tts_en",
    "seed_tts_zh",
    "seed_tts_zh_simplified",
]

# `zhon.hanzi.punctuation` of zhon 2.1.1 as code points, most of which look alike in print.
_HANZI_PUNCTUATION = (
    "\uff02\uff03\uff04\uff05\uff06\uff07\uff08\uff09\uff0a\uff0b\uff0c\uff0d\uff0f\uff1a\uff1b\uff1c\uff1d\uff1e"
    "\uff20\uff3b\uff3c\uff3d\uff3e\uff3f\uff40\uff5b\uff5c\uff5d\uff5e\uff5f\uff60\uff62\uff63\uff64\u3000\u3001"
    "\u3003\u3008\u3009\u300a\u300b\u300c\u300d\u300e\u300f\u3010\u3011\u3014\u3015\u3016\u3017\u3018\u3019\u301a"
    "\u301b\u301c\u301d\u301e\u301f\u3030\u303e\u303f\u2013\u2014\u2018\u2019\u201b\u201c\u201d\u201e\u201f\u2026"
    "\u2027\ufe4f\ufe51\ufe54\u00b7\uff0e\uff01\uff1f\uff61\u3002"
)
_OR_TRADITIONAL = ", or set normalizer: characters, where traditional characters count as errors"
_SEED_TTS_DELETED = str.maketrans("", "", (_HANZI_PUNCTUATION + string.punctuation).replace("'", ""))


@dataclass(frozen=True)
class TextRule:
    """How the texts of one language are compared.

    Attributes:
        name: the normalizer; of `auto` the one that was chosen.
        unit: what errors are counted in.
        language: code of the language.
        normalize: text -> normalized text.
    """

    name: str
    unit: Unit
    language: str
    normalize: Callable[[str], str]

    def units(self, text: str) -> list[str]:
        """The words or characters of a text that are compared; empty where a reference cannot be scored.

        >>> choose_normalizer("auto", "de").units("Äpfel, …  Öl!"), choose_normalizer("auto", "th").units("...")
        (['äpfel', 'öl'], [])
        """
        words = self.normalize(text).split()
        return words if self.unit == "word" else list("".join(words))


def choose_normalizer(name: str, language: str, *, spelling: Mapping[str, str] | None = None) -> TextRule:
    """The normalizer and the unit for texts in a language.

    `auto` is, by language:

    | language | normalizer | unit |
    |---|---|---|
    | en | whisper_en, or whisper_en_no_spelling without a spelling table | word |
    | zh, yue | characters_simplified | character |
    | ja, ko, th, lo, km, my | characters | character |
    | every other | words | word |

    Args:
        name: one of `Normalizer`. basic is transformers' BasicTextNormalizer, which loses the vowel signs of Thai and
            Hindi; words and characters are those of `languages`; characters_simplified converts traditional characters
            to simplified ones first, one by one (zhconv's zh-hans), since they are read alike. seed_tts_en and
            seed_tts_zh are Seed-TTS-eval's: traditional characters, full-width forms, case and numerals count as
            errors. The benchmark converts the output of its ASR model by zhconv's zh-cn, which also replaces regional
            words; seed_tts_zh_simplified does so with both texts, seed_tts_zh with none.
        language: a code of ISO 639, a locale or an English name.
        spelling: British to American spellings, as Whisper's tokenizers bring them (`english_spelling_normalizer`).

    >>> choose_normalizer("auto", "vi").name, choose_normalizer("auto", "ja-JP").unit
    ('words', 'character')

    Raises:
        InputError: no such normalizer or language, whisper_en without spellings, or zhconv is not installed.
    """
    code = language_code(language)
    if name == "auto":
        name = _name_for(code, has_spelling=spelling is not None)
    if name in NORMALIZERS:
        return TextRule(name, "character" if name == "seed_tts_zh" else "word", code, NORMALIZERS[name])
    if name == "words":
        return TextRule(name, "word", code, lambda text: normalize_words(text, code))
    if name == "characters":
        return TextRule(name, "character", code, lambda text: normalize_characters(text, code))
    if name == "characters_simplified":
        convert = _converter(
            "zh-hans", needed_by=f"normalizer {name}, which `auto` is for Chinese,", otherwise=_OR_TRADITIONAL
        )
        return TextRule(name, "character", code, lambda text: normalize_characters(convert(text), code))
    if name == "seed_tts_zh_simplified":
        convert = _converter("zh-cn", needed_by=name, otherwise=_OR_TRADITIONAL)
        return TextRule(name, "character", code, lambda text: _seed_tts_zh(convert(text)))
    if name == "whisper_en" and spelling is not None:
        return TextRule(name, "word", code, _whisper_english(spelling))
    if name == "whisper_en":
        raise InputError(
            "normalizer whisper_en needs a table of spellings, which the ASR model does not bring: use "
            "whisper_en_no_spelling, or an ASR model with normalizer.json, such as OpenAI's checkpoints"
        )
    raise InputError(f"unknown normalizer {name!r}: use one of {', '.join(get_args(Normalizer))}")


def simplified_converter() -> Callable[[str], str]:
    """The conversion to simplified Chinese that Seed-TTS-eval applies to transcripts (zhconv's zh-cn).

    Raises:
        InputError: zhconv is not installed.
    """
    return _converter("zh-cn", needed_by="Seed-TTS-eval in Chinese")


def _name_for(language: str, *, has_spelling: bool) -> str:
    if language == "en":
        return "whisper_en" if has_spelling else "whisper_en_no_spelling"
    if language in ("zh", "yue"):
        return "characters_simplified"
    return "characters" if language in CHARACTER_LANGUAGES else "words"


def _converter(variant: str, *, needed_by: str, otherwise: str = "") -> Callable[[str], str]:
    zhconv = import_module("zhconv", needed_by=needed_by, install=f"pip install zhconv==1.*{otherwise}")
    return lambda text: zhconv.convert(text, variant)


def _whisper_english(spelling: Mapping[str, str]) -> Callable[[str], str]:
    """Whisper's English normalizer with two corrections: a curly apostrophe is one, and an ellipsis is not a word."""
    normalize = EnglishTextNormalizer(spelling)

    def normalize_english(text: str) -> str:
        words = normalize(text.replace("\u2019", "'").replace("\u2026", " ")).split()
        return " ".join(word for word in words if any(map(str.isalnum, word)))

    return normalize_english


def _seed_tts(text: str) -> str:
    # Double spaces to one, once: three become two, as in the benchmark. jiwer drops what is left.
    return text.translate(_SEED_TTS_DELETED).replace("  ", " ")


def _seed_tts_en(text: str) -> str:
    return _seed_tts(text).lower()


def _seed_tts_zh(text: str) -> str:
    return " ".join(_seed_tts(text))


# Those that are the same for every language. Whisper's table of British and American spellings is stored in its
# tokenizers and in no package that is required here.
NORMALIZERS: dict[str, Callable[[str], str]] = {
    "none": lambda text: text,
    "basic": BasicTextNormalizer(),
    "whisper_en_no_spelling": _whisper_english({}),
    "seed_tts_en": _seed_tts_en,
    "seed_tts_zh": _seed_tts_zh,
}
