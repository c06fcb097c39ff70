"""Text normalizers, applied to reference and hypothesis before word errors are counted."""

import string
from collections.abc import Callable
from typing import Literal

from transformers.models.whisper.english_normalizer import BasicTextNormalizer, EnglishTextNormalizer


# `zhon.hanzi.punctuation` of zhon 2.1.1, as code points because most characters look alike.
_HANZI_PUNCTUATION = (
    "\uff02\uff03\uff04\uff05\uff06\uff07\uff08\uff09\uff0a\uff0b\uff0c\uff0d\uff0f\uff1a\uff1b\uff1c\uff1d\uff1e"
    "\uff20\uff3b\uff3c\uff3d\uff3e\uff3f\uff40\uff5b\uff5c\uff5d\uff5e\uff5f\uff60\uff62\uff63\uff64\u3000\u3001"
    "\u3003\u3008\u3009\u300a\u300b\u300c\u300d\u300e\u300f\u3010\u3011\u3014\u3015\u3016\u3017\u3018\u3019\u301a"
    "\u301b\u301c\u301d\u301e\u301f\u3030\u303e\u303f\u2013\u2014\u2018\u2019\u201b\u201c\u201d\u201e\u201f\u2026"
    "\u2027\ufe4f\ufe51\ufe54\u00b7\uff0e\uff01\uff1f\uff61\u3002"
)
_SEED_TTS_DELETED = str.maketrans("", "", (_HANZI_PUNCTUATION + string.punctuation).replace("'", ""))


def _seed_tts(text: str) -> str:
    # One pass over double spaces, as in the benchmark: three spaces become two. jiwer removes the rest.
    return text.translate(_SEED_TTS_DELETED).replace("  ", " ")


def _seed_tts_en(text: str) -> str:
    return _seed_tts(text).lower()


def _seed_tts_zh(text: str) -> str:
    return " ".join(_seed_tts(text))


# Whisper's English normalizer also maps British to American spelling, with a table of Whisper's tokenizer that no
# package required here includes. Without it, "colour" for "color" is an error; the name says so.
NORMALIZERS: dict[str, Callable[[str], str]] = {
    "none": lambda text: text,
    "basic": BasicTextNormalizer(),
    "whisper_en_no_spelling": EnglishTextNormalizer({}),
    "seed_tts_en": _seed_tts_en,
    "seed_tts_zh": _seed_tts_zh,
}
Normalizer = Literal["none", "basic", "whisper_en_no_spelling", "seed_tts_en", "seed_tts_zh"]
