import copy

import pytest
import yaml
from huggingface_hub import DatasetCard, ModelCard

from higgs_recipes.errors import InputError
from higgs_recipes.hub.cards import LICENSE_NOTICE, MAX_LOSS_ROWS, adapter_card, corpus_card, merged_card
from higgs_recipes.hub.evaluation_card import update_evaluation
from tests.helpers.records import CORPUS, MERGE, METRICS, RUN


def without(record: dict, *path: str) -> dict:
    """A copy that lacks the field at the end of the path."""
    record = copy.deepcopy(record)
    *parents, field = path
    place = record
    for parent in parents:
        place = place[parent]
    del place[field]
    return record


def test_adapter_card_says_what_the_run_recorded():
    card = ModelCard(adapter_card(RUN, name="tester/voice"))
    assert card.data.to_dict() == {
        "base_model": "bosonai/higgs-tts-2-3b-base",
        "datasets": ["tester/corpus"],  # the other one is a folder
        "library_name": "peft",
        "license": "other",
        "license_name": "boson-higgs-audio-2-community-license",
        "license_link": "https://huggingface.co/bosonai/higgs-tts-2-3b-base",
        "pipeline_tag": "text-to-speech",
        "tags": ["higgs-audio-v2", "text-to-speech", "lora"],
    }
    for recorded in (
        "# tester/voice\n",
        f"- base model: {RUN['base_model']} @ {RUN['base_revision']}\n",
        "- fingerprint of the base: basefingerprint\n",
        f"- codec: {RUN['codec']}\n",
        "- commit: 0123456789abcdef\n",
        "- hardware: 1 x NVIDIA H100\n",
        "- versions: torch 2.11.0, transformers 5.17.0\n",
        "| tester/corpus | 36 | 0.05 | `fingerprint1` |\n| mine | 4 | 0.01 | `fingerprint2` |\n",
        "lora_r: 16\n",
        LICENSE_NOTICE,
    ):
        assert recorded in card.text, recorded
    assert "/home" not in card.content
    assert "untrained" not in card.text.replace("allow_untrained", "")
    assert "Evaluation" not in card.text


def test_the_lines_that_load_are_python_and_name_adapter_and_base():
    card = adapter_card(RUN, name="tester/voice")
    lines = card.partition("```python\n")[2].partition("```")[0]
    compile(lines, "card", "exec")
    assert len([line for line in lines.splitlines() if line]) <= 5
    assert f'ModelConfig(model_name_or_path="{RUN["base_model"]}", model_revision="{RUN["base_revision"]}")' in lines
    assert 'load_model(config, adapter="tester/voice", device="cuda")' in lines

    full = adapter_card(RUN | {"method": "full"}, name="tester/whole")
    assert 'ModelConfig(model_name_or_path="tester/whole")\n' in full and "adapter=" not in full


def test_losses_are_thinned_with_the_first_and_the_last_kept():
    lines = adapter_card(RUN, name="tester/voice").splitlines()
    head = lines.index("| step | loss | loss_text | loss_codebook_0 | eos_accuracy | eval_loss | learning_rate |")
    rows = [line for line in lines[head + 2 :] if line.startswith("|")]
    assert len(rows) == MAX_LOSS_ROWS
    assert rows[0] == "| 2 | 6.9 | 0.5 | 5.25 |  |  | 0.0001 |"
    assert rows[-1] == "| 100 | 2 | 0.5 | 5.25 | 0.875 | 3.75 | 0.0001 |"
    assert "No losses were logged." in adapter_card(RUN | {"log_history": []}, name="tester/voice")


def test_an_untrained_base_is_said_plainly_and_has_no_licence_of_others():
    run = RUN | {"recipe": RUN["recipe"] | {"allow_untrained": True}, "base_model": "outputs/init/model"}
    card = ModelCard(adapter_card(run | {"base_revision": None}, name="outputs/tiny"))
    assert "**The base model is untrained: its weights are random." in card.text
    assert "base_model" not in card.data.to_dict() and "license" not in card.data.to_dict()
    assert 'ModelConfig(model_name_or_path="model")  # a local folder: give its path' in card.text
    assert "untrained" in update_evaluation("", METRICS | {"untrained_base": True}, name="tester/voice")


@pytest.mark.parametrize(
    "path, message",
    [
        (("codec",), "run.json: field 'codec' is missing"),
        (("base_fingerprint",), "run.json: field 'base_fingerprint' is missing"),
        (("recipe", "allow_untrained"), "run.json: recipe: field 'allow_untrained' is missing"),
        (("datasets", 0, "rows"), "run.json: datasets: field 'rows' is missing"),
    ],
)
def test_a_missing_field_is_named_with_its_file(path, message):
    with pytest.raises(InputError, match=message):
        adapter_card(without(RUN, *path), name="tester/voice")


def test_missing_fields_of_the_other_records_are_named_too():
    with pytest.raises(InputError, match="metrics.json: field 'normalizer' is missing"):
        adapter_card(RUN, name="tester/voice", metrics=without(METRICS, "normalizer"))
    with pytest.raises(InputError, match="merge.json: field 'dtype' is missing"):
        merged_card(without(MERGE, "dtype"), name="tester/merged")
    with pytest.raises(InputError, match="corpus.json: field 'rejects' is missing"):
        corpus_card(without(CORPUS, "rejects"), name="tester/corpus")


def test_a_token_in_the_recipe_is_refused():
    for token, said in (("hf_secret", "field 'recipe.hub_token' holds a token"), ("<HUB_TOKEN>", None)):
        run = RUN | {"recipe": RUN["recipe"] | {"hub_token": token}}
        if said is None:
            assert "HUB_TOKEN" not in adapter_card(run, name="tester/voice")
            continue
        with pytest.raises(InputError, match=said) as refused:
            adapter_card(run, name="tester/voice")
        assert token not in str(refused.value)


def test_scores_of_the_finetuned_model_become_the_model_index():
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
    assert "- texts: 4 scored, 1 skipped\n" in card.text
    assert "codec resynthesis" not in card.text


def test_a_card_plays_the_first_texts_of_its_evaluation():
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


def test_what_records_say_is_no_html_in_a_card():
    assert "<script>" not in corpus_card(CORPUS | {"rejects": {"<script>": 1}}, name="tester/corpus")
    assert "<b>" not in adapter_card(RUN | {"hardware": "<b>"}, name="tester/voice", metrics=METRICS)


def test_a_model_without_adapter_is_scored_as_itself():
    alone = METRICS | {"rows": {"base": METRICS["rows"]["base"]}, "adapter": None}
    card = ModelCard(update_evaluation("", alone, name="tester/whole"))
    assert [score.metric_value for score in card.data.eval_results] == [0.25, 0.5]
    assert "| this model | 25 [12.5, 50], n=4 |" in card.text and "base model" not in card.text

    silent = alone | {"rows": {"base": {"wer": {"value": None, "low": None, "high": None, "n": 0}}}}
    assert "model-index" not in update_evaluation("", silent, name="tester/whole")


def test_an_evaluation_changes_nothing_else_in_a_card():
    card = (
        adapter_card(RUN, name="tester/voice").replace("tags:", "# mine\nextra: [1, 2]\ntags:") + "\nMy own words.\n"
    )
    first = update_evaluation(card, METRICS, name="tester/voice")
    other = update_evaluation(first + "More words.\n", METRICS | {"dataset": "tester/other"}, name="tester/voice")
    better = copy.deepcopy(METRICS)
    better["rows"]["finetuned"]["wer"]["value"] = 0.01
    last = update_evaluation(other, better, name="tester/voice")

    assert "My own words.\n" in last and "More words.\n" in last
    assert last.count("## Evaluation") == 1
    header = yaml.safe_load(last.split("---\n")[1])
    before = yaml.safe_load(card.split("---\n")[1])
    index = header.pop("model-index")
    assert header == before
    wers = {r["dataset"]["name"]: r["metrics"][0]["value"] for r in index[0]["results"]}
    assert wers == {"tester/other": 0.05, "tester/corpus": 0.01}
    body = first.split("---\n", 2)[2]
    assert body.startswith(card.split("---\n", 2)[2].rstrip())


def test_merged_card_names_its_parents():
    card = ModelCard(merged_card(MERGE, name="tester/merged", run=RUN))
    assert card.data.library_name == "transformers" and card.data.base_model == RUN["base_model"]
    assert f"- base model: {RUN['base_model']} @ {RUN['base_revision']}\n- adapter: tester/voice\n" in card.text
    assert "- merged against adapter: logits differ by at most 0.0156, on average 0.001; the likeliest" in card.text
    assert 'ModelConfig(model_name_or_path="tester/merged")' in card.text
    assert "fingerprint1" in card.text and LICENSE_NOTICE in card.text

    unchecked = merged_card(MERGE | {"max_logit_difference": None}, name="tester/merged")
    assert "- merged against adapter: not checked\n" in unchecked
    assert "How the adapter was trained is not recorded" in unchecked


def test_corpus_card_lists_splits_columns_and_rejects():
    card = DatasetCard(corpus_card(CORPUS, name="tester/corpus"))
    header = card.data.to_dict()
    assert header["license"] == "unknown" and header["source_datasets"] == ["tester/recordings"]
    assert header["configs"] == [
        {
            "config_name": "default",
            "data_files": [
                {"split": "train", "path": "data/train-*.parquet"},
                {"split": "test", "path": "data/test-*.parquet"},
            ],
        }
    ]
    assert "| train | 2 | 2.00 |\n| test | 1 | 0.50 |\n" in card.text
    assert "| shorter than 0.3 s | 3 |\n| no\\|text | 1 |\n" in card.text
    assert "- sources: tester/recordings, wavs\n" in card.text
    assert f"- codec: {CORPUS['codec']}\n" in card.text and "- commit: not recorded\n" in card.text
    assert 'load_dataset("tester/corpus", split="train")' in card.text
    assert "task: single_speaker_smart_voice\n" in card.text
    assert "- license of the recordings: not recorded, see the sources\n" in card.text
    card = DatasetCard(corpus_card(CORPUS | {"license": "cc0-1.0"}, name="c"))
    assert card.data.license == "cc0-1.0" and "- license of the recordings: cc0-1.0\n" in card.text

    with pytest.raises(InputError, match="split '../../etc': use letters"):
        corpus_card(CORPUS | {"splits": {"../../etc": {"rows": 1, "seconds": 1.0}}}, name="tester/corpus")
