import pytest

from higgs_recipes.audio.asr import Word
from higgs_recipes.evaluation.turn_alignment import (
    spoken_text,
    text_before_turns,
    turn_spans,
    turn_texts,
    turn_units,
)
from higgs_recipes.normalizers import choose_normalizer


def timed(text: str) -> list[Word]:
    """A word each second."""
    return [Word(word, float(index), index + 0.9) for index, word in enumerate(text.split())]


def spans(turns: list[str], transcript: str, *, normalizer: str = "basic", language: str = "en"):
    return turn_spans(turns, timed(transcript), rule=choose_normalizer(normalizer, language))


TURNS = ["Glue the sheet.", "It is easy, says the well.", "Glue it."]


def test_a_turn_spans_its_first_to_its_last_matched_word():
    assert spans(TURNS, "um Glue the cheat. It is easy says a well, glue it!") == [
        (1.0, 2.9),
        (4.0, 9.9),
        (10.0, 11.9),
    ]


def test_equal_turns_are_matched_in_order():
    assert spans(["Yes.", "No.", "Yes."], "yes no yes") == [(0.0, 0.9), (1.0, 1.9), (2.0, 2.9)]


@pytest.mark.parametrize(
    "transcript, found", [("b", [1]), ("c a b", [0, 1]), ("b c a", [1, 2]), ("", []), ("x y", [])]
)
def test_missing_turns_and_turns_out_of_order_are_not_found(transcript, found):
    assert [index for index, span in enumerate(spans(["a", "b", "c"], transcript)) if span] == found


def test_a_turn_needs_half_of_its_words():
    assert spans(["one two three four"], "one x y four") == [(0.0, 3.9)]
    assert spans(["one two three four five"], "one x y z five") == [None]


def test_words_are_normalized_as_for_the_error_rate():
    assert spans(["Fifty buns aren't much."], "50 buns are not much", normalizer="whisper_en_no_spelling") == [
        (0.0, 4.9)
    ]


def test_a_turn_without_words_is_not_found():
    assert spans(["...", "One."], "one") == [None, (0.0, 0.9)]


def test_dialogues_are_split_at_speaker_tags():
    text = "[SPEAKER1] Hi, Anna.\n[SPEAKER0] Yes? [SPEAKER1] No."
    assert turn_texts(text) == ["Hi, Anna.", "Yes?", "No."]
    assert spoken_text(text) == "Hi, Anna. Yes? No." and spoken_text("No tag.") == "No tag."


def test_text_before_the_first_tag_belongs_to_no_turn_and_is_spoken():
    text = "Well, [SPEAKER1] hi.\n[SPEAKER0] Yes?"
    assert (text_before_turns(text), turn_texts(text)) == ("Well,", ["hi.", "Yes?"])
    assert spoken_text(text) == "Well, hi. Yes?"
    assert text_before_turns(" [SPEAKER1] Hi.") == text_before_turns("No tag.") == ""


def test_a_text_of_tags_alone_says_nothing():
    assert spoken_text("[SPEAKER0] [SPEAKER1]") == "" and turn_texts("[SPEAKER0] [SPEAKER1]") == ["", ""]


def test_turns_of_a_language_without_spaces_are_aligned_by_character():
    """Four and five characters; the ASR model splits words elsewhere and hears one character wrong."""
    turns = ["你好，世界。", "今天气很好！"]
    assert spans(turns, "你 好世 界 今天 七 很好", normalizer="characters", language="zh") == [(0.0, 2.9), (3.0, 5.9)]
    assert spans(["สวัสดี"], "สวัส ดี", normalizer="auto", language="th") == [(0.0, 1.9)]


def test_units_of_a_turn_are_those_of_its_words():
    assert turn_units("It isn't 5,000.", rule=choose_normalizer("auto", "en")) == ["it", "is", "not", "5000"]
    assert turn_units("<SE>[Laughter]</SE> ...", rule=choose_normalizer("auto", "en")) == []
