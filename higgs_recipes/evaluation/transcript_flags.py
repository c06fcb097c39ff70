"""Transcripts that an ASR model invented: words for a silent clip, its stock phrases, and loops.

They are counted and shown, and stay in every score: a clip without speech is an error of the speech model.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.normalizers import TextRule


SILENCE_DBFS = -50.0  # of the loudest 50 ms: speech at a normal level is above -30
SILENCE_WINDOW = SAMPLE_RATE // 20
MIN_REPEATS = 4  # of one phrase, one after the other
MIN_LOOP_UNITS = 8  # words or characters of all its repeats

# What Whisper writes for silence and noise; its training data are subtitles.
STOCK_PHRASES = (
    *("thank you for watching", "thanks for watching", "please subscribe", "subtitles by the amara org community"),
    *("ご視聴ありがとうございました", "请不吝点赞", "字幕由amara org社区提供", "謝謝觀看", "谢谢观看"),
    *("시청해주셔서 감사합니다", "продолжение следует", "sous titres réalisés par la communauté d amara org"),
)

FLAGS = {
    "silence": "words in the transcript of a silent clip",
    "stock_phrase": "a stock phrase of Whisper's subtitles that the text does not have",
    "loop": f"a phrase {MIN_REPEATS} or more times in a row that the text does not repeat",
}


def transcript_flags(text: str, transcript: str, waveform: Tensor, *, rule: TextRule) -> list[str]:
    """What is wrong with a transcript: keys of `FLAGS`.

    Args:
        text: what was to be spoken.
        waveform: the clip (N,).
        rule: normalizer and unit of the text.
    """
    expected, recognized = rule.units(text), rule.units(transcript)
    flags = []
    if recognized and is_silent(waveform):
        flags.append("silence")
    if any(_contains(recognized, phrase, rule) and not _contains(expected, phrase, rule) for phrase in STOCK_PHRASES):
        flags.append("stock_phrase")
    if has_loop(recognized, expected):
        flags.append("loop")
    return flags


def is_silent(waveform: Tensor) -> bool:
    """Whether the loudest 50 ms of a clip (N,) are below `SILENCE_DBFS`; also a clip without samples."""
    if not len(waveform):
        return True
    loudest = max(float(window.square().mean()) for window in waveform.float().split(SILENCE_WINDOW))
    return loudest < 10 ** (SILENCE_DBFS / 10)


def has_loop(units: Sequence[str], expected: Sequence[str]) -> bool:
    """Whether a phrase is repeated as an ASR model in a loop does, and more often than in the expected text.

    >>> has_loop("so I went and I went and I went and I went and".split(), "so I went".split())
    True
    >>> has_loop("no no no no".split(), "no no no no".split()), has_loop("a b a b".split(), [])
    (False, False)
    """
    for length in range(1, len(units) // MIN_REPEATS + 1):
        repeats = _longest_run(units, length)
        if repeats >= MIN_REPEATS and repeats * length >= MIN_LOOP_UNITS and repeats > _longest_run(expected, length):
            return True
    return False


def _longest_run(units: Sequence[str], length: int) -> int:
    """The most repeats, one after the other, of any phrase of `length` units."""
    longest = run = 0
    for index in range(length, len(units)):
        run = run + 1 if units[index] == units[index - length] else 0
        longest = max(longest, run)
    return longest // length + 1


def _contains(units: Sequence[str], phrase: str, rule: TextRule) -> bool:
    wanted = rule.units(phrase)
    return bool(wanted) and any(
        list(units[start : start + len(wanted)]) == wanted for start in range(len(units) - len(wanted) + 1)
    )


def count_flags(clips: Sequence[Mapping[str, Any]], systems: Sequence[str]) -> dict[str, dict[str, int]]:
    """The number of clips of each system with each flag, and n.

    Args:
        clips: the field `clips` of metrics.json.
    """
    return {
        system: {flag: sum(flag in clip[system]["flags"] for clip in clips) for flag in FLAGS} | {"n": len(clips)}
        for system in systems
    }
