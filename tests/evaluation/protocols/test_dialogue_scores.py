import math

import pytest
import torch

from higgs_recipes.evaluation.protocols.dialogue_scores import DEFINITION, dialogue_voices


def voice(degrees: float) -> torch.Tensor:
    return torch.tensor([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))])


def cos(degrees: float) -> float:
    return math.cos(math.radians(degrees))


def test_turns_of_one_speaker_are_compared_and_those_of_different_speakers_too():
    turns = [("SPEAKER0", voice(0)), ("SPEAKER1", voice(80)), ("SPEAKER0", voice(20)), ("SPEAKER1", voice(60))]
    voices = dialogue_voices(turns, {})
    assert voices.intra == pytest.approx(cos(20))
    cross = (cos(80) + cos(60) + cos(60) + cos(40)) / 4
    assert voices.dissimilarity == pytest.approx(1 - cross)
    assert voices.score == pytest.approx(math.sqrt(voices.intra * voices.dissimilarity))


def test_references_are_compared_with_the_turns_of_their_own_speaker_only():
    turns = [("SPEAKER0", voice(0)), ("SPEAKER1", voice(90))]
    voices = dialogue_voices(turns, {"SPEAKER0": voice(30), "SPEAKER1": voice(30), "SPEAKER2": voice(0)})
    assert voices.intra == pytest.approx((cos(30) + cos(60)) / 2) and voices.dissimilarity == pytest.approx(1.0)


def test_both_are_clipped_to_their_range():
    turns = [("SPEAKER0", voice(0)), ("SPEAKER0", voice(180)), ("SPEAKER1", voice(180)), ("SPEAKER1", voice(0))]
    voices = dialogue_voices([*turns, ("SPEAKER2", voice(180))], {})
    assert voices.intra == 0.0 and 0 <= voices.dissimilarity <= 1 and voices.score == 0.0
    opposite = dialogue_voices([("SPEAKER0", voice(0)), ("SPEAKER1", voice(180))], {"SPEAKER0": voice(0)})
    assert opposite.dissimilarity == 1.0 and opposite.score == pytest.approx(1.0)


@pytest.mark.parametrize(
    "turns, references",
    [
        ([("SPEAKER0", voice(0)), ("SPEAKER1", voice(90))], {}),  # no two turns of one speaker
        ([("SPEAKER0", voice(0)), ("SPEAKER0", voice(9)), ("SPEAKER1", None)], {}),  # a turn was not found
        ([], {}),
    ],
)
def test_without_both_kinds_of_pairs_there_is_no_score(turns, references):
    assert dialogue_voices(turns, references).score is None


def test_the_definition_says_that_no_code_is_published():
    assert "No code of it is published" in DEFINITION and "square root" in DEFINITION
