import pytest
import torch

from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.evaluation.transcript_flags import FLAGS, count_flags, has_loop, is_silent, transcript_flags
from higgs_recipes.normalizers import choose_normalizer


SPEECH = 0.1 * torch.sin(torch.arange(SAMPLE_RATE) / 20)
SILENCE = torch.full((SAMPLE_RATE,), 1e-4)


def flags(text: str, transcript: str, waveform=SPEECH, *, language: str = "en") -> list[str]:
    rule = choose_normalizer("words" if language == "en" else "characters", language)
    return transcript_flags(text, transcript, waveform, rule=rule)


def test_words_in_a_silent_clip_are_flagged():
    assert flags("Hello there.", "hello there", SILENCE) == ["silence"]
    assert flags("Hello there.", "...", SILENCE) == []  # no words: the ASR model heard nothing
    assert is_silent(torch.empty(0)) and is_silent(torch.zeros(10)) and not is_silent(SPEECH)
    short = torch.cat([SILENCE, SPEECH[: SAMPLE_RATE // 10], SILENCE])  # one short word
    assert not is_silent(short)


@pytest.mark.parametrize(
    "text, transcript, language, found",
    [
        ("See you.", "Thank you for watching!", "en", ["stock_phrase"]),
        ("Thank you for watching this.", "Thank you for watching this.", "en", []),
        ("今天天气很好", "请不吝点赞 订阅", "zh", ["stock_phrase"]),
        ("See you.", "Thank you for the watch.", "en", []),
    ],
)
def test_stock_phrases_that_the_text_does_not_have_are_flagged(text, transcript, language, found):
    assert flags(text, transcript, language=language) == found


@pytest.mark.parametrize(
    "text, transcript, is_loop",
    [
        ("I see the sea.", "I see " * 12, True),
        ("Well.", "well " * 8, True),
        ("Well.", "well " * 7, False),
        ("Ha ha ha ha ha ha ha ha ha.", "ha " * 9, False),
        ("Ha ha ha.", "ha " * 9, True),
        ("one two three four five six seven eight", "one two three four five six seven eight", False),
        ("", "it was the end and so it was the end and so it was the end and so it was the end and so", True),
    ],
)
def test_loops_are_flagged_unless_the_text_repeats_itself(text, transcript, is_loop):
    assert (flags(text, transcript) == ["loop"]) == is_loop


def test_a_loop_may_begin_anywhere():
    assert has_loop(["x", *["a", "b"] * 4, "y"], [])
    assert not has_loop(list("abcdefgh"), []) and not has_loop([], [])


def test_flags_are_counted_for_each_system():
    clips = [{"base": {"flags": ["loop", "silence"]}}, {"base": {"flags": ["loop"]}}, {"base": {"flags": []}}]
    assert count_flags(clips, ["base"]) == {"base": {"silence": 1, "stock_phrase": 0, "loop": 2, "n": 3}}
    assert list(FLAGS) == ["silence", "stock_phrase", "loop"]
