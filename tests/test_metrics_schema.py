import pytest

from higgs_recipes.metrics_schema import describe_languages, held_out_warning, is_held_out, unit_note


WORDS, CHARACTERS = {"unit": "word"}, {"unit": "character"}


def record(held_out: bool | None, shared: int | None, *, split: str = "test") -> dict:
    return {
        "held_out": held_out,
        "shared_with_train": shared,
        "split": split,
        "dataset": "me/corpus",
        "clips": [{}] * 20,
    }


@pytest.mark.parametrize("held_out, shared, expected", [(True, 0, True), (True, None, True), (True, 3, False)])
def test_held_out_texts_share_no_recording_with_the_train_split(held_out, shared, expected):
    assert is_held_out(record(held_out, shared)) is expected


@pytest.mark.parametrize("held_out", [False, None])
def test_texts_that_are_not_known_to_be_held_out_are_not_called_so(held_out):
    assert not is_held_out(record(held_out, 0))


def test_only_texts_that_the_model_may_have_been_trained_on_have_a_warning():
    for held_out in (True, None):
        assert held_out_warning(record(held_out, 0)) is held_out_warning(record(held_out, None)) is None
    warning = held_out_warning(record(False, 20, split="train"))
    assert warning.startswith("The model was trained on these texts: split train of me/corpus is part of its")
    assert held_out_warning(record(True, 3)).startswith("3 of these 20 recordings are also in the train split of me/c")


def test_the_unit_of_wer_is_noted_where_it_is_not_words():
    assert unit_note({"en": WORDS, "vi": WORDS}) is None
    assert unit_note({"ja": CHARACTERS, "zh": CHARACTERS}) == "WER counts characters, not words, in ja, zh"
    assert unit_note({"en": WORDS, "zh": CHARACTERS}).endswith("mixes two units: compare WER by language")


def test_languages_are_described_with_their_rules():
    languages = {code: {"normalizer": "words", "unit": "word", "n": n} for code, n in (("de", 3), ("vi", 2))}
    assert describe_languages(languages) == (
        "de (3 texts, in words, normalizer words), vi (2 texts, in words, normalizer words)"
    )
