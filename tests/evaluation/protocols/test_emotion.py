import json
import shutil
import sys
from pathlib import Path

import pytest

from higgs_recipes.errors import InputError
from higgs_recipes.evaluation.protocols.dataset import open_benchmark
from higgs_recipes.evaluation.protocols.emotion import find_partners
from higgs_recipes.evaluation.protocols.run import run_protocol
from higgs_recipes.evaluation.report import write_report
from tests.helpers.benchmark_run import RecordingsASRModel, benchmark_config
from tests.helpers.fake_funasr import fake_funasr, save_checkpoint
from tests.helpers.recordings import corpus_rows
from tests.helpers.tiny_codec import CORPUS


@pytest.fixture(autouse=True)
def fast_models(monkeypatch):
    monkeypatch.setitem(sys.modules, "funasr", fake_funasr())
    monkeypatch.setattr("higgs_recipes.configs.fields.find_spec", lambda package: package)
    monkeypatch.setattr("higgs_recipes.evaluation.models.load_asr_model", lambda name, **options: RecordingsASRModel())


EMOTIONS = ["Angry", "Happy", "Angry", "Happy", "Sad"]


def write_clips(folder: Path, *, columns: dict | None = None) -> Path:
    """Five recordings of one speaker, the last one alone with its emotion."""
    folder.mkdir()
    rows = corpus_rows("heart")[:5]
    lines = []
    for row, emotion in zip(rows, EMOTIONS, strict=True):
        shutil.copy(CORPUS / row["file_name"], folder)
        line = {"file_name": row["file_name"], "text": row["text"], "speaker": "heart", "emotion": emotion}
        lines.append(line | (columns or {}))
    (folder / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return folder


def config(folder: Path, **changes):
    speaker = folder.parent / "emotion2vec_plus_large"
    if not speaker.exists():
        save_checkpoint(speaker)
    fields = {"protocol": "emotion", "dataset": str(folder), "split": "train", "max_seconds": 0.2}
    return benchmark_config(folder, **fields | {"speaker": f"funasr:{speaker}"} | changes)


def test_the_reference_of_a_row_is_another_recording_of_its_speaker_and_emotion(tmp_path):
    data = open_benchmark(config(write_clips(tmp_path / "clips")))
    assert find_partners(data) == {0: 2, 2: 0, 1: 3, 3: 1}


def test_emotions_have_scores_of_their_own(tmp_path):
    evaluation = run_protocol(config(write_clips(tmp_path / "clips")))
    metrics = json.loads(json.dumps(evaluation.metrics, allow_nan=False))
    assert metrics["rows"]["base"]["emotion_similarity"]["n"] == 4
    assert sorted(metrics["by_emotion"]) == ["Angry", "Happy"]
    assert metrics["by_emotion"]["Angry"]["base"]["emotion_similarity"]["n"] == 2
    assert metrics["speaker_score"] == "sim_emotion2vec_plus_large"
    assert "1 rows without another recording of their speaker and emotion were left out" in metrics["protocol"]
    write_report(evaluation.metrics, evaluation.waveforms, run=None, output_dir=tmp_path / "report")
    markdown = (tmp_path / "report/report.md").read_text(encoding="utf-8").replace("\u00a0", " ")
    assert "## By emotion" in markdown and "| Higgs Audio v2, ESD | 1.78 % | 86.13 |" in markdown


def test_references_of_the_dataset_are_used_if_it_has_them(tmp_path):
    reference = {"ref_audio": "00_heart.flac", "ref_text": "The birch canoe slid."}
    folder = write_clips(tmp_path / "clips", columns=reference)
    shutil.copy(CORPUS / corpus_rows("heart")[0]["file_name"], folder / "00_heart.flac")
    metrics = run_protocol(config(folder, num_samples=2)).metrics
    assert metrics["n"] == 2 and "left out" not in metrics["protocol"]


def test_another_model_does_not_have_the_published_score_next_to_it(tmp_path):
    other = save_checkpoint(tmp_path / "other")
    metrics = run_protocol(config(write_clips(tmp_path / "clips"), speaker=f"funasr:{other}", num_samples=1)).metrics
    assert (
        metrics["benchmark"]["anchors"] == [] and "sim_other is not emotion2vec" in metrics["benchmark"]["warnings"][0]
    )


def test_speakers_are_required_to_choose_references(tmp_path):
    folder = write_clips(tmp_path / "clips")
    with pytest.raises(InputError, match="no column voice; the columns are"):
        run_protocol(config(folder, columns={"speaker": "voice"}))
    unnamed = write_clips(tmp_path / "unnamed", columns={"speaker": ""})
    assert find_partners(open_benchmark(config(unnamed))) == {}


def test_a_dataset_without_emotions_or_references_is_refused(tmp_path):
    folder = write_clips(tmp_path / "clips")
    with pytest.raises(InputError, match="no column feeling; the columns are"):
        run_protocol(config(folder, columns={"emotion": "feeling"}))
    lines = (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    (folder / "metadata.jsonl").write_text(lines[0] + "\n", encoding="utf-8")
    with pytest.raises(InputError, match="no row has a reference: add the columns ref_audio and ref_text"):
        run_protocol(config(folder))
