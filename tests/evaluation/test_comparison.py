import numpy as np
import pytest
import torch

from higgs_recipes.evaluation.comparison import (
    compare_codes,
    compare_models,
    describe_codes,
    paired_difference,
)
from higgs_recipes.evaluation.intervals import difference_interval
from higgs_recipes.metrics_schema import no_effect_warning


def entry(**fields) -> dict:
    clip = {"wer": 0.1, "edits": 1, "words": 10, "character_edits": 2, "characters": 40}
    return clip | {"similarity": 0.5, "stopped": True, "seconds": 2.0} | fields


def compare(base: list[dict], finetuned: list[dict], *metrics: str) -> dict:
    rows = {system: dict.fromkeys(metrics) for system in ("real", "base", "finetuned")}
    clips = [
        {"real": entry(seconds=4.0), "base": one, "finetuned": other}
        for one, other in zip(base, finetuned, strict=True)
    ]
    return compare_models(rows, clips)


def test_a_rate_is_compared_over_all_words_and_a_mean_over_clips():
    base = [entry(edits=2, words=10, wer=0.2, similarity=0.4), entry(edits=2, words=30, wer=2 / 30, similarity=0.6)]
    tuned = [entry(edits=1, words=10, wer=0.1, similarity=0.5), entry(edits=2, words=30, wer=2 / 30, similarity=0.9)]
    found = compare(base, tuned, "wer", "wer_macro", "similarity", "cer", "stop_rate", "duration_ratio", "turn_voice")
    values = {name: round(score["value"], 6) for name, score in found.items()}
    assert values == {
        "wer": -0.025,
        "wer_macro": -0.05,
        "similarity": 0.2,
        "cer": 0.0,
        "stop_rate": 0.0,
        "duration_ratio": 0.0,
    }
    assert found["wer"]["note"] == "too few: 2, an interval needs 10"
    assert found["wer"]["verdict"] == "too few texts to tell" and found["cer"]["verdict"] == "no difference shown"


def test_a_text_without_a_score_of_either_model_is_left_out():
    missing = entry(wer=None, words=0, edits=0, similarity=None)
    found = compare([entry(), missing, entry()], [entry(), entry(), missing], "wer", "wer_macro", "similarity")
    assert {name: score["n"] for name, score in found.items()} == {"wer": 1, "wer_macro": 1, "similarity": 1}


@pytest.mark.parametrize(
    "metric, change, verdict",
    [
        ("similarity", 0.2, "better"),
        ("similarity", -0.2, "worse"),
        ("wer_macro", 0.2, "worse"),
        ("wer_macro", -0.2, "better"),
        ("similarity", 0.0, "no difference shown"),
        ("duration_ratio", 0.2, "higher"),
    ],
)
def test_a_verdict_says_what_the_interval_shows(metric, change, verdict):
    noise = np.random.default_rng(0).normal(scale=0.02, size=40)
    base = [entry(wer=0.5, similarity=0.5, seconds=2.0) for _ in noise]
    finetuned = [
        entry(wer=0.5 + change + step, similarity=0.5 + change + step, seconds=2.0 + 4 * (change + step))
        for step in noise
    ]
    found = compare(base, finetuned, metric)[metric]
    assert found["verdict"] == verdict and found["low"] < found["value"] < found["high"]
    assert found["value"] == pytest.approx(change + noise.mean())


def test_pairing_makes_the_interval_narrower_than_that_of_unpaired_texts():
    hard = np.random.default_rng(1).uniform(0, 1, size=60)  # texts differ far more than the two models do
    steps = np.random.default_rng(2).normal(0.05, 0.02, size=60)
    paired = difference_interval([(step, 1.0) for step in steps], seed=0)
    unpaired = difference_interval([(one + step, 1.0) for one, step in zip(hard, steps, strict=True)], seed=0)
    assert paired.high - paired.low < 0.1 * (unpaired.high - unpaired.low)
    assert paired.low < 0.05 < paired.high


def test_the_interval_covers_the_difference_of_rates():
    rng = np.random.default_rng(3)
    covered = 0
    for sample in range(60):
        words = rng.integers(5, 20, size=60)
        base, finetuned = rng.binomial(words, 0.2), rng.binomial(words, 0.1)
        interval = difference_interval([*zip(finetuned - base, words, strict=True)], seed=sample)
        covered += interval.low <= -0.1 <= interval.high
    assert 51 <= covered <= 60


def test_one_system_alone_is_not_compared():
    assert compare_models({"base": {"wer": None}}, []) is None
    rows = {system: dict.fromkeys(["duration_ratio", "similarity"]) for system in ("base", "finetuned")}
    assert list(compare_models(rows, [{"base": entry(), "finetuned": entry()}])) == ["similarity"]


def test_changed_codes_are_counted_with_the_frames_that_only_one_clip_has():
    codes = torch.arange(16).reshape(2, 8)
    changed = codes.clone()
    changed[1, :4] += 1
    longer = torch.cat([codes, codes])
    found = compare_codes([codes, codes, codes, longer], [codes, changed, longer, codes])
    assert found == {"changed": pytest.approx((0 + 0.25 + 0.5 + 0.5) / 4), "identical": 1, "n": 4}
    assert "31.2 % of the codes differ" in describe_codes(found)


def test_models_that_speak_alike_are_warned_of():
    codes = [torch.zeros(3, 8, dtype=torch.int16)]
    warning = no_effect_warning(compare_codes(codes, codes))
    assert warning.startswith("The fine-tuning has no effect: on all 1 texts")
    assert no_effect_warning({"changed": 0.01, "identical": 19, "n": 20}) is None and no_effect_warning(None) is None


def test_differences_of_zero_weight_have_no_value():
    assert paired_difference([], better="lower")["value"] is None
