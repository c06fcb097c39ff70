"""Transcripts are normalized and split exactly as by the reference implementation."""

import json

import pytest

from higgs_recipes.errors import InputError
from higgs_recipes.text import chunk_transcript, normalize_transcript
from tests.helpers.tiny import GOLDEN


CASES = json.loads((GOLDEN / "text.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", CASES["normalise"], ids=lambda case: case["text"][:20])
def test_normalized_text_equals_the_reference(case):
    assert normalize_transcript(case["text"]) == case["expected"]


@pytest.mark.parametrize("case", CASES["chunk"], ids=lambda case: f"{case['method']}-{case['text'][:10]}")
def test_chunks_equal_the_reference(case):
    limits = {"max_words": case.get("max_word_num", 200), "max_turns": case.get("max_num_turns", 1)}
    assert chunk_transcript(case["text"], method=case["method"], **limits) == case["expected"]


@pytest.mark.parametrize("case", CASES["normalise"], ids=lambda case: case["text"][:20])
def test_normalization_is_idempotent(case):
    assert normalize_transcript(case["expected"]) == case["expected"]


@pytest.mark.parametrize("text", ["", "  \n\t ", "（）", "()"])
def test_empty_transcript_is_refused(text):
    with pytest.raises(InputError, match="empty transcript: add text or remove the row"):
        normalize_transcript(text)


def test_humming_start_follows_the_exception_of_the_reference():
    assert normalize_transcript("[humming start] hm [humming end]") == "<SE>[Humming]</SE> hm <SE_e>[Humming]</SE_e>"


def test_word_chunks_keep_every_word():
    words = [f"w{index}" for index in range(50)]
    text = " ".join(words[:20]) + "\n\n" + " ".join(words[20:])
    chunks = chunk_transcript(text, method="word", max_words=7)
    assert " ".join(chunks).split() == words
    assert max(len(chunk.split()) for chunk in chunks) == 7


def test_chinese_is_split_by_character_and_never_inside_a_tag():
    text = "大家好,我是火君.<SE>[Laughter]</SE>我居住在上海,iPhone很好."
    chunks = chunk_transcript(text, method="word", max_words=4)
    assert "".join(chunks) == text + "\n\n"
    assert chunks == ["大家好,我", "是火君.<SE>[Laughter]</SE>", "我居住在", "上海,iPhone很", "好.\n\n"]


def test_blank_turns_and_paragraphs_give_no_chunk():
    assert chunk_transcript("\n[SPEAKER0] a\n\n[SPEAKER1] b\n", method="speaker") == ["[SPEAKER0] a", "[SPEAKER1] b"]
    assert chunk_transcript("a\n\n\n\nb", method="word") == ["a\n\n", "b\n\n"]


def test_unknown_method_and_limits_below_one_are_refused():
    with pytest.raises(InputError, match='unknown chunk method \'sentence\': use None, "speaker" or "word"'):
        chunk_transcript("a", method="sentence")
    with pytest.raises(InputError, match="max_words and max_turns must be at least 1, got 0 and 1"):
        chunk_transcript("a", method="word", max_words=0)
