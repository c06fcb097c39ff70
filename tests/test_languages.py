"""Texts under the rules of their language, with results worked out by hand."""

import sys
import unicodedata

import pytest

from higgs_recipes.errors import InputError
from higgs_recipes.languages import language_code, normalize_characters, normalize_words


@pytest.mark.parametrize(
    "name, code",
    [
        ("en", "en"),
        ("EN-us", "en"),
        ("pt_BR", "pt"),
        (" de ", "de"),
        ("zh-CN", "zh"),
        ("zh-Hant-TW", "zh"),
        ("cmn", "zh"),
        ("cmn-Hans-CN", "zh"),
        ("Mandarin", "zh"),
        ("zh-yue", "yue"),
        ("Cantonese", "yue"),
        ("jpn", "ja"),
        ("Vietnamese", "vi"),
        ("swg", "swg"),
    ],
)
def test_a_language_is_known_by_code_locale_and_english_name(name, code):
    assert language_code(name) == code


@pytest.mark.parametrize("name", ["", "Deutsch", "english (US)", "e", "12", "中文"])
def test_another_name_is_refused(name):
    with pytest.raises(InputError, match="is not a language code; use one of ISO 639, such as en, zh or yue"):
        language_code(name)


@pytest.mark.parametrize(
    "language, text, expected",
    [
        # Punctuation, symbols, hyphens, and apostrophes inside and around words.
        ("de", "„Wie geht’s?“ – 'Gut', so E-Mail & Co.", "wie geht's gut so e mail co"),
        ("fr", "« Aujourd’hui ? L'été… »", "aujourd'hui l'été"),
        ("es", "¿Qué? ¡No—nunca! 100 %", "qué no nunca 100"),
        ("ca", "col·lecció", "collecció"),
        ("hy", "Ինչպե՞ս ես։", "ինչպես ես"),
        ("he", "שָׁלוֹם, צה״ל", "שלום צהל"),
        # Case.
        ("de", "STRASSE Straße", "strasse strasse"),
        ("el", "ΟΔΟΣ οδός", "οδοσ οδόσ"),
        ("tr", "Isı İSTANBUL", "ısı istanbul"),
        ("az", "I\u0307ki", "iki"),
        ("en", "İstanbul", "istanbul"),
        # Full width, presentation forms and ligatures.
        ("de", "Ｈａｌｌｏ　１２", "hallo 12"),
        ("en", "ﬁne", "fine"),
        ("ar", "ﻻ", "لا"),
        # Numbers: the digits of every script; separators of thousands are dropped, the decimal one is a point.
        ("hi", "१२ और 3", "12 और 3"),
        ("ar", "١٬٠٠٠ و ٣٫٥", "1000 و 3.5"),
        ("de", "1.000.000 und 2,5. Dann 14:30", "1000000 und 2.5 dann 14 30"),
        ("fr", "1\u202f000 et 12\u00a0500", "1000 et 12500"),
        # Tags, but not what is spoken in brackets.
        ("de", "<SE>[Laughter]</SE>Ja<SE_e>[Music]</SE_e> [SPEAKER12] nein (doch) [noise] <laughter>", "ja nein doch"),
        ("fr", "il [Musique étrange] dit <3 a < b > c", "il dit 3 a b c"),
        # What is not seen: zero-width and soft characters, variation selectors, emoji.
        ("de", "Wort\u200b\u00adteil\ufeff ❤\ufe0f 👍🏽 1\ufe0f\u20e3 \u200e!", "wortteil 1"),
        ("hi", "क्\u200dया", "क्या"),
        ("fa", "می\u200cخواهم كتاب‌هاي", "میخواهم کتابهای"),
        # What is optional in writing.
        ("ar", "كَتَبَ الْوَلَدُ مـــرحبا هٰذا", "كتب الولد مرحبا هذا"),
        ("ar", "أ إ آ ى ة", "أ إ آ ى ة"),
        ("ru", "Всё за́мок, мой Ёж", "все замок мой еж"),
        ("uk", "за́мок її", "замок її"),
        ("be", "ёсць", "ёсць"),
        ("fr", "Cœur, Lætitia", "coeur laetitia"),
        ("da", "æble", "æble"),
        ("ro", "şi ţară", "și țară"),
        ("vi", "Hòa, thúy, khỏe, quý; hoàn, của", "hoà thuý khoẻ quý hoàn của"),
        # Combining marks without a precomposed letter stay on their word.
        ("yo", "ẹ̀kọ́", "ẹ̀kọ́"),
        ("ta", "தமிழ் மொழி", "தமிழ் மொழி"),
    ],
)
def test_words(language, text, expected):
    expected = unicodedata.normalize("NFC", expected)
    assert normalize_words(text, language) == expected
    assert normalize_words(unicodedata.normalize("NFD", text), language) == expected
    assert normalize_words(expected, language) == expected


@pytest.mark.parametrize(
    "language, text, expected",
    [
        ("zh", "你好，世界！ A's ＡＢ", "你好世界asab"),
        ("zh", "<红楼梦> [重要] 《三体》 [laugh]", "红楼梦重要3体"),
        ("ja", "ｶﾞﾗｽ・ﾊﾟﾝ〜 ー々", "ガラスパンー々"),
        ("th", "น้ํา น้ำ เเม่ ๒๓ สวัสดี ๆ", "น้ำน้ำแม่23สวัสดีๆ"),
        ("lo", "ນ້ຳ ນໍ້າ", None),
        ("ko", "할 수 있다. ㅋㅋ", "할수있다ㅋㅋ"),
        ("km", "សួស្តី\u200bពិភពលោក ២៣។", "សួស្តីពិភពលោក23"),
        ("my", "မင်္ဂလာပါ။ ၂၃", "မင်္ဂလာပါ23"),
        ("th", "3.5", "3.5"),
    ],
)
def test_characters(language, text, expected):
    if expected is None:
        # The two spellings of the vowel am are one.
        first, second = text.split()
        assert normalize_characters(first, language) == normalize_characters(second, language) == "ນ້ຳ"
        return
    assert normalize_characters(text, language) == expected
    assert normalize_characters(unicodedata.normalize("NFD", text), language) == expected
    assert normalize_characters(expected, language) == expected


@pytest.mark.parametrize(
    "numeral, digits",
    [
        ("二十三", "23"),
        ("十", "10"),
        ("十五", "15"),
        ("一百零五", "105"),
        ("一百一十", "110"),
        ("三百五", "350"),
        ("两百", "200"),
        ("兩千", "2000"),
        ("一千零二十", "1020"),
        ("三万五千", "35000"),
        ("一万二", "12000"),
        ("23万", "230000"),
        ("3萬5000", "35000"),
        ("1億2000万", "120000000"),
        ("一亿二千三百四十五万六千七百八十九", "123456789"),
        ("二零二三", "2023"),
        ("二〇二三", "2023"),
        ("三四", "34"),
        ("三点五", "3点5"),
        ("3.5", "3点5"),
        ("20%", "百分之20"),
        ("百分之二十", "百分之20"),
        ("99.5％", "百分之99点5"),
        # No numbers: parts of words keep their units, and malformed ones too.
        ("千万", "千万"),
        ("万一", "万1"),
        ("一起", "1起"),
        ("一五一十", "151十"),
        ("十百", "十百"),
        ("一万万", "1万万"),
    ],
)
def test_chinese_numbers_are_digits(numeral, digits):
    assert normalize_characters(numeral, "zh") == digits
    assert normalize_characters(numeral, "yue") == digits
    assert normalize_characters(numeral, "ko") == normalize_characters(numeral, "th")  # no numbers there


def test_japanese_has_numbers_without_a_one_before_them():
    assert normalize_characters("百円、千五百円、一万円、20%", "ja") == "100円1500円10000円20パーセント"


def test_a_long_run_of_numerals_is_not_parsed():
    assert normalize_characters("一" * 5000 + "万", "zh") == "1" * 5000 + "万"
    assert normalize_words("9" * 5000, "de") == "9" * 5000


@pytest.mark.slow
@pytest.mark.parametrize("language", ["de", "ja"])
def test_of_all_characters_only_letters_digits_and_their_marks_stay(language):
    every = " ".join(map(chr, range(sys.maxunicode + 1)))
    kept = normalize_words(every, language)
    assert {unicodedata.category(char)[0] for char in kept.replace(" ", "")} == set("LMN")
    assert normalize_words(kept, language) == kept
