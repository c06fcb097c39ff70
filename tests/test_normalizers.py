"""Which normalizer and unit a language has, and the errors of sentence pairs, counted by hand."""

import sys
import unicodedata
from typing import get_args

import pytest

from higgs_recipes.errors import InputError
from higgs_recipes.normalizers import NORMALIZERS, Normalizer, TextRule, choose_normalizer


SPELLING = {"colour": "color"}
# zhconv is an optional package: what it does is tested on its own below.
CHINESE = {"zh": "characters", "yue": "characters"}


def rule_of(language: str) -> TextRule:
    return choose_normalizer(CHINESE.get(language, "auto"), language, spelling=SPELLING)


def edits(reference: list[str], transcript: list[str]) -> int:
    """The textbook recursion, row by row."""
    row = list(range(len(transcript) + 1))
    for i, expected in enumerate(reference, start=1):
        above, row = row, [i]
        for j, got in enumerate(transcript, start=1):
            row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (expected != got)))
    return row[-1]


# Language, reference, transcript, edits, units of the reference.
PAIRS = [
    ("en", "Hello, world!", "hello world", 0, 2),
    ("en", "Mr. Park won’t pay twenty-five dollars…", "Mister Park will not pay $25.", 0, 6),
    ("en", "The colour, um, of café noir", "the color of cafe noir", 0, 5),
    ("en", "Wait... what?", "wait, what", 0, 2),
    ("en", "The cat sat.", "the cap sat", 1, 3),
    ("zh", "你好，世界！", "你好世界", 0, 4),
    ("zh", "今天，气温是二十三度。", "今天气温是23度", 0, 8),
    ("zh", "二零二三年花了两百元", "2023年花了200元。", 0, 11),
    ("zh", "降了百分之三点五", "降了3.5%", 0, 8),
    ("zh", "ＡＢＣ公司", "abc 公司", 0, 5),
    ("zh", "《红楼梦》很好看。", "红楼梦，很好看", 0, 6),
    ("zh", "<红楼梦>很好看.", "红楼梦，很好看", 0, 6),
    ("zh", "妈妈骑马。", "妈妈骑妈", 1, 4),
    ("yue", "你食咗飯未呀？", "你食咗飯未呀", 0, 6),
    ("yue", "呢個要三十蚊。", "呢個要30蚊", 0, 6),
    ("yue", "佢哋嚟咗。", "佢地嚟咗", 1, 4),
    ("ja", "こんにちは、世界。", "こんにちは世界", 0, 7),
    ("ja", "ガラスを割った！", "ｶﾞﾗｽを 割った", 0, 7),
    ("ja", "百円で三つ買う", "100円で3つ買う", 0, 9),
    ("ja", "かぎがある", "かきがある", 1, 5),
    ("ja", "おばあさん", "おばさん", 1, 5),
    ("ko", "안녕하세요, 여러분!", "안녕하세요 여러분", 0, 8),
    ("ko", "할 수 있다.", "할수있다", 0, 4),
    ("ko", "공부를 했다", "곰부를 했다", 1, 5),
    ("vi", "Xin chào, các bạn!", "xin chào các bạn", 0, 4),
    ("vi", "Hòa bình và thuý", "hoà bình, và thúy", 0, 4),
    ("vi", "ma má mà", "ma má mã", 1, 3),
    ("vi", "Tôi ăn cơm.", "tôi an cơm", 1, 3),
    ("vi", "đi đâu", "di đâu", 1, 2),
    ("th", "สวัสดีครับ", "สวัสดี ครับ", 0, 10),
    ("th", "น้ำ ๒๓ ขวด", "น้ํา23ขวด", 0, 8),
    ("th", "มา", "มี", 1, 2),
    ("th", "ใกล้", "ใกล", 1, 4),
    ("hi", "नमस्ते, दुनिया!", "नमस्ते दुनिया", 0, 2),
    ("hi", "वह २५ रुपये लाया।", "वह 25 रुपये लाया", 0, 4),
    ("hi", "\u0958लम", "\u0915\u093cलम", 0, 1),
    ("hi", "दिन बीता", "दीन बीता", 1, 2),
    ("ar", "مرحبا، كيف حالك؟", "مرحبا كيف حالك", 0, 3),
    ("ar", "كَتَبَ الوَلَدُ ٢٥ كتـــابا", "كتب الولد 25 كتابا", 0, 4),
    ("ar", "قلب كبير", "كلب كبير", 1, 2),
    ("ar", "إلى البيت", "الى البيت", 1, 2),
    ("de", "„Schöne Grüße!“", "schöne grüße", 0, 2),
    ("de", "STRASSE mit 1.000 Häusern", "Straße mit 1000 Häusern", 0, 4),
    ("de", "Er fährt um acht.", "er fährt um, acht", 0, 4),
    ("de", "Er fährt um acht.", "er fährt acht", 1, 4),
    ("de", "Es ist schön.", "es ist schon", 1, 3),
    ("fr", "« Où es-tu ? »", "où es tu", 0, 3),
    ("fr", "L’été, un cœur", "l'été un coeur", 0, 3),
    ("fr", "Où ou pêche", "ou ou pêche", 1, 3),
    ("fr", "la pêche", "la péché", 1, 2),
    ("es", "¿Qué tal, señor?", "qué tal señor", 0, 3),
    ("es", "un año", "un ano", 1, 2),
    ("ru", "Привет, мир!", "привет мир", 0, 2),
    ("ru", "Всё — за́мок", "все замок", 0, 2),
    ("ru", "мой дом", "мои дом", 1, 2),
    ("tr", "IŞIK İzmir’de", "ışık izmir'de", 0, 2),
]


@pytest.mark.parametrize("language, reference, transcript, num_edits, num_units", PAIRS)
def test_errors_are_those_that_are_heard(language, reference, transcript, num_edits, num_units):
    rule = rule_of(language)
    expected, got = rule.units(reference), rule.units(transcript)
    assert (edits(expected, got), len(expected)) == (num_edits, num_units)


@pytest.mark.parametrize("language, text", sorted({(language, reference) for language, reference, *_ in PAIRS}))
def test_decomposed_text_and_event_tags_change_nothing(language, text):
    rule = rule_of(language)
    units = rule.units(text)
    assert rule.units(unicodedata.normalize("NFD", text)) == units
    assert rule.units(f"[SPEAKER0] <SE>[Laughter]</SE> {text} [laugh]<SE_e>[Music]</SE_e>") == units


@pytest.mark.parametrize("language", sorted({language for language, *_ in PAIRS}))
@pytest.mark.parametrize(
    "text", ["", "...", "…", "。。。 ！", "¿—?", "[laugh]", "<SE>[Cough]</SE>.", "\u200b", "'", "🙂"]
)
def test_a_text_without_a_word_has_no_units(language, text):
    assert rule_of(language).units(text) == []


def test_auto_chooses_normalizer_and_unit_by_language():
    chosen = {
        language: (rule.name, rule.unit)
        for language in "en-GB ja ko th lo km my vi hi ar de fr es ru sw".split()
        for rule in [choose_normalizer("auto", language)]
    }
    characters = dict.fromkeys("ja ko th lo km my".split(), ("characters", "character"))
    words = dict.fromkeys("vi hi ar de fr es ru sw".split(), ("words", "word"))
    assert chosen == {"en-GB": ("whisper_en_no_spelling", "word")} | characters | words
    assert choose_normalizer("auto", "en", spelling=SPELLING).name == "whisper_en"
    assert choose_normalizer("auto", "ja-JP").language == "ja"


def test_spellings_are_one_where_the_asr_model_brings_its_table():
    with_table, without = (choose_normalizer("auto", "en", spelling=each) for each in (SPELLING, None))
    assert with_table.units("colour") == with_table.units("color")
    assert without.units("colour") != without.units("color")
    with pytest.raises(InputError, match="normalizer whisper_en needs a table of spellings"):
        choose_normalizer("whisper_en", "en")


def test_every_name_of_a_recipe_is_a_normalizer_or_names_its_missing_package():
    for name in get_args(Normalizer):
        try:
            rule = choose_normalizer(name, "en", spelling=SPELLING)
        except InputError as error:
            assert "simplified" in name and "pip install zhconv" in str(error)
        else:
            assert rule.name == ("whisper_en" if name == "auto" else name)
            assert rule.units("One.") in ([["One."], ["one"], list("one"), list("One")])
    with pytest.raises(InputError, match="unknown normalizer 'whisper': use one of auto, none, basic, whisper_en"):
        choose_normalizer("whisper", "en")
    with pytest.raises(InputError, match="'English text' is not a language code"):
        choose_normalizer("none", "English text")


@pytest.mark.parametrize("name", ["auto", "characters_simplified", "seed_tts_zh_simplified"])
def test_without_zhconv_chinese_is_not_scored_otherwise(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "zhconv", None)
    with pytest.raises(InputError, match="needs the module zhconv, which is not installed: pip install zhconv"):
        choose_normalizer(name, "zh")


def test_traditional_and_simplified_characters_are_one():
    pytest.importorskip("zhconv")
    for language in ("zh", "yue"):
        rule = choose_normalizer("auto", language)
        assert (rule.name, rule.unit) == ("characters_simplified", "character")
        assert rule.units("學習漢語，三萬個。") == list("学习汉语30000个")
        assert rule.units("計算機軟體") == list("计算机软体")  # script only
        assert edits(rule.units("媽媽騎馬"), rule.units("妈妈骑妈")) == 1
    seed_tts = choose_normalizer("seed_tts_zh_simplified", "zh")
    assert seed_tts.units("計算機軟體。") == list("计算机软件")  # zh-cn, as the benchmark converts


def test_without_conversion_traditional_characters_are_errors():
    rule = choose_normalizer("characters", "zh")
    assert edits(rule.units("學習漢語"), rule.units("学习汉语")) == 4
    assert rule.units("兩萬點") == list("20000點")


def test_the_normalizers_of_benchmarks_and_of_transformers_are_as_published():
    basic, seed_tts = choose_normalizer("basic", "th"), choose_normalizer("seed_tts_zh", "zh")
    assert (basic.unit, seed_tts.unit) == ("word", "character")
    assert basic.units("น้ำ") == ["น", "า"]  # it drops the marks
    assert seed_tts.units("二十三 ＡB，「c」") == list("二十三ＡBc")  # numerals, width and case are as they were
    assert NORMALIZERS["seed_tts_en"]("Hello, World's [laugh]") == "hello world's laugh"
