import pytest

from higgs_recipes.evaluation.report_tables import cell_text, cells, grouped_tables, metrics_of, titles_of
from tests.helpers.evaluation_record import metrics, score, two_speaker_metrics, without_interval


SCORES = {
    "real": {"wer": score(0.1, n=4), "similarity": score(None, n=0)},
    "base": {"stop_rate": score(1.0, n=4), "wer": score(0.2, n=3), "similarity": score(0.5, n=4)},
}


def test_columns_are_the_metrics_of_any_system_in_the_order_of_the_schema():
    assert metrics_of(SCORES) == ["wer", "similarity", "stop_rate"]
    assert titles_of(SCORES) == ["word error rate (WER)", "speaker similarity", "stopped by itself"]


def test_a_cell_has_value_interval_and_n_in_the_unit_of_its_metric():
    assert [cell["text"] for cell in cells(SCORES, "base")] == ["20.0\u00a0%", "0.500", "100.0\u00a0%"]
    assert [cell["interval"] for cell in cells(SCORES, "base")] == [
        "10.0 to 30.0\u00a0%, n=3",
        "0.250 to 0.750, n=4",
        "50.0 to 150.0\u00a0%, n=4",
    ]
    assert cell_text(cells(SCORES, "base")[1]) == "0.500 (0.250 to 0.750, n=4)"


def test_a_missing_score_differs_from_a_metric_that_does_not_apply():
    _, similarity, stop_rate = cells(SCORES, "real")
    assert (similarity["text"], cell_text(similarity)) == (None, "not measured")
    assert (stop_rate["text"], cell_text(stop_rate)) == (None, "–")


def test_bars_share_the_scale_of_their_column():
    real, base = cells(SCORES, "real")[0]["bar"], cells(SCORES, "base")[0]["bar"]
    # The largest upper bound of the column, 30 %, is 100 % of its width.
    assert [real[name] for name in ("left", "at", "width")] == pytest.approx([16.7, 33.3, 33.3])
    assert [base[name] for name in ("left", "at", "width")] == pytest.approx([33.3, 66.7, 66.7])


def test_a_bar_at_zero_has_no_width():
    (cell,) = cells({"real": {"wer": {"value": 0.0, "low": 0.0, "high": 0.0, "n": 2}}}, "real")
    assert cell["bar"] == {"left": 0.0, "at": 0.0, "width": 0.0}


def test_a_score_without_an_interval_shows_why_and_has_no_bar():
    scores = {"real": {"wer": without_interval(0.1, n=4)}, "base": {"wer": score(0.2, n=12)}}
    (cell,) = cells(scores, "real")
    assert (cell["text"], cell["bar"]) == ("10.0\u00a0%", None)
    assert cell_text(cell) == "10.0\u00a0% (n=4, no interval: too few: 4, an interval needs 10)"
    assert cells(scores, "base")[0]["bar"]["width"] > 0


def test_grouped_tables_have_a_line_per_group_and_system():
    (table,) = grouped_tables(two_speaker_metrics())
    assert (table["key"], table["title"], table["head"]) == ("by_speaker", "By speaker", "speaker")
    assert [group["value"] for group in table["groups"]] == ["heart", "rms"]
    for group in table["groups"]:
        assert [line["key"] for line in group["lines"]] == ["real", "codec", "base", "finetuned"]
        assert {len(line["cells"]) for line in group["lines"]} == {len(table["columns"])}


def test_a_group_shows_only_the_systems_that_it_has():
    rows = metrics()["rows"]
    without_adapter = {system: rows[system] for system in ("real", "codec", "base")}
    (table,) = grouped_tables(metrics(by_task={"cloning": without_adapter, "dialogue": without_adapter}))
    assert (table["key"], table["title"]) == ("by_task", "By task")
    assert [line["title"] for line in table["groups"][0]["lines"]][-1] == "base model"


def test_languages_have_a_table():
    rows = metrics()["rows"]
    (table,) = grouped_tables(metrics(by_language={"en": rows, "zh": rows}))
    assert (table["title"], [group["value"] for group in table["groups"]]) == ("By language", ["en", "zh"])


def test_without_groups_there_are_no_grouped_tables():
    assert grouped_tables(metrics()) == []
