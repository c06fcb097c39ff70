"""Shares are shown as percentages, other metrics as they are."""

from higgs_recipes.metrics_schema import METRICS


def test_shares_are_shown_as_percentages():
    assert METRICS["wer"].factor == 100 and METRICS["similarity"].factor == 1
    assert all(metric.card_title.endswith("%") is metric.is_share for metric in METRICS.values())
