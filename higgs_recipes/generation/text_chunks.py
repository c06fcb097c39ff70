"""Split a long text into chunks of whole sentences, each short enough for one clip.

`text.chunk_transcript` splits as the reference implementation does, after a number of words, also inside sentences.
"""

import logging
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from higgs_recipes.chatml import SPEAKER_TAG, canonical_speaker_tags
from higgs_recipes.configs.inference import ChunkConfig
from higgs_recipes.generation.texts import has_words, normalize_text
from higgs_recipes.text import CJK_UNIT


logger = logging.getLogger(__name__)

# Words per second of max_seconds: a text of at most the first rate is one clip, a longer one is split into chunks of
# at most the second, so that slow voices do not reach the cap.
FITTING_RATE, CHUNK_RATE = 2.5, 2.0
MIN_WORDS = 25  # of a chunk, however low max_seconds is: such a cap is for previews and tests
# Seconds between the speech of two chunks that were split at the end of a paragraph, of a sentence, of a clause, or
# between two words.
PARAGRAPH_PAUSE, SENTENCE_PAUSE, CLAUSE_PAUSE, WORD_PAUSE = 0.8, 0.4, 0.2, 0.1

_WEIGHTS = {  # words per character where spaces do not separate words, or separate longer ones
    re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f]"): 0.6,  # Han
    re.compile("[\u3040-\u30ff\uac00-\ud7af]"): 0.4,  # kana, Hangul
    re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]"): 0.25,  # Thai, Lao, Burmese, Khmer
    re.compile(r"\d"): 0.5,
}
_LOOK_BACK = 40  # characters before a full stop, for abbreviations
_LONG_WORD = 12  # characters; a longer word counts as several
_EVENT, _EVENT_WORDS = re.compile(r"<(SE\w*)>\[\w+\]</\1>"), 2

_NO_SPACE = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3000-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
)
_CLOSING = "[\"'\u201d\u2019\u00bb)\\]]*"
_NEXT = rf"(?=\s|[{_NO_SPACE}<]|\[SPEAKER|$)\s*"
_SENTENCE_END = re.compile(
    rf"[.!?\u2026\u3002\uff01\uff1f\uff61\u061f\u06d4\u0964\u0965\u17d4\u104b\u1362]+{_CLOSING}{_NEXT}"
)
_CLAUSE_END = re.compile(rf"(?:[,;:\u060c\u061b\u3001\uff0c\uff1b\uff1a\u2013\u2014-]+{_CLOSING}{_NEXT}|\n)")
_ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof st jr sr vs etc inc ltd co corp no nos fig figs vol pp ca approx gen col capt lt sgt rev hon "
    "pres gov sen rep mt ave dept bzw usw nr str hr fr evtl ggf vgl inkl mme mlle sra srta ud uds".split()
)


class TextChunk(NamedTuple):
    """A normalized part of a text, and the seconds of silence between its speech and that of the next chunk."""

    text: str
    pause: float


@dataclass(frozen=True)
class _Unit:
    """A sentence, or a part of one that is too long; units are never split."""

    text: str
    pause: float  # after it
    tag: str | None  # of the speaker
    starts_turn: bool
    starts_paragraph: bool


def split_text(text: str, config: ChunkConfig, *, max_seconds: float, place: str) -> list[TextChunk]:
    """Split a text into chunks; a text that fits into one clip is one chunk, normalized as a whole.

    A chunk has whole sentences, of about equal length in all chunks. A sentence that is longer than a chunk is split
    between clauses, or between words if a clause is too long as well; the log says so. In a dialogue each chunk starts
    with the tag of its speaker.

    Args:
        text: as it was given; blank lines separate paragraphs.
        max_seconds: maximum length of a clip.
        place: where the text is from, for messages.

    Raises:
        InputError: as `normalize_text`.
    """
    whole = normalize_text(text, place=place)
    is_short = count_words(whole) <= max_words(config, seconds=max_seconds, rate=FITTING_RATE)
    if config.chunk_method == "none" or (config.chunk_method == "word" and is_short):
        return [TextChunk(whole, SENTENCE_PAUSE)]
    limit = max_words(config, seconds=max_seconds, rate=CHUNK_RATE)
    units = _units(text, limit, place=place)
    if config.chunk_method == "word":
        blocks = [units]
    else:
        turns = list(accumulate(unit.starts_turn for unit in units))  # turn of each unit, from 1
        first = min(turns[0], 1)  # without tags there is one turn, 0
        groups: dict[int, list[_Unit]] = {}
        for unit, turn in zip(units, turns, strict=True):
            groups.setdefault((turn - first) // config.chunk_max_turns, []).append(unit)
        blocks = list(groups.values())
    chunks = [chunk for block in blocks for chunk in _pack(block, limit)]
    return [TextChunk(whole, SENTENCE_PAUSE)] if len(chunks) == 1 else chunks


def max_words(config: ChunkConfig, *, seconds: float, rate: float) -> int:
    """`chunk_max_words`, or the words that fit into these seconds at `rate` words per second.

    >>> max_words(ChunkConfig(), seconds=30, rate=2.5), max_words(ChunkConfig(), seconds=120, rate=2.5)
    (75, 200)
    """
    return min(config.chunk_max_words, max(MIN_WORDS, int(seconds * rate)))


def count_words(text: str) -> float:
    """About how many English words take as long to speak as a text.

    >>> count_words("It is [SPEAKER0] five."), count_words("\u4eca\u5929\u5929\u6c14\u5f88\u597d"), count_words("1984")
    (3.0, 3.6, 2.0)
    """
    text, num_events = _EVENT.subn(" ", SPEAKER_TAG.sub(" ", text))
    total = float(num_events * _EVENT_WORDS)
    for pattern, weight in _WEIGHTS.items():
        text, count = pattern.subn("", text)
        total += count * weight
    tokens = (token for token in text.split() if any(map(str.isalnum, token)))
    return round(total + sum(max(1.0, len(token) / _LONG_WORD) for token in tokens), 3)


def split_sentences(text: str) -> list[str]:
    """Split a text after each sentence, with the space that follows; the concatenation is the text.

    >>> split_sentences("Dr. A. Smith paid 3.5 dollars. Why? \\"Well!\\" he said.")
    ['Dr. A. Smith paid 3.5 dollars. ', 'Why? ', '"Well!" he said.']
    >>> split_sentences("\u4f60\u597d.\u6211\u5728\u4e0a\u6d77!")
    ['\u4f60\u597d.', '\u6211\u5728\u4e0a\u6d77!']
    """
    return _split_after(_SENTENCE_END, text, is_end=_ends_sentence)


def _ends_sentence(text: str, match: re.Match) -> bool:
    following = text[match.end() : match.end() + 1]
    if following.islower():
        return False
    mark, has_space = match[0].rstrip(), match[0] != match[0].rstrip()
    if mark != "." or not has_space:
        return True
    before = text[max(0, match.start() - _LOOK_BACK) : match.start()].split()
    word = before[-1].lstrip("\"'(\u201c\u2018\u00ab").lower() if before else ""
    is_initial = (len(word) == 1 and word.isalpha()) or re.fullmatch(r"(\w\.)+\w", word) is not None
    return not (is_initial or word in _ABBREVIATIONS or re.fullmatch(r"\d{1,2}", word))


def _split_after(pattern: re.Pattern, text: str, *, is_end: Callable[[str, re.Match], bool]) -> list[str]:
    ends = [match.end() for match in pattern.finditer(text) if is_end(text, match)]
    spans = zip([0, *ends], [*ends, len(text)], strict=True)
    return [text[start:end] for start, end in spans if text[start:end].strip()]


def _units(text: str, limit: int, *, place: str) -> list[_Unit]:
    """The units of a text in their order."""
    units: list[_Unit] = []
    tag = None
    for number, paragraph in enumerate(re.split(r"\n\s*\n", text.replace("\r\n", "\n").strip()), 1):
        starts_paragraph = True
        pieces = SPEAKER_TAG.split(canonical_speaker_tags(paragraph))
        tags = [None, *pieces[1::2]]  # None: the turn of the paragraph before goes on
        for own_tag, turn in zip(tags, pieces[::2], strict=True):
            tag, starts_turn = own_tag or tag, own_tag is not None
            if not has_words(turn):
                if turn.strip():
                    logger.info("%s: paragraph %d: left out, it has no words: %.40r", place, number, turn.strip())
                continue
            sentences = split_sentences(normalize_text(turn, place=place))
            parts = [part for sentence in sentences for part in _split_sentence(sentence, limit, place=place)]
            for part, pause in _with_words(parts):
                units.append(_Unit(part, pause, tag, starts_turn, starts_paragraph))
                starts_turn = starts_paragraph = False
        if units:
            units[-1] = _Unit(**vars(units[-1]) | {"pause": PARAGRAPH_PAUSE})
    return units


def _split_sentence(sentence: str, limit: int, *, place: str) -> list[tuple[str, float]]:
    """A sentence, or the parts of one that is too long, each with the pause after it."""
    if count_words(sentence) <= limit:
        return [(sentence, SENTENCE_PAUSE)]
    parts: list[tuple[str, float]] = []
    for clause in _joined(_split_after(_CLAUSE_END, sentence, is_end=lambda text, match: True), limit):
        words = [clause] if count_words(clause) <= limit else _joined(_words(clause, limit), limit)
        parts += [(word, WORD_PAUSE) for word in words[:-1]] + [(words[-1], CLAUSE_PAUSE)]
    parts[-1] = (parts[-1][0], SENTENCE_PAUSE)
    logger.warning(
        "%s: a sentence of about %d words is longer than a chunk of %d words: it is split into %d parts: %.60r",
        *(place, count_words(sentence), limit, len(parts), sentence),
    )
    return parts


def _with_words(parts: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    """Append parts without words to the part before them, and put those at the start before the first word."""
    joined: list[tuple[str, float]] = []
    start = ""
    for text, pause in parts:
        if joined and not has_words(text):
            joined[-1] = (joined[-1][0] + text, pause)
        elif has_words(text):
            joined.append((start + text, pause))
        else:
            start += text
    return joined


def _words(clause: str, limit: int) -> list[str]:
    words = re.findall(r"\s*\S+\s*", clause)
    return [part for word in words for part in ([word] if count_words(word) <= limit else CJK_UNIT.findall(word))]


def _joined(parts: Sequence[str], limit: int) -> list[str]:
    return ["".join(parts[group]) for group in _balanced_groups([count_words(part) for part in parts], limit)]


def _pack(units: Sequence[_Unit], limit: int) -> list[TextChunk]:
    """Join consecutive units to chunks."""
    groups = _balanced_groups([count_words(unit.text) for unit in units], limit)
    return [TextChunk(_chunk_text(units[group]), units[group][-1].pause) for group in groups]


def _chunk_text(units: Sequence[_Unit]) -> str:
    text = ""
    for index, unit in enumerate(units):
        if index and (unit.starts_turn or unit.starts_paragraph):
            text = text.rstrip() + "\n"
        if unit.tag is not None and (index == 0 or unit.starts_turn):
            text += f"[{unit.tag}] "
        text += unit.text
    return text.strip()


def _balanced_groups(sizes: Sequence[float], limit: float) -> list[slice]:
    """Group consecutive sizes into sums of at most `limit`, about equal; a larger size is a group by itself.

    >>> _balanced_groups([4, 4, 4, 4, 4, 4], limit=20)
    [slice(0, 3, None), slice(3, 6, None)]
    """
    groups, start, remaining = [], 0, sum(sizes)
    while start < len(sizes):
        target = remaining / max(1, math.ceil(remaining / limit - 1e-6))
        end, total = start + 1, sizes[start]
        while end < len(sizes) and total + sizes[end] <= limit and total + sizes[end] / 2 <= target:
            total += sizes[end]
            end += 1
        groups.append(slice(start, end))
        start, remaining = end, remaining - total
    return groups
