"""The turns of a dialogue: the text of each, and its position in a clip, from the word times of an ASR model."""

from collections.abc import Callable, Sequence

from higgs_recipes.audio.asr import Word
from higgs_recipes.audio.word_errors import matched_words
from higgs_recipes.chatml import SPEAKER_TAG
from higgs_recipes.normalizers import NORMALIZERS


# A turn counts as found if at least this share of its words is recognized. With fewer, the matches may be common words
# of another turn.
FOUND_SHARE = 0.5


def turn_texts(text: str) -> list[str]:
    """Split a dialogue into the texts of its turns. A text without speaker tags has no turns.

    >>> turn_texts("[SPEAKER1] Hi.\\n[SPEAKER0] Yes?"), turn_texts("Hi.")
    (['Hi.', 'Yes?'], [])
    """
    return [turn.strip() for turn in SPEAKER_TAG.split(text)[2::2]]


def spoken_text(text: str) -> str:
    """Remove the speaker tags, which are not spoken.

    >>> spoken_text("[SPEAKER1] Hi.\\n[SPEAKER0] Yes?"), spoken_text("Hi.")
    ('Hi. Yes?', 'Hi.')
    """
    return " ".join(turn_texts(text)) or text


def turn_spans(texts: Sequence[str], words: Sequence[Word], *, normalizer: str) -> list[tuple[float, float] | None]:
    """Locate each turn in a clip.

    The words of the texts and of the transcript are normalized one by one and aligned with the fewest edits. An
    alignment is monotonic, so the spans of the turns are in order.

    Args:
        texts: the text of each turn.
        words: the transcript of the clip with word times.
        normalizer: key of `NORMALIZERS`.

    Returns:
        For each turn (start, end) in seconds, from its first to its last matched word; None if fewer than
        `FOUND_SHARE` of its words are matched, or if it has no words once normalized.

    >>> words = [Word("One", 0.0, 0.5), Word("too,", 0.5, 0.8), Word("three", 1.0, 1.5)]
    >>> turn_spans(["One two.", "Three.", "Four!"], words, normalizer="basic")
    [(0.0, 0.5), (1.0, 1.5), None]
    """
    normalize = NORMALIZERS[normalizer]
    # Normalizing a word can give several: "aren't" becomes "are not".
    expected = [(turn, part) for turn, text in enumerate(texts) for part in _normalized(text.split(), normalize)]
    recognized = [(word, part) for word in words for part in _normalized([word.text], normalize)]
    matches: list[list[Word]] = [[] for _ in texts]
    for expected_index, recognized_index in matched_words(
        [part for _, part in expected], [part for _, part in recognized]
    ):
        matches[expected[expected_index][0]].append(recognized[recognized_index][0])
    lengths = [sum(turn == index for turn, _ in expected) for index in range(len(texts))]
    return [
        (matched[0].start, matched[-1].end) if matched and len(matched) >= FOUND_SHARE * length else None
        for matched, length in zip(matches, lengths, strict=True)
    ]


def _normalized(words: Sequence[str], normalize: Callable[[str], str]) -> list[str]:
    return [part for word in words for part in normalize(word).split()]
