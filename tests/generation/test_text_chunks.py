import random
import re

import pytest

from higgs_recipes.chatml import SPEAKER_TAG
from higgs_recipes.configs.inference import ChunkConfig
from higgs_recipes.errors import InputError
from higgs_recipes.generation.text_chunks import (
    CLAUSE_PAUSE,
    PARAGRAPH_PAUSE,
    SENTENCE_PAUSE,
    WORD_PAUSE,
    count_words,
    split_sentences,
    split_text,
)


def split(text: str, *, max_seconds: float = 10.0, **fields) -> list[tuple[str, float]]:
    """The chunks of a text; at 10 s they have at most 25 words."""
    return [tuple(chunk) for chunk in split_text(text, ChunkConfig(**fields), max_seconds=max_seconds, place="text 0")]


def texts(chunks: list[tuple[str, float]]) -> list[str]:
    return [text for text, _ in chunks]


SENTENCE = "This sentence has exactly seven short words."
LONG = " ".join([SENTENCE] * 12)


def test_a_text_that_fits_is_one_chunk_as_it_was():
    assert texts(split("Hello\n\nYou   there")) == ["Hello\nYou there."]
    words = " ".join(["word"] * 75)
    assert texts(split(words, max_seconds=30)) == [f"{words}."]
    assert len(split(f"{words} more", max_seconds=30)) == 2
    assert len(split(words, max_seconds=0.4)) > 1 == len(split(" ".join(["word"] * 25), max_seconds=0.4))


@pytest.mark.parametrize("max_words", [7, 10, 25, 30])
def test_sentences_are_never_split_and_none_is_lost(max_words):
    chunks = split(LONG, chunk_max_words=max_words, max_seconds=100)
    assert " ".join(texts(chunks)) == LONG
    assert all(re.fullmatch(rf"({SENTENCE} ?)+", text) and count_words(text) <= max_words for text in texts(chunks))
    assert {pause for _, pause in chunks[:-1]} == {SENTENCE_PAUSE}


def test_chunks_have_about_equal_length():
    assert [count_words(text) for text in texts(split(LONG, max_seconds=30))] == [42, 42]


def test_without_a_method_a_text_is_never_split():
    assert texts(split(LONG, chunk_method="none")) == [LONG]


def test_paragraphs_have_a_longer_pause_and_headings_are_sentences():
    paragraphs = ["Chapter One", SENTENCE, "* * *", f"{SENTENCE} {SENTENCE}"]
    chunks = split("\n\n".join(paragraphs), chunk_max_words=14, max_seconds=100)
    assert chunks == [
        (f"Chapter One.\n{SENTENCE}", PARAGRAPH_PAUSE),
        (f"{SENTENCE} {SENTENCE}", PARAGRAPH_PAUSE),
    ]


def test_a_sentence_that_is_too_long_is_split_between_clauses_then_words_and_it_is_said(caplog):
    clause = " ".join(["word"] * 20)
    assert split(f"{clause}, {clause}; {clause}.") == [
        (f"{clause},", CLAUSE_PAUSE),
        (f"{clause};", CLAUSE_PAUSE),
        (f"{clause}.", PARAGRAPH_PAUSE),
    ]
    assert "text 0: a sentence of about 60 words is longer than a chunk of 25 words" in caplog.text
    chunks = split(" ".join(["word"] * 45))
    assert [pause for _, pause in chunks] == [WORD_PAUSE, PARAGRAPH_PAUSE]
    assert " ".join(texts(chunks)) == " ".join(["word"] * 45) + "."


@pytest.mark.parametrize(
    "text",
    [
        "\u4eca\u5929\u5929\u6c14\u5f88\u597d\uff0c\u6211\u4eec\u53bb\u516c\u56ed\u5427\u3002\u4eba\u5f88\u591a\uff01"
        * 6,
        "\u3053\u3093\u306b\u3061\u306f\u3002\u4eca\u65e5\u306f\u3044\u3044\u5929\u6c17\u3067\u3059\u306d\u3002" * 8,
        "\u4eca\u5929\u5929\u6c14\u5f88\u597diPhone\u6211\u4eec\u53bb\u516c\u56ed<SE>[Laughter]</SE>"
        * 9,  # no punctuation
        "\u0e27\u0e31\u0e19\u0e19\u0e35\u0e49\u0e2d\u0e32\u0e01\u0e32\u0e28\u0e14\u0e35\u0e21\u0e32\u0e01" * 12,
        "\u092f\u0939 \u090f\u0915 \u0935\u093e\u0915\u094d\u092f \u0939\u0948\u0964 " * 12,
    ],
    ids=["zh", "ja", "zh without punctuation", "th", "hi"],
)
def test_languages_without_spaces_are_split_without_loss(text):
    (whole,) = split(text, chunk_method="none")
    chunks = texts(split(text))
    assert len(chunks) > 1 and max(map(count_words, chunks)) <= 25
    assert "".join("".join(chunks).split()) == "".join(whole[0].split())
    assert not any(
        chunk.count("<SE>") != chunk.count("</SE>") or re.search("iPhon$|^Phone", chunk) for chunk in chunks
    )


def test_words_are_counted_by_how_long_they_take():
    assert count_words("One two, three - four.") == 4
    assert (
        count_words("\u4eca\u5929\u5929\u6c14\u5f88\u597d\u5417\u5440\u5566\u54e6") == 6
    )  # of Chinese ten characters
    assert count_words("x" * 120) == 10
    assert count_words("[SPEAKER0] <SE>[Laughter]</SE>") == 2


@pytest.mark.parametrize(
    "text, expected",
    [
        ("It cost 3.5 million. Really?", 2),
        ("Mr. A. B. Smith, Ph.D., e.g. in the U.S. army. Fine.", 2),
        ('"Stop!" he cried. "Why?" "Because."', 3),
        ("Am 3. Mai kam er. Sie nicht.", 2),
        ("Wait... what? Yes", 2),
        ("See example.com/a.b. Then go.", 2),
        ("No end here", 1),
    ],
)
def test_sentences_end_where_people_end_them(text, expected):
    sentences = split_sentences(text)
    assert len(sentences) == expected and "".join(sentences) == text


def test_a_dialogue_keeps_its_speakers_and_each_chunk_begins_with_a_tag():
    turns = [f"[SPEAKER{number}] {SENTENCE} {SENTENCE} {SENTENCE}" for number in (0, 1, 2)]
    chunks = texts(split("\n".join(turns), chunk_max_words=14, max_seconds=100))
    assert all(chunk.startswith("[SPEAKER") for chunk in chunks)
    spoken: dict[str, int] = {}
    for tag, text in re.findall(r"\[(SPEAKER\d)\]([^\[]*)", " ".join(chunks)):
        spoken[tag] = spoken.get(tag, 0) + text.count(SENTENCE)
    assert spoken == {"SPEAKER0": 3, "SPEAKER1": 3, "SPEAKER2": 3}


def test_by_speaker_every_few_turns_are_a_chunk():
    text = "[SPEAKER0] Hi.\n[speaker1] Ho [laugh]\n[SPEAKER0] Well.\nYes."
    assert texts(split(text, chunk_method="speaker")) == [
        "[SPEAKER0] Hi.",
        "[SPEAKER1] Ho <SE>[Laughter]</SE>",
        "[SPEAKER0] Well.\nYes.",
    ]
    assert texts(split(text, chunk_method="speaker", chunk_max_turns=2)) == [
        "[SPEAKER0] Hi.\n[SPEAKER1] Ho <SE>[Laughter]</SE>",
        "[SPEAKER0] Well.\nYes.",
    ]
    assert texts(split("No tags. None.", chunk_method="speaker")) == ["No tags. None."]
    assert len(split(f"[SPEAKER0] {LONG}\n[SPEAKER1] Oh.", chunk_method="speaker")) == 5  # a turn that is too long


def test_a_text_without_words_is_refused():
    with pytest.raises(InputError, match="text 0 has no words"):
        split("...")


def letters(text: str) -> str:
    return "".join(filter(str.isalnum, SPEAKER_TAG.sub("", text)))


def test_no_letter_of_any_text_is_lost():
    atoms = (
        'word|it\'s|3.5|1,234|Mr.|U.S.|"Yes!"|(ok)|\u4f60\u597d|\u3002|\uff0c|\u2026|\u30c6\u30b9\u30c8|\ud55c\uad6d|'
        "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35|\u0935\u093e\u0915\u094d\u092f|\u0964|\u0645\u0631\u062d\u0628\u0627|\u061f|.|"
        ",|!|;|\n|\n\n|\u2028|\u200b|[laugh]|[SPEAKER0]|[speaker 1]|[|]|<|\U0001f600|e\u0301|-|* * *|2)|\x00"
    ).split("|")
    generator = random.Random(0)
    for _ in range(200):
        text = generator.choice(["", " "]).join(generator.choices(atoms, k=generator.randrange(1, 60)))
        fields = {
            "chunk_method": generator.choice(["word", "speaker"]),
            "chunk_max_words": generator.choice([1, 4, 9]),
        }
        try:
            (whole,) = texts(split(text, chunk_method="none"))
        except InputError as error:  # a text or a turn without words
            assert "no words" in str(error)
            continue
        chunks = texts(split(text, **fields))
        assert letters("".join(chunks)) == letters(whole), (text, fields)
        assert all(map(letters, chunks)), (text, fields)
