import ast
import copy
import re

import pytest
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


def test_an_adapter_card_contains_the_record_of_its_run():
    card = ModelCard(adapter_card(RUN, name="tester/voice"))
    assert card.data.to_dict() == {
        "base_model": "bosonai/higgs-tts-2-3b-base",
        "datasets": ["tester/corpus"],  # the other dataset is a local folder
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


def test_a_card_of_the_best_checkpoint_has_its_step_and_the_metric():
    best = {"metric": "eval_loss", "value": 4.25, "last_step": 60}
    card = adapter_card(RUN | {"steps": 40, "best": best}, name="tester/voice")
    assert " for 40 steps with higgs_recipes" in card
    assert "- best step: step 40, metric eval_loss, value 4.25, last_step 60\n" in card.replace("\\", "")
    assert "- losses of the best step: " in card and "last losses" not in card
    with pytest.raises(InputError, match="run.json: field 'best' is 7: it must be dict"):
        adapter_card(RUN | {"best": 7}, name="tester/voice")


def test_the_loading_code_is_python_and_names_adapter_and_base_model():
    card = adapter_card(RUN, name="tester/voice")
    lines = card.partition("```python\n")[2].partition("```")[0]
    compile(lines, "card", "exec")
    assert len([line for line in lines.splitlines() if line]) <= 5
    assert f'ModelConfig(model_name_or_path="{RUN["base_model"]}", model_revision="{RUN["base_revision"]}")' in lines
    assert 'load_model(config, adapter="tester/voice", device="cuda")' in lines

    full = adapter_card(RUN | {"method": "full"}, name="tester/whole")
    assert 'ModelConfig(model_name_or_path="tester/whole")\n' in full and "adapter=" not in full


def test_the_table_of_losses_is_thinned_and_keeps_the_first_and_the_last_step():
    lines = adapter_card(RUN, name="tester/voice").splitlines()
    head = lines.index("| step | loss | loss_text | loss_codebook_0 | eos_accuracy | eval_loss | learning_rate |")
    rows = [line for line in lines[head + 2 :] if line.startswith("|")]
    assert len(rows) == MAX_LOSS_ROWS
    assert rows[0] == "| 2 | 6.9 | 0.5 | 5.25 |  |  | 0.0001 |"
    assert rows[-1] == "| 100 | 2 | 0.5 | 5.25 | 0.875 | 3.75 | 0.0001 |"
    assert "No losses were logged." in adapter_card(RUN | {"log_history": []}, name="tester/voice")


def test_the_card_of_an_untrained_model_says_so_and_has_no_license():
    run = RUN | {"untrained_base": True, "higgs_license": False, "base_model": "outputs/init/model"}
    card = ModelCard(adapter_card(run | {"base_revision": None}, name="outputs/tiny"))
    assert "**The base model is untrained: its weights are random. Its output is not speech.**" in card.text
    assert "base_model" not in card.data.to_dict() and "license" not in card.data.to_dict()
    assert LICENSE_NOTICE not in card.text
    assert 'ModelConfig(model_name_or_path="model")  # a local folder: give its path' in card.text
    assert "untrained" in update_evaluation("", METRICS | {"untrained_base": True}, name="tester/voice")


@pytest.mark.parametrize("origin", [{}, {"untrained_base": None}, {"untrained_base": False, "higgs_license": True}])
def test_no_flag_of_a_recipe_removes_the_license_or_calls_a_trained_base_untrained(origin):
    run = RUN | {"recipe": RUN["recipe"] | {"allow_untrained": True}} | origin
    cards = [
        adapter_card(run, name="tester/voice"),
        adapter_card(run, name="tester/voice", metrics=METRICS),
        merged_card(MERGE, name="tester/merged", run=run),
        merged_card(MERGE | {"higgs_license": True}, name="tester/merged", run=run | {"higgs_license": False}),
    ]
    for card in map(ModelCard, cards):
        assert LICENSE_NOTICE in card.text and card.data.license == "other"
        assert "base model is untrained" not in card.text


def test_a_trained_base_of_another_license_has_no_notice():
    run = RUN | {"untrained_base": False, "higgs_license": False}
    for card in (
        adapter_card(run, name="tester/voice"),
        merged_card(MERGE | {"higgs_license": False}, name="tester/merged", run=run),
    ):
        assert LICENSE_NOTICE not in card and "boson-higgs-audio-2" not in card
        assert "base model is untrained" not in card


@pytest.mark.parametrize(
    "path, message",
    [
        (("codec",), "run.json: field 'codec' is missing"),
        (("base_fingerprint",), "run.json: field 'base_fingerprint' is missing"),
        (("hardware",), "run.json: field 'hardware' is missing"),
        (("datasets", 0, "rows"), "run.json: datasets: field 'rows' is missing"),
    ],
)
def test_a_missing_field_of_a_run_is_named_with_its_file(path, message):
    with pytest.raises(InputError, match=message):
        adapter_card(without(RUN, *path), name="tester/voice")


def test_missing_fields_of_other_records_are_named_with_their_file():
    with pytest.raises(InputError, match="metrics.json: field 'normalizer' is missing"):
        adapter_card(RUN, name="tester/voice", metrics=without(METRICS, "normalizer"))
    with pytest.raises(InputError, match="merge.json: field 'dtype' is missing"):
        merged_card(without(MERGE, "dtype"), name="tester/merged")
    with pytest.raises(InputError, match="corpus.json: field 'rejects' is missing"):
        corpus_card(without(CORPUS, "rejects"), name="tester/corpus")


def test_a_token_in_the_recipe_is_refused():
    run = RUN | {"recipe": RUN["recipe"] | {"hub_token": "hf_secret"}}
    with pytest.raises(InputError, match="field 'recipe.hub_token' contains a token") as refused:
        adapter_card(run, name="tester/voice")
    assert "hf_secret" not in str(refused.value)


def test_the_placeholder_of_a_token_is_not_in_the_card():
    run = RUN | {"recipe": RUN["recipe"] | {"hub_token": "<HUB_TOKEN>"}}
    assert "HUB_TOKEN" not in adapter_card(run, name="tester/voice")


def test_html_in_records_is_escaped():
    assert "<script>" not in corpus_card(CORPUS | {"rejects": {"<script>": 1}}, name="tester/corpus")
    assert "<b>" not in adapter_card(RUN | {"hardware": "<b>"}, name="tester/voice", metrics=METRICS)


PAYLOAD = (
    "x</td></table><script>alert(1)</script> **bold** [click](https://evil.example) ![p](//evil.example/p.png) "
    "www.evil.example `code` ``` ~~~ | cell\n\n# Heading\n---\nlicense: mit\n```\n~~~~\n</code><img src=x>\n- item"
)


def hostile(value):
    """A record with the payload as every text and every name that is not a field of ours."""
    if isinstance(value, str):
        return PAYLOAD
    if isinstance(value, list):
        return [hostile(item) for item in value]
    if isinstance(value, dict):
        own = value.keys() <= {*RUN, "path", "fingerprint", "rows", "seconds"} or "step" in value
        extra = {} if own else {PAYLOAD: PAYLOAD}
        return {name: hostile(item) for name, item in value.items()} | extra
    return value


@pytest.mark.parametrize("method", ["lora", "full", PAYLOAD])
def test_a_record_of_a_stranger_shows_as_text_in_a_card(method):
    run = hostile(RUN) | {"method": method, "untrained_base": False, "higgs_license": True}
    plain = RUN | {"method": method}
    cards = {
        "merged": (
            merged_card(MERGE, name="tester/merged", run=run),
            merged_card(MERGE, name="tester/merged", run=plain),
        ),
        "adapter": (adapter_card(run, name="tester/voice"), adapter_card(plain, name="tester/voice")),
    }
    for attacked, expected in cards.values():
        card, reference = ModelCard(attacked), ModelCard(expected)
        assert card.data.license == reference.data.license == "other"
        text, honest = without_code(card.text), without_code(reference.text)
        for mark in ("#", "---", "- ", "|", "~~~", "<", "license"):  # at the start of a line
            assert count_lines(text, mark) == count_lines(honest, mark), mark
        for mark in "*`[]<~#":
            assert active(text).count(mark) == active(honest).count(mark), mark
        assert active(text).count("://") == active(honest).count("://") and "www." not in active(text)
        assert LICENSE_NOTICE in text


def active(text: str) -> str:
    """The text without escaped characters and code in lines."""
    return re.sub(r"(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)", "", re.sub(r"\\.", "", text))


def without_code(text: str) -> str:
    """The text without its blocks of code; every block must be closed."""
    kept, fence = [], None
    for line in text.splitlines():
        ticks = re.match(r"`{3,}", line)
        if fence is None and ticks:
            fence = ticks[0]
        elif fence is not None and line == fence:
            fence = None
        elif fence is None:
            kept.append(line)
    assert fence is None
    return "\n".join(kept)


def count_lines(text: str, start: str) -> int:
    return sum(line.startswith(start) for line in text.splitlines())


def test_code_in_a_card_stays_code():
    payload = 'a/b"); import os; os.system("id") #\n```\n'
    card = adapter_card(RUN | {"base_model": payload}, name="tester/voice")
    lines = card.partition("## How to load it\n\n")[2].partition("\n## ")[0].splitlines()
    assert re.fullmatch("`{3,}python", lines[0])
    code = "\n".join(lines[1 : lines.index(lines[0].removesuffix("python"))])
    called = [ast.unparse(node.func) for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    assert sorted(called) == ["ModelConfig", "load_model"]


def test_a_merged_card_names_base_model_and_adapter():
    card = ModelCard(merged_card(MERGE, name="tester/merged", run=RUN))
    assert card.data.library_name == "transformers" and card.data.base_model == RUN["base_model"]
    assert f"- base model: {RUN['base_model']} @ {RUN['base_revision']}\n- adapter: tester/voice\n" in card.text
    check = "logits differ by at most 0.0156, on average 0.001; the most likely codes are equal in 99.99%"
    assert f"- merged against adapter: {check}\n" in card.text
    assert 'ModelConfig(model_name_or_path="tester/merged")' in card.text
    assert "fingerprint1" in card.text and LICENSE_NOTICE in card.text

    unchecked = merged_card(MERGE | {"max_logit_difference": None}, name="tester/merged")
    assert "- merged against adapter: not checked\n" in unchecked
    assert "The training of the adapter is not recorded" in unchecked


def test_a_corpus_card_lists_splits_columns_and_rejects():
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
