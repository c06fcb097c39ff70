import math

from higgs_recipes.audio.word_errors import ErrorCounts
from higgs_recipes.evaluation.scores import corpus_rate, error_fields, mean_score, share_score


def test_what_has_no_score_is_counted_and_left_out():
    mean = mean_score([1.0, None, 3.0], low=0.0, high=math.inf)
    assert (mean["value"], mean["n"], mean["skipped"]) == (2.0, 2, 1)
    share = share_score([True, None, False, True])
    assert (share["value"], share["n"], share["skipped"]) == (2 / 3, 3, 1)
    rate = corpus_rate([ErrorCounts(1, 4), ErrorCounts(0, 0, skipped=1)])
    assert (rate["value"], rate["n"], rate["skipped"]) == (0.25, 1, 1)


def test_nothing_has_no_value_and_no_interval():
    for score in (mean_score([], low=0.0, high=1.0), share_score([None]), corpus_rate([])):
        assert score["value"] is None and score["low"] is None and score["note"].startswith("too few: 0")


def test_edits_and_lengths_of_a_clip_are_named():
    fields = error_fields(ErrorCounts(1, 4), ErrorCounts(2, 20))
    assert fields == {"edits": 1, "words": 4, "character_edits": 2, "characters": 20}
