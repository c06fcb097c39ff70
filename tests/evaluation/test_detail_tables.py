from higgs_recipes.evaluation.detail_tables import detail_tables
from higgs_recipes.evaluation.report import render_html, render_markdown
from higgs_recipes.metrics_schema import SYSTEMS
from tests.helpers.evaluation_record import metrics


def tables(record: dict) -> dict[str, dict]:
    return {table["key"]: table for table in detail_tables(record)}


def test_the_comparison_has_a_line_for_each_metric_and_the_changed_codes():
    table = tables(metrics())["comparison"]
    assert table["lines"] == [
        ["word error rate (WER)", "-12.5 points", "-18.8 points to -6.2 points", "2", "better"],
        ["duration, generated / real", "+0.000", "-0.250 to +0.250", "2", "no difference shown"],
    ]
    assert "75.0 % of the codes differ between base and fine-tuned model on the same seeds" in table["note"]


def test_a_difference_without_interval_gives_the_reason():
    record = metrics()
    missing = {"low": None, "high": None, "note": "too few: 2, an interval needs 10"}
    record["comparison"]["wer"] |= missing | {"verdict": "too few texts to tell"}
    record["comparison"]["duration_ratio"] |= missing | {"value": None}
    wer, ratio = tables(record)["comparison"]["lines"]
    assert wer[2:] == ["none: too few: 2, an interval needs 10", "2", "too few texts to tell"]
    assert ratio[1] == "not measured"


def test_a_base_model_alone_has_no_details():
    assert tables(metrics(comparison=None, codes=None)) == {}


def test_invented_transcripts_are_counted_in_both_reports():
    record = metrics()
    record["transcript_flags"]["finetuned"] |= {"loop": 2, "silence": 1}
    record["clips"][0]["finetuned"]["flags"] = ["loop"]
    table = tables(record)["transcripts"]
    assert table["lines"][-1] == [SYSTEMS["finetuned"], "1", "0", "2", "2"]
    wavs = {clip[system]["wav"]: b"" for clip in record["clips"] for system in SYSTEMS}
    for page in (render_markdown(record), render_html(record, wavs, run=None)):
        assert "Invented transcripts" in page and "Fine-tuned against base" in page
        assert page.count("a phrase 4 or more times in a row that the text does not repeat") == 2


BENCHMARK = {
    "name": "Seed-TTS-eval en",
    "headline": "wer_macro",
    "note": "what it is",
    "warnings": ["Not the models of the benchmark."],
    "anchors": [{"name": "human", "source": "the paper", "scores": {"wer_macro": 0.0214, "prompt_similarity": 0.734}}],
    "anchors_note": "as published",
}


def test_a_benchmark_has_its_name_its_main_score_and_the_published_ones():
    record = metrics(benchmark=BENCHMARK)
    for scores in record["rows"].values():
        scores["wer_macro"] = scores["wer"] | {"value": 0.03125}
    table = tables(record)["anchors"]
    assert table["lines"][0] == ["real recordings", "3.12\u00a0%", "–", "this run"]
    assert table["lines"][-1] == ["human", "2.14\u00a0%", "73.40", "the paper"]
    page = render_markdown(record)
    assert page.startswith("# Seed-TTS-eval en: voice\n") and "WER, mean over texts on 2 texts: real" in page
    assert "**Not the models of the benchmark.**" in page and "what it is" in page and "as published" in page
