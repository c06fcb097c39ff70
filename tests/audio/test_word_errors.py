import random
import socket
import string

import numpy as np
import pytest

from higgs_recipes.audio.word_errors import (
    CER,
    WER,
    ErrorCounts,
    bootstrap_interval,
    corpus_errors,
    utterance_errors,
)
from higgs_recipes.errors import InputError
from higgs_recipes.normalizers import NORMALIZERS


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
    words = utterance_errors(references, predictions, normalizer="none")
    assert [errors.edits for errors in words] == [edit_distance(r.split(), p.split()) for r, p in pairs]
    assert [errors.length for errors in words] == [len(reference.split()) for reference in references]
    characters = utterance_errors(references, predictions, normalizer="none", unit="character")
    assert [errors.edits for errors in characters] == [edit_distance(list(r), list(p)) for r, p in pairs]
    assert [errors.length for errors in characters] == [len(reference) for reference in references]


@pytest.mark.parametrize("unit", ["word", "character"])
def test_corpus_errors_are_the_sum_over_utterances(unit):
    references, predictions = [*random_sentences(30, seed=1), ""], [*random_sentences(30, seed=2), "a"]
    errors = utterance_errors(references, predictions, normalizer="none", unit=unit)
    assert corpus_errors(references, predictions, normalizer="none", unit=unit) == ErrorCounts(
        edits=sum(counts.edits for counts in errors), length=sum(counts.length for counts in errors), skipped=1
    )


def test_the_rate_is_edits_over_words_and_not_a_mean_of_rates():
    errors = corpus_errors(["a", "a b c d e f g h i"], ["b", "a b c d e f g h i"], normalizer="none")
    assert errors == ErrorCounts(edits=1, length=10) and errors.rate == 0.1


def test_references_that_are_empty_after_normalization_are_skipped_and_counted():
    errors = corpus_errors(["...", "", "yes"], ["noise", "more noise", "yes"], normalizer="basic")
    assert errors == ErrorCounts(edits=0, length=1, skipped=2)


def test_without_scored_references_there_is_no_rate():
    assert corpus_errors([], [], normalizer="none").rate is None
    assert corpus_errors(["?"], ["?"], normalizer="basic").rate is None
    assert WER().compute(references=["?"], predictions=["?"], normalizer="basic")["wer"] is None
    assert CER().compute(references=["?"], predictions=["?"], normalizer="basic")["cer"] is None
    assert bootstrap_interval([], seed=0) is None
    assert bootstrap_interval([(0, 0)], seed=0) is None


def test_unknown_normalizers_and_lists_of_different_length_are_refused():
    with pytest.raises(InputError, match="unknown normalizer 'whisper': use one of none, basic, whisper_en_no"):
        corpus_errors(["a"], ["a"], normalizer="whisper")
    with pytest.raises(InputError, match="2 references but 1 predictions: give one for each"):
        corpus_errors(["a", "b"], ["a"], normalizer="none")


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
    errors = corpus_errors(["你好世界。"], ["你好，是界"], normalizer="seed_tts_zh", unit=unit)
    assert errors == ErrorCounts(edits=1, length=4)


def test_insertions_can_raise_the_rate_above_one():
    assert corpus_errors(["a"], ["a b c d"], normalizer="none").rate == 3.0


def test_metrics_need_no_network_and_no_cache_file(monkeypatch, tmp_path):
    def no_network(*args):
        raise AssertionError("a metric opened a connection")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    wer, cer = WER(cache_dir=str(tmp_path)), CER(cache_dir=str(tmp_path))
    pair = {"references": ["The cat sat.", "ok"], "predictions": ["the cat sat", "okay"]}
    assert wer.compute(**pair) == {"wer": 3 / 4, "edits": 3, "words": 4, "skipped": 0}
    assert wer.compute(**pair, normalizer="basic") == {"wer": 1 / 4, "edits": 1, "words": 4, "skipped": 0}
    assert cer.compute(**pair, normalizer="basic") == {"cer": 2 / 13, "edits": 2, "characters": 13, "skipped": 0}
    for reference, prediction in zip(pair["references"], pair["predictions"], strict=True):
        wer.add(references=reference, predictions=prediction)
    assert wer.compute(normalizer="basic")["wer"] == 1 / 4
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_bootstrap_depends_only_on_values_and_seed():
    values = np.random.default_rng(3).random(40).tolist()
    assert bootstrap_interval(values, seed=5) == bootstrap_interval(values, seed=5)
    assert bootstrap_interval(values, seed=5) != bootstrap_interval(values, seed=6)


def test_bootstrap_of_a_mean_is_near_the_normal_interval():
    values = np.random.default_rng(0).normal(size=400)
    low, high = bootstrap_interval(values.tolist(), seed=0)
    half_width = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half_width, abs=0.02)
    assert high == pytest.approx(values.mean() + half_width, abs=0.02)


def test_bootstrap_of_pairs_resamples_utterances_and_divides_sums():
    pairs = [(0, 10), (5, 5), (2, 20), (0, 0)]
    rng = np.random.default_rng(7)
    rates = []
    for _ in range(200):
        resampled = [pairs[index] for index in rng.integers(3, size=3)]
        rates.append(sum(edits for edits, _ in resampled) / sum(length for _, length in resampled))
    expected = np.quantile(rates, [0.05, 0.95])
    assert bootstrap_interval(pairs, seed=7, num_resamples=200, level=0.9) == pytest.approx(tuple(expected))


def test_bootstrap_refuses_values_that_are_not_finite():
    with pytest.raises(InputError, match="a value is not finite; leave out what was not scored"):
        bootstrap_interval([1.0, float("nan")], seed=0)
