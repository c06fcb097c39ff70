"""Error rates, normalizers, Seed-TTS-eval's score and bootstrap intervals."""

import random
import socket
import string

import numpy as np
import pytest

from higgs_recipes.audio.word_errors import (
    CER,
    WER,
    WordErrors,
    bootstrap_interval,
    character_errors,
    seed_tts_score,
    utterance_errors,
    word_errors,
)
from higgs_recipes.errors import InputError
from higgs_recipes.normalizers import NORMALIZERS


def edit_distance(reference: list, prediction: list) -> int:
    """The textbook recursion, row by row."""
    row = list(range(len(prediction) + 1))
    for i, expected in enumerate(reference, start=1):
        above, row = row, [i]
        for j, got in enumerate(prediction, start=1):
            row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (expected != got)))
    return row[-1]


def drawn_sentences(count: int, *, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(["a", "bb", "c", "dd"], k=draw.randint(1, 9))) for _ in range(count)]


def test_edits_are_the_edit_distance_in_words_and_in_characters():
    references, predictions = drawn_sentences(30, seed=1), drawn_sentences(30, seed=2)
    pairs = list(zip(references, predictions, strict=True))
    words = utterance_errors(references, predictions, normalizer="none")
    assert [each.edits for each in words] == [edit_distance(r.split(), p.split()) for r, p in pairs]
    assert [each.words for each in words] == [len(reference.split()) for reference in references]
    characters = utterance_errors(references, predictions, normalizer="none", unit="character")
    assert [each.edits for each in characters] == [edit_distance(list(r), list(p)) for r, p in pairs]
    assert [each.words for each in characters] == [len(reference) for reference in references]
    assert word_errors(references, predictions, normalizer="none") == sum(words, WordErrors(0, 0))
    assert character_errors(references, predictions, normalizer="none") == sum(characters, WordErrors(0, 0))


def test_the_rate_is_edits_over_words_and_not_a_mean_of_rates():
    errors = word_errors(["a", "a b c d e f g h i"], ["b", "a b c d e f g h i"], normalizer="none")
    assert errors == WordErrors(edits=1, words=10) and errors.rate == 0.1


def test_a_reference_that_is_empty_once_normalised_is_skipped_and_counted():
    errors = word_errors(["...", "", "yes"], ["noise", "more noise", "yes"], normalizer="basic")
    assert errors == WordErrors(edits=0, words=1, skipped=2)


def test_nothing_scored_is_no_number():
    assert word_errors([], [], normalizer="none").rate is None
    assert word_errors(["?"], ["?"], normalizer="basic").rate is None
    assert WER().compute(references=["?"], predictions=["?"], normalizer="basic")["wer"] is None
    assert seed_tts_score(["!"], ["a"], normalizer="seed_tts_en").wer_percent is None
    assert bootstrap_interval([], seed=0) is None
    assert bootstrap_interval([(0, 0)], seed=0) is None


def test_an_unknown_normaliser_and_unequal_lists_are_refused():
    with pytest.raises(InputError, match="normalizer 'whisper' does not exist; use one of none, basic, whisper_en_no"):
        word_errors(["a"], ["a"], normalizer="whisper")
    with pytest.raises(InputError, match="1 predictions for 2 references; give one for each"):
        word_errors(["a", "b"], ["a"], normalizer="none")


@pytest.mark.parametrize(
    "name, text, expected",
    [
        ("none", "It's 5 O'Clock!", "It's 5 O'Clock!"),
        ("basic", "It's “five” [noise] o'clock!", "it s five o clock "),
        ("whisper_en_no_spelling", "Mr. Park's color won't cost twenty-five dollars, um.", None),
        ("seed_tts_en", "“It's   Mr. Park's”—No, really…", "it's  mr park'sno really"),
        ("seed_tts_zh", "你好，世界！ 「A's」", "你 好 世 界   A ' s"),
    ],
)
def test_normalisers(name, text, expected):
    if expected is None:
        # Contractions, titles, numbers and fillers as Whisper has them; the British spelling stays, as the name says.
        expected = "mister park is color will not cost $25"
    assert NORMALIZERS[name](text) == expected


@pytest.mark.parametrize("name", ["seed_tts_en", "seed_tts_zh"])
def test_seed_tts_deletes_all_punctuation_but_the_apostrophe(name):
    assert NORMALIZERS[name](string.punctuation + "。，、；：？！“”‘’（）《》〈〉【】—…·～＇｡") == "'"


def test_seed_tts_zh_scores_characters():
    assert word_errors(["你好世界。"], ["你好，是界"], normalizer="seed_tts_zh") == WordErrors(edits=1, words=4)
    assert character_errors(["你好世界。"], ["你好，是界"], normalizer="seed_tts_zh") == WordErrors(edits=1, words=4)


def test_seed_tts_score_is_a_mean_over_utterances_and_a_missing_one_is_100():
    references = ["one two three four", "five", "six seven", "eight", "..."]
    predictions = ["One two, three four.", "nine", "six eleven", None, None]
    score = seed_tts_score(references, predictions, normalizer="seed_tts_en")
    assert score.wer_percent == (0 + 100 + 50 + 100) / 4
    assert score.corpus_wer_percent == 100 * 3 / 8
    assert score.above_half_percent == 50
    assert (score.scored, score.missing, score.skipped) == (4, 1, 1)


def test_a_run_on_prediction_may_cost_more_than_100():
    assert seed_tts_score(["a"], ["a b c d"], normalizer="seed_tts_en").wer_percent == 300


def test_evaluate_metrics_work_without_any_connection(monkeypatch, tmp_path):
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


def test_bootstrap_depends_on_the_seed_alone():
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
    draw = np.random.default_rng(7)
    rates = []
    for _ in range(200):
        drawn = [pairs[index] for index in draw.integers(3, size=3)]
        rates.append(sum(edits for edits, _ in drawn) / sum(words for _, words in drawn))
    expected = np.quantile(rates, [0.05, 0.95])
    assert bootstrap_interval(pairs, seed=7, num_resamples=200, level=0.9) == pytest.approx(tuple(expected))


def test_bootstrap_refuses_what_was_not_scored():
    with pytest.raises(InputError, match="not finite; leave out what was not scored"):
        bootstrap_interval([1.0, float("nan")], seed=0)
