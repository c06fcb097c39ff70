import pytest

from higgs_recipes.audio.asr import Word
from higgs_recipes.evaluation.turn_alignment import spoken_text, turn_spans, turn_texts


def timed(text: str) -> list[Word]:
    """A word each second."""
    return [Word(word, float(index), index + 0.9) for index, word in enumerate(text.split())]


def spans(turns: list[str], heard: str, *, normalizer: str = "basic"):
    return turn_spans(turns, timed(heard), normalizer=normalizer)


TURNS = ["Glue the sheet.", "It is easy, says the well.", "Glue it."]


def test_a_turn_lies_between_its_first_and_last_word_heard_right():
    assert spans(TURNS, "um Glue the cheat. It is easy says a well, glue it!") == [
        (1.0, 2.9),
        (4.0, 9.9),
        (10.0, 11.9),
    ]


def test_the_same_words_in_two_turns_go_to_each_in_order():
    assert spans(["Yes.", "No.", "Yes."], "yes no yes") == [(0.0, 0.9), (1.0, 1.9), (2.0, 2.9)]


@pytest.mark.parametrize("heard, found", [("b", [1]), ("c a b", [0, 1]), ("b c a", [1, 2]), ("", []), ("x y", [])])
def test_what_is_left_out_or_out_of_place_is_not_found(heard, found):
    assert [index for index, span in enumerate(spans(["a", "b", "c"], heard)) if span] == found


def test_fewer_than_half_of_the_words_do_not_make_a_turn():
    assert spans(["one two three four"], "one x y four") == [(0.0, 3.9)]
    assert spans(["one two three four five"], "one x y z five") == [None]


def test_words_are_normalised_as_in_the_error_rate():
    assert spans(["Fifty buns aren't much."], "50 buns are not much", normalizer="whisper_en_no_spelling") == [
        (0.0, 4.9)
    ]


def test_a_turn_without_words_is_not_found():
    assert spans(["...", "One."], "one") == [None, (0.0, 0.9)]


def test_texts_are_cut_at_their_tags():
    text = "[SPEAKER1] Hi, Anna.\n[SPEAKER0] Yes? [SPEAKER1] No."
    assert turn_texts(text) == ["Hi, Anna.", "Yes?", "No."]
    assert spoken_text(text) == "Hi, Anna. Yes? No." and spoken_text("No tag.") == "No tag."
