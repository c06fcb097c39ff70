"""The turns of a dialogue: the text of each, and its position in a clip, from the word times of an ASR model."""

from collections.abc import Sequence

from higgs_recipes.audio.asr import Word
from higgs_recipes.audio.word_errors import matched_words
from higgs_recipes.chatml import SPEAKER_TAG
from higgs_recipes.normalizers import TextRule


# A turn counts as found if at least this share of its words is recognized. With fewer, the matches may be common words
# of another turn.
FOUND_SHARE = 0.5


def turn_texts(text: str) -> list[str]:
    """Split a dialogue into the texts of its turns. A text without speaker tags has no turns.

    >>> turn_texts("[SPEAKER1] Hi.\\n[SPEAKER0] Yes?"), turn_texts("Hi.")
    (['Hi.', 'Yes?'], [])
    """
    return [turn.strip() for turn in SPEAKER_TAG.split(text)[2::2]]


def text_before_turns(text: str) -> str:
    """The text before the first speaker tag, which belongs to no turn; "" for a text without speaker tags.

    >>> text_before_turns("Well, [SPEAKER1] Hi."), text_before_turns("Hi.")
    ('Well,', '')
    """
    before, *turns = SPEAKER_TAG.split(text)
    return before.strip() if turns else ""


def spoken_text(text: str) -> str:
    """Remove the speaker tags, which are not spoken. Text before the first tag is kept.

    >>> spoken_text("[SPEAKER1] Hi.\\n[SPEAKER0] Yes?"), spoken_text("Hi.")
    ('Hi. Yes?', 'Hi.')
    """
    parts = [part.strip() for part in SPEAKER_TAG.split(text)[::2]]
    return " ".join(part for part in parts if part)


def turn_spans(texts: Sequence[str], words: Sequence[Word], *, rule: TextRule) -> list[tuple[float, float] | None]:
    """Locate each turn in a clip.

    The words of the texts and of the transcript are normalized one by one, and their units are aligned with the fewest
    edits. An alignment is monotonic, so the spans of the turns are in order.

    Args:
        texts: the text of each turn.
        words: the transcript of the clip with word times.
        rule: normalizer and unit.

    Returns:
        For each turn (start, end) in seconds, from its first to its last matched word; None if fewer than
        `FOUND_SHARE` of its units are matched, or if it has none.

    >>> from higgs_recipes.normalizers import choose_normalizer
    >>> words = [Word("One", 0.0, 0.5), Word("too,", 0.5, 0.8), Word("three", 1.0, 1.5)]
    >>> turn_spans(["One two.", "Three.", "Four!"], words, rule=choose_normalizer("basic", "en"))
    [(0.0, 0.5), (1.0, 1.5), None]
    """
    expected = [(turn, unit) for turn, text in enumerate(texts) for unit in turn_units(text, rule=rule)]
    recognized = [(word, unit) for word in words for unit in rule.units(word.text)]
    matches: list[list[Word]] = [[] for _ in texts]
    for expected_index, recognized_index in matched_words(
        [unit for _, unit in expected], [unit for _, unit in recognized]
    ):
        matches[expected[expected_index][0]].append(recognized[recognized_index][0])
    lengths = [sum(turn == index for turn, _ in expected) for index in range(len(texts))]
    return [
        (matched[0].start, matched[-1].end) if matched and len(matched) >= FOUND_SHARE * length else None
        for matched, length in zip(matches, lengths, strict=True)
    ]


def turn_units(text: str, *, rule: TextRule) -> list[str]:
    """The units of a turn's words, normalized one by one: "aren't" becomes "are not". A turn may have none.

    >>> from higgs_recipes.normalizers import choose_normalizer
    >>> turn_units("Fine <SE>[Laughter]</SE> ...", rule=choose_normalizer("auto", "en"))
    ['fine']
    """
    return [unit for word in text.split() for unit in rule.units(word)]
