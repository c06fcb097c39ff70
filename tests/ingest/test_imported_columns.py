"""Values of a source -> columns of metadata.jsonl."""

import pytest

from higgs_recipes.errors import shown
from higgs_recipes.ingest.imported_columns import check_words, describe_scene, number, text_value
from higgs_recipes.rejects import RejectedRow


@pytest.mark.parametrize(
    "scene, emotion, description",
    [
        (None, None, None),
        ("", "", None),
        ("office", None, "Audio is recorded from an office."),
        ("the_car", None, "Audio is recorded from the car."),
        ("Studio 2", None, "Audio is recorded from Studio 2."),
        (None, "very_sad", "The speaker sounds very sad."),
    ],
)
def test_descriptions_of_scenes(scene, emotion, description):
    assert describe_scene(scene, emotion) == description


@pytest.mark.parametrize("value", [None, float("nan")])
def test_nulls_and_nan_are_no_text(value):
    assert text_value(value, "speaker") is None


@pytest.mark.parametrize("value, parsed", [(None, None), ("", None), ("0.5", 0.5), (1, 1.0)])
def test_numbers(value, parsed):
    assert number({"quality_score": value}, "quality_score") == parsed


@pytest.mark.parametrize("value", ["good", float("nan"), float("inf"), "nan", [], {}, 10**400])
def test_other_values_are_not_numbers(value):
    with pytest.raises(RejectedRow, match="quality_score is not a number"):
        number({"quality_score": value}, "quality_score")


@pytest.mark.parametrize("text", ["。", "……", "\u200b", "-", "🎉", "\u0e34"])
def test_punctuation_is_not_words(text):
    with pytest.raises(RejectedRow, match="has no words"):
        check_words(text)


def test_values_in_messages_are_short():
    nested: list = []
    for _ in range(5000):
        nested = [nested]
    assert shown(nested) == "a list" and len(shown("x" * 5000)) < 110 and shown(10**5000) == "a int"
