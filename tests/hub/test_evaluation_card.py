import copy

import pytest
import yaml
from huggingface_hub import ModelCard

from higgs_recipes.errors import InputError
from higgs_recipes.hub.cards import adapter_card
from higgs_recipes.hub.evaluation_card import report_folder, update_evaluation
from tests.helpers.evaluation_record import metrics, score
from tests.helpers.records import METRICS, RUN


def test_scores_of_the_finetuned_model_are_the_model_index():
    card = ModelCard(adapter_card(RUN, name="tester/voice", metrics=METRICS))
    scores = [(score.metric_type, score.metric_name, score.metric_value) for score in card.data.eval_results]
    assert scores == [  # CER was not measured
        ("wer", "WER", 0.05),
        ("ge2e_cosine", "Speaker similarity (ge2e_cosine)", 0.875),
    ]
    assert {(score.task_type, score.dataset_name, score.dataset_split) for score in card.data.eval_results} == {
        ("text-to-speech", "tester/corpus", "test")
    }
    assert card.data.model_name == "tester/voice"
    assert "|  | WER % | CER % | similarity | stopped by itself % |\n" in card.text
    assert "| real recordings | 2 [1, 3], n=4 | not measured | not measured | not measured |\n" in card.text
    assert "| this model | 5 [4, 6], n=4 | not measured | 0.875 [0.8, 0.9], n=4 | 100 [100, 100], n=4 |" in card.text
    assert "- ASR model: openai/whisper-large-v3 @ asr123\n" in card.text
    assert "- texts: 4 scored, 1 skipped, held out\n" in card.text
    assert "- languages: en (5 texts, in words, normalizer whisper_en)\n" in card.text
    assert "Brackets: 95 % interval; n: number of scored clips." in card.text and "bootstrap" not in card.text
    assert "codec resynthesis" not in card.text


def test_the_first_texts_have_audio_players():
    hub = "https://huggingface.co/tester/voice/resolve/main/"
    clip = {row: {"wav": f"samples/0 {row}.wav"} for row in ("real", "codec", "base", "finetuned")}
    texts = ["<script>alert(1)</script>\n\n[a](b) & c", *"BCD"]
    metrics = METRICS | {"clips": [clip | {"text": text} for text in texts]}
    card = adapter_card(RUN, name="tester/voice", metrics=metrics)
    table = card.partition("<table>")[2].partition("</table>")[0]
    head, *lines = table.strip().splitlines()
    assert "<script>" not in card and "\n\n" not in table  # an empty line would end the block of HTML
    assert head == "<tr><th>text</th><th>real recordings</th><th>base model</th><th>this model</th></tr>"
    assert len(lines) == 3 and lines[0] == (
        "<tr><td>&lt;script&gt;alert(1)&lt;/script&gt; [a](b) &amp; c</td>"
        + "".join(
            f'<td><audio controls src="{hub}evaluation/samples/0%20{row}.wav"></audio></td>'
            for row in ("real", "base", "finetuned")
        )
        + "</tr>"
    )
    local = adapter_card(RUN, name="outputs/a/voice", metrics=metrics)
    assert '<audio controls src="evaluation/samples/0%20real.wav"></audio>' in local
    tricky = METRICS | {"clips": [clip | {"text": "A", "real": {"wav": 'a"><script>.wav'}}]}
    assert "<script>" not in adapter_card(RUN, name="tester/voice", metrics=tricky)


def test_the_scores_of_a_model_without_adapter_are_those_of_the_base_row():
    alone = METRICS | {"rows": {"base": METRICS["rows"]["base"]}, "adapter": None}
    card = ModelCard(update_evaluation("", alone, name="tester/whole"))
    assert [score.metric_value for score in card.data.eval_results] == [0.25, 0.5]
    assert "| this model | 25 [12.5, 50], n=4 |" in card.text and "base model" not in card.text

    silent = alone | {"rows": {"base": {"wer": {"value": None, "low": None, "high": None, "n": 0}}}}
    assert "model-index" not in update_evaluation("", silent, name="tester/whole")


def test_a_card_warns_of_texts_that_the_model_was_trained_on():
    card = update_evaluation("", METRICS | {"held_out": False, "split": "train"}, name="tester/voice")
    assert (
        "> **The model was trained on these texts: split train of tester/corpus is part of its training data." in card
    )
    assert "- texts: 4 scored, 1 skipped\n" in card and "held out" not in card
    shared = update_evaluation("", METRICS | {"shared_with_train": 1}, name="tester/voice")
    assert "> **1 of these 1 recordings are also in the train split of tester/corpus." in shared
    assert "trained on" not in update_evaluation("", METRICS, name="tester/voice").replace("was trained on that", "")


def test_a_score_without_an_interval_shows_why():
    metrics = copy.deepcopy(METRICS)
    few = {"low": None, "high": None, "note": "too few: 4, an interval needs 10"}
    metrics["rows"]["finetuned"]["wer"] |= few
    card = update_evaluation("", metrics, name="tester/voice")
    assert "| this model | 5, n=4, no interval: too few: 4, an interval needs 10 | not measured |" in card


def test_the_unit_of_a_language_is_in_the_model_index():
    languages = {"en": {"normalizer": "whisper_en", "unit": "word", "n": 2}}
    languages["zh"] = {"normalizer": "characters_simplified", "unit": "character", "n": 3}
    card = ModelCard(update_evaluation("", METRICS | {"languages": languages}, name="tester/voice"))
    (wer, _) = card.data.eval_results
    assert (wer.metric_type, wer.metric_name) == ("wer", "WER, in characters for zh")
    assert "zh (3 texts, in characters, normalizer characters_simplified)" in card.text


def test_an_update_keeps_the_rest_of_the_card():
    card = adapter_card(RUN, name="tester/voice").replace("tags:", "# a comment\nextra: [1, 2]\ntags:")
    card += "\nA paragraph by the author.\n"
    first = update_evaluation(card, METRICS, name="tester/voice")
    other = update_evaluation(
        first + "Another paragraph.\n", METRICS | {"dataset": "tester/other"}, name="tester/voice"
    )
    better = copy.deepcopy(METRICS)
    better["rows"]["finetuned"]["wer"]["value"] = 0.01
    last = update_evaluation(other, better, name="tester/voice")

    assert "A paragraph by the author.\n" in last and "Another paragraph.\n" in last
    assert last.count("## Evaluation") == 1
    header = yaml.safe_load(last.split("---\n")[1])
    before = yaml.safe_load(card.split("---\n")[1])
    index = header.pop("model-index")
    assert header == before
    wers = {result["dataset"]["name"]: result["metrics"][0]["value"] for result in index[0]["results"]}
    assert wers == {"tester/other": 0.05, "tester/corpus": 0.01}
    body = first.split("---\n", 2)[2]
    assert body.startswith(card.split("---\n", 2)[2].rstrip())


def test_an_empty_card_gets_metadata_and_the_section():
    card = update_evaluation("", METRICS, name="tester/voice")
    assert card.startswith("---\nmodel-index:\n- name: tester/voice\n") and card.count("## Evaluation\n") == 1


def test_a_missing_field_is_named():
    metrics = {field: value for field, value in METRICS.items() if field != "seeds"}
    with pytest.raises(InputError, match="metrics.json: field 'seeds' is missing"):
        update_evaluation("", metrics, name="tester/voice")


def test_a_benchmark_has_its_name_its_warnings_and_its_scores_in_the_card():
    benchmark = {"name": "Zero-shot voice cloning, en", "warnings": ["These are not scores of Seed-TTS-eval."]}
    record = metrics(benchmark=benchmark)
    record["rows"]["finetuned"] |= {"wer_macro": score(0.25, n=2), "prompt_similarity": score(0.5, n=2)}
    record["clips"][0]["real"]["wav"] = None
    card = update_evaluation("", record, name="me/voice")
    assert "- benchmark: Zero-shot voice cloning, en" in card
    assert "> **These are not scores of Seed-TTS-eval.**" in card and "<td>missing</td>" in card
    named = {score.metric_name: score.metric_value for score in ModelCard(card).data.eval_results}
    assert named["WER, mean over texts"] == 0.25 and named["Similarity to the prompt (ge2e_cosine)"] == 0.5
    assert card.count("## Evaluation: Zero-shot voice cloning, en") == 1
    del record["benchmark"]  # of an earlier version
    assert "benchmark" not in update_evaluation("", record, name="me/voice")


def test_the_card_says_what_the_paired_differences_show():
    card = update_evaluation("", metrics(), name="me/voice")
    assert (
        "Against the base model, paired by text: WER % -12.5 [-18.8, -6.25], better; duration ratio +0 "
        "[-0.25, +0.25], no difference shown." in card
    )
    few = {"wer": {"value": 0.5, "low": None, "high": None, "note": "too few", "n": 2, "verdict": "too few"}}
    card = update_evaluation("", metrics(comparison=few), name="me/voice")
    assert "paired by text: no difference has an interval." in card and "no effect" not in card
    same = {"changed": 0.0, "identical": 2, "n": 2}
    assert "The fine-tuning has no effect" in update_evaluation("", metrics(codes=same), name="me/voice")
    alone = update_evaluation("", metrics(comparison=None, codes=None, adapter=None), name="me/voice")
    assert "Against the base model" not in alone


def test_reports_of_benchmarks_and_of_the_voice_have_a_section_and_a_folder_each():
    en, zh = (metrics(benchmark={"id": name, "name": name, "warnings": []}) for name in ("seed-en", "seed-zh"))
    assert [report_folder(record) for record in (en, zh, metrics())] == [
        *("evaluation/seed-en", "evaluation/seed-zh", "evaluation"),
    ]
    card = ""
    for record in (metrics(), en, zh, en, metrics()):
        card = update_evaluation(card, record, name="me/voice", folder=report_folder(record))
    for title in ("## Evaluation\n", "## Evaluation: seed-en\n", "## Evaluation: seed-zh\n"):
        assert card.count(title) == 1, title
    assert "/resolve/main/evaluation/seed-en/samples/" in card and "/resolve/main/evaluation/samples/" in card


@pytest.mark.parametrize("name", ["../x", "", "a/b", None, "A"])
def test_the_id_of_a_benchmark_is_the_name_of_a_folder(name):
    with pytest.raises(InputError, match="metrics.json: benchmark.id is "):
        report_folder(metrics(benchmark={"id": name}))
