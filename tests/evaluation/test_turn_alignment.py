import pytest

from higgs_recipes.audio.asr import Word
from higgs_recipes.evaluation.turn_alignment import spoken_text, turn_spans, turn_texts


def timed(text: str) -> list[Word]:
    """A word each second."""
    return [Word(word, float(index), index + 0.9) for index, word in enumerate(text.split())]


def spans(turns: list[str], transcript: str, *, normalizer: str = "basic"):
    return turn_spans(turns, timed(transcript), normalizer=normalizer)


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
