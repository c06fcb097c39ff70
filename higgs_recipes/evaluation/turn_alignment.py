"""Dialogues by turn: what is said in each, and where in a clip each lies, by the words that an ASR model has timed."""

from collections.abc import Callable, Sequence

from higgs_recipes.audio.asr import Word
from higgs_recipes.audio.word_errors import matched_words
from higgs_recipes.chatml import SPEAKER_TAG
from higgs_recipes.normalizers import NORMALIZERS


# A turn is found where at least this share of its words is heard right: fewer may be another turn's "and" and "the".
FOUND_SHARE = 0.5


def turn_texts(text: str) -> list[str]:
    """What is said in each turn of a dialogue; none where the text has no tags.

    >>> turn_texts("[SPEAKER1] Hi.\\n[SPEAKER0] Yes?"), turn_texts("Hi.")
    (['Hi.', 'Yes?'], [])
    """
    return [said.strip() for said in SPEAKER_TAG.split(text)[2::2]]


def spoken_text(text: str) -> str:
    """The text without the tags of its speakers, which are not read out.

    >>> spoken_text("[SPEAKER1] Hi.\\n[SPEAKER0] Yes?"), spoken_text("Hi.")
    ('Hi. Yes?', 'Hi.')
    """
    return " ".join(turn_texts(text)) or text


def turn_spans(texts: Sequence[str], words: Sequence[Word], *, normalizer: str) -> list[tuple[float, float] | None]:
    """Where each turn lies, (start, end) in seconds: from the first to the last of its words that is heard right; None
    where fewer than `FOUND_SHARE` of them are, or it holds no word once normalized.

    The words, normalized one by one, are aligned with the fewest edits. An alignment never crosses itself, so turns
    that are found lie in order.

    >>> words = [Word("One", 0.0, 0.5), Word("too,", 0.5, 0.8), Word("three", 1.0, 1.5)]
    >>> turn_spans(["One two.", "Three.", "Four!"], words, normalizer="basic")
    [(0.0, 0.5), (1.0, 1.5), None]
    """
    normalize = NORMALIZERS[normalizer]
    reference = [(turn, part) for turn, text in enumerate(texts) for part in _parts(text.split(), normalize)]
    heard = [(word, part) for word in words for part in _parts([word.text], normalize)]
    matched: list[list[Word]] = [[] for _ in texts]
    for place, other in matched_words([part for _, part in reference], [part for _, part in heard]):
        matched[reference[place][0]].append(heard[other][0])
    lengths = [sum(turn == index for turn, _ in reference) for index in range(len(texts))]
    return [
        (found[0].start, found[-1].end) if found and len(found) >= FOUND_SHARE * length else None
        for found, length in zip(matched, lengths, strict=True)
    ]


def _parts(words: Sequence[str], normalize: Callable[[str], str]) -> list[str]:
    return [part for word in words for part in normalize(word).split()]
