import json
import shutil
from pathlib import Path

import pytest
import torch

from higgs_recipes.errors import InputError
from higgs_recipes.evaluation.judge import Failure, Judgment
from higgs_recipes.evaluation.protocols.benchmark import BenchmarkText
from higgs_recipes.evaluation.protocols.emergent_tts import compare_with_opponent, count_judgments, is_swapped
from higgs_recipes.evaluation.protocols.run import run_protocol
from higgs_recipes.evaluation.report import write_report
from higgs_recipes.evaluation.scoring import SpokenClip
from tests.helpers.benchmark_run import RecordingsASRModel, benchmark_config, save_adapter
from tests.helpers.judge_server import JudgeServer, always, completion, judgment
from tests.helpers.recordings import corpus_rows
from tests.helpers.tiny_codec import CORPUS


class FixedJudge:
    """Gives the answers it is told, and keeps the pairs."""

    def __init__(self, *answers) -> None:
        self.answers, self.pairs = answers, []

    def compare(self, pairs):
        self.pairs = pairs
        return list(self.answers)


def text(item: int) -> BenchmarkText:
    return BenchmarkText(str(item), "Is it?", "single_speaker_smart_voice", columns={"category": "Questions"})


OURS, THEIRS = SpokenClip(torch.full((960,), 0.5)), SpokenClip(torch.full((960,), -0.5))


def test_the_order_is_sampled_by_the_number_of_the_item_and_undone():
    items = list(range(40))
    swapped = [is_swapped(item) for item in items]
    assert 10 < sum(swapped) < 30 and swapped == [is_swapped(item) for item in items]
    judge = FixedJudge(*[Judgment(3, 1, 1)] * 40)  # always the first
    outcomes = compare_with_opponent(judge, [text(i) for i in items], [OURS] * 40, [THEIRS] * 40, items=items)
    assert [outcome["value"] for outcome in outcomes] == [float(not s) for s in swapped]
    assert [outcome["score"] for outcome in outcomes] == [1 if s else 3 for s in swapped]
    assert len({(pair.first, is_first) for pair, is_first in zip(judge.pairs, swapped, strict=True)}) == 2
    counts = count_judgments(outcomes)
    assert counts["first_wins"] == 1.0 and counts["wins"] + counts["losses"] == 40 and counts["ties"] == 0


def test_ties_are_half_a_win_and_failures_are_counted_apart():
    answers = [Judgment(2, 2, 0), Failure("unparsed", "hm"), Failure("no_answer", "timeout")]
    outcomes = compare_with_opponent(
        FixedJudge(*answers), [text(i) for i in range(3)], [OURS] * 3, [THEIRS] * 3, items=[0, 1, 2]
    )
    assert outcomes[0]["value"] == 0.5 and outcomes[1]["answer"] == "hm"
    counts = count_judgments(outcomes)
    assert (counts["ties"], counts["unparsed"], counts["no_answer"], counts["first_wins"]) == (1, 1, 1, None)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Four texts of two categories with the baseline's audio, and an adapter."""
    pytest.importorskip("openai")
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    monkeypatch.setattr("higgs_recipes.configs.fields.find_spec", lambda package: package)
    monkeypatch.setattr("higgs_recipes.evaluation.models.load_asr_model", lambda name, **options: RecordingsASRModel())
    (tmp_path / "texts").mkdir()
    lines = []
    for index, row in enumerate(corpus_rows("heart")[:4]):
        shutil.copy(CORPUS / row["file_name"], tmp_path / "texts")
        category = ["Questions", "Emotions"][index % 2]
        lines.append({"file_name": row["file_name"], "text_to_synthesize": row["text"], "category": category})
    lines = [json.dumps(line | {"language": "en", "evolution_depth": 1}) + "\n" for line in lines]
    (tmp_path / "texts/metadata.jsonl").write_text("".join(lines), encoding="utf-8")
    save_adapter(tmp_path / "adapter", scale=0.5)
    return tmp_path


def config(folder: Path, url: str, **changes):
    fields = {"protocol": "emergent_tts_eval", "dataset": str(folder / "texts"), "split": "train", "max_seconds": 0.2}
    fields |= {"judge": "ear-1", "judge_url": url, "adapter": str(folder / "adapter")}
    return benchmark_config(folder, **fields | changes)


def test_the_finetuned_model_is_judged_against_the_base_model(folder):
    def tie_for_questions(request, number):
        return 200, {}, completion(judgment(0) if "Questions" in json.dumps(request) else "It depends.")

    with JudgeServer(tie_for_questions) as server:
        evaluation = run_protocol(config(folder, server.url))
    metrics = json.loads(json.dumps(evaluation.metrics, allow_nan=False))
    win_rate = metrics["rows"]["finetuned"]["win_rate"]
    assert (win_rate["value"], win_rate["n"], win_rate["skipped"]) == (0.5, 2, 2)
    assert metrics["by_category"]["Emotions"]["finetuned"]["win_rate"]["value"] is None
    assert "win_rate" not in metrics["rows"]["base"] and metrics["speaker"] is None
    assert metrics["judge"]["model"] == "ear-1" and metrics["judge"]["systems"]["finetuned"]["unparsed"] == 2
    assert metrics["clips"][1]["finetuned"]["judgment"]["answer"] == "It depends."
    assert len(server.requests) == 4 and {request["temperature"] for request in server.requests} == {0}
    write_report(evaluation.metrics, evaluation.waveforms, run=None, output_dir=folder / "written")
    markdown = (folder / "written/report.md").read_text(encoding="utf-8")
    for part in (
        "## Judgments",
        "| fine-tuned model | 0 | 2 | 0 | 2 | 0 | ",
        "do not compare with it",
        "## By category",
    ):
        assert part in markdown, part
    assert "secret" not in (folder / "written/metrics.json").read_text(encoding="utf-8")


def test_both_models_are_judged_against_the_audio_of_the_dataset(folder):
    with JudgeServer(always(judgment(1))) as server:
        metrics = run_protocol(config(folder, server.url, opponent="dataset", num_samples=2)).metrics
    assert metrics["judge"]["systems"].keys() == {"base", "finetuned"} and len(server.requests) == 4
    assert metrics["rows"]["base"]["win_rate"]["n"] == 2


def test_what_cannot_be_judged_is_refused(folder, monkeypatch):
    with pytest.raises(InputError, match="compares an adapter with its base: set adapter, or opponent: dataset"):
        run_protocol(config(folder, "http://127.0.0.1:9/v1", adapter=None))
    with pytest.raises(InputError, match="judge is missing: name a model that hears audio"):
        config(folder, "http://127.0.0.1:9/v1", judge=None)
    monkeypatch.setattr("higgs_recipes.configs.fields.find_spec", lambda package: None)
    with pytest.raises(InputError, match="protocol: emergent_tts_eval needs a package that is not installed"):
        config(folder, "http://127.0.0.1:9/v1")
