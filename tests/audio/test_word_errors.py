import random
import socket
import string

import pytest

from higgs_recipes.audio.word_errors import CER, WER, ErrorCounts, corpus_errors, utterance_errors
from higgs_recipes.errors import InputError
from higgs_recipes.normalizers import NORMALIZERS, choose_normalizer


def errors_of(references, predictions, *, normalizer="none", language="en", unit="word"):
    rules = [choose_normalizer(normalizer, language)] * len(references)
    return corpus_errors(references, predictions, rules=rules, unit=unit)


def edit_distance(reference: list, prediction: list) -> int:
    """Levenshtein distance by dynamic programming, row by row."""
    row = list(range(len(prediction) + 1))
    for i, expected in enumerate(reference, start=1):
        above, row = row, [i]
        for j, got in enumerate(prediction, start=1):
            row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (expected != got)))
    return row[-1]


def random_sentences(count: int, *, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(["a", "bb", "c", "dd"], k=rng.randint(1, 9))) for _ in range(count)]


def test_edits_are_the_edit_distance_in_words_and_in_characters():
    references, predictions = random_sentences(30, seed=1), random_sentences(30, seed=2)
    pairs = list(zip(references, predictions, strict=True))
    rules = [choose_normalizer("none", "en")] * len(pairs)
    words = utterance_errors(references, predictions, rules=rules)
    assert [errors.edits for errors in words] == [edit_distance(r.split(), p.split()) for r, p in pairs]
    assert [errors.length for errors in words] == [len(reference.split()) for reference in references]
    characters = utterance_errors(references, predictions, rules=rules, unit="character")
    assert [errors.edits for errors in characters] == [edit_distance(list(r), list(p)) for r, p in pairs]
    assert [errors.length for errors in characters] == [len(reference) for reference in references]


@pytest.mark.parametrize("unit", ["word", "character"])
def test_corpus_errors_are_the_sum_over_utterances(unit):
    references, predictions = [*random_sentences(30, seed=1), ""], [*random_sentences(30, seed=2), "a"]
    rules = [choose_normalizer("none", "en")] * len(references)
    errors = utterance_errors(references, predictions, rules=rules, unit=unit)
    assert corpus_errors(references, predictions, rules=rules, unit=unit) == ErrorCounts(
        edits=sum(counts.edits for counts in errors), length=sum(counts.length for counts in errors), skipped=1
    )


def test_the_rate_is_edits_over_words_and_not_a_mean_of_rates():
    errors = errors_of(["a", "a b c d e f g h i"], ["b", "a b c d e f g h i"])
    assert errors == ErrorCounts(edits=1, length=10) and errors.rate == 0.1


def test_references_that_are_empty_after_normalization_are_skipped_and_counted():
    errors = errors_of(["...", "", "yes"], ["noise", "more noise", "yes"], normalizer="basic")
    assert errors == ErrorCounts(edits=0, length=1, skipped=2)


def test_without_scored_references_there_is_no_rate():
    assert errors_of([], []).rate is None
    assert errors_of(["?"], ["?"], normalizer="basic").rate is None
    assert WER().compute(references=["?"], predictions=["?"], normalizer="basic")["wer"] is None
    assert CER().compute(references=["?"], predictions=["?"], normalizer="basic")["cer"] is None


def test_unknown_normalizers_and_lists_of_different_length_are_refused():
    with pytest.raises(InputError, match="unknown normalizer 'whisper': use one of auto, none, basic, whisper_en"):
        WER().compute(references=["a"], predictions=["a"], normalizer="whisper")
    rule = choose_normalizer("none", "en")
    with pytest.raises(InputError, match="2 references, 1 predictions and 2 text rules: give one of each"):
        corpus_errors(["a", "b"], ["a"], rules=[rule, rule])
    with pytest.raises(InputError, match="1 references, 1 predictions and 0 text rules: give one of each"):
        utterance_errors(["a"], ["a"], rules=[])


def test_each_utterance_is_counted_in_the_unit_of_its_own_rule():
    """Worked out by hand: one wrong word of three, one wrong character of four, one wrong tone of three words."""
    rules = [
        choose_normalizer("auto", "en"),
        choose_normalizer("characters", "zh"),
        choose_normalizer("auto", "vi"),
        choose_normalizer("auto", "ko"),
    ]
    references = ["The cat sat.", "妈妈骑马。", "ma má mà", "할 수 있다."]
    predictions = ["the cap sat", "妈妈骑妈", "ma má mã", "할수있다"]
    words = utterance_errors(references, predictions, rules=rules)
    assert [(counts.edits, counts.length) for counts in words] == [(1, 3), (1, 4), (1, 3), (0, 4)]
    characters = utterance_errors(references, predictions, rules=rules, unit="character")
    # Spaces between words are characters: "the cat sat" has 11, "ma má mà" 8.
    assert [(counts.edits, counts.length) for counts in characters] == [(1, 11), (1, 4), (1, 8), (0, 4)]
    assert corpus_errors(references, predictions, rules=rules) == ErrorCounts(edits=3, length=14)


@pytest.mark.parametrize("language", ["en", "zh", "th", "vi"])
def test_texts_of_punctuation_and_event_tags_are_skipped(language):
    rules = [choose_normalizer("auto" if language != "zh" else "characters", language)] * 3
    errors = utterance_errors(["...", "<SE>[Laughter]</SE>", "\u200b"], ["hm"] * 3, rules=rules)
    assert errors == [ErrorCounts(0, 0, skipped=1)] * 3


@pytest.mark.parametrize(
    "name, text, expected",
    [
        ("none", "It's 5 O'Clock!", "It's 5 O'Clock!"),
        ("basic", "It's “five” [noise] o'clock!", "it s five o clock "),
        ("whisper_en_no_spelling", "Mr. Park's colour won't cost twenty-five dollars, um.", None),
        ("seed_tts_en", "“It's   Mr. Park's”—No, really…", "it's  mr park'sno really"),
        ("seed_tts_zh", "你好，世界！ 「A's」", "你 好 世 界   A ' s"),
    ],
)
def test_normalizers(name, text, expected):
    if expected is None:
        # Contractions, titles, numbers and fillers as in Whisper; the British spelling stays, hence the name.
        expected = "mister park is colour will not cost $25"
    assert NORMALIZERS[name](text) == expected


@pytest.mark.parametrize("name", ["seed_tts_en", "seed_tts_zh"])
def test_seed_tts_deletes_all_punctuation_but_the_apostrophe(name):
    assert NORMALIZERS[name](string.punctuation + "。，、；：？！“”‘’（）《》〈〉【】—…·～＇｡") == "'"


@pytest.mark.parametrize("unit", ["word", "character"])
def test_seed_tts_zh_counts_characters(unit):
    errors = errors_of(["你好世界。"], ["你好，是界"], normalizer="seed_tts_zh", language="zh", unit=unit)
    assert errors == ErrorCounts(edits=1, length=4)


def test_insertions_can_raise_the_rate_above_one():
    assert errors_of(["a"], ["a b c d"]).rate == 3.0


def test_metrics_need_no_network_and_no_cache_file(monkeypatch, tmp_path):
    def no_network(*args):
        raise AssertionError("a metric opened a connection")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    wer, cer = WER(cache_dir=str(tmp_path)), CER(cache_dir=str(tmp_path))
    pair = {"references": ["The cat sat.", "ok"], "predictions": ["the cat sat", "okay"]}
    assert wer.compute(**pair) == {"wer": 3 / 4, "edits": 3, "words": 4, "skipped": 0}
    assert wer.compute(references=["妈妈"], predictions=["妈马"], normalizer="auto", language="ja")["wer"] == 1 / 2
    assert wer.compute(**pair, normalizer="basic") == {"wer": 1 / 4, "edits": 1, "words": 4, "skipped": 0}
    assert cer.compute(**pair, normalizer="basic") == {"cer": 2 / 13, "edits": 2, "characters": 13, "skipped": 0}
    for reference, prediction in zip(pair["references"], pair["predictions"], strict=True):
        wer.add(references=reference, predictions=prediction)
    assert wer.compute(normalizer="basic")["wer"] == 1 / 4
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
