import json
import shutil
from pathlib import Path

import pytest

from higgs_recipes.errors import InputError
from higgs_recipes.evaluation.protocols.run import run_protocol
from higgs_recipes.evaluation.report import write_report
from tests.helpers.benchmark_run import RecordingsASRModel, benchmark_config, save_adapter
from tests.helpers.recordings import corpus_rows
from tests.helpers.tiny_codec import CORPUS


TEXT = "[SPEAKER0] Good morning to you. [SPEAKER1] And how are you today?\n[SPEAKER0] I am well."


@pytest.fixture(autouse=True)
def fast_asr_model(monkeypatch):
    monkeypatch.setattr("higgs_recipes.evaluation.models.load_asr_model", lambda name, **options: RecordingsASRModel())


def write_dialogues(folder: Path, rows: list[dict]) -> Path:
    """A folder with a metadata file and two recordings, the references."""
    folder.mkdir(exist_ok=True)
    for speaker in ("heart", "rms"):
        shutil.copy(CORPUS / corpus_rows(speaker)[0]["file_name"], folder / f"{speaker}.flac")
    lines = [{"file_name": "heart.flac"} | row for row in rows]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return folder


def references() -> list[dict]:
    return [
        {"speaker_tag": f"SPEAKER{n}", "ref_text": corpus_rows(s)[0]["text"], "ref_audio": f"{s}.flac"}
        for n, s in enumerate(("heart", "rms"))
    ]


def config(folder: Path, **changes):
    fields = {"protocol": "multi_speaker", "dataset": str(folder), "split": "train", "max_seconds": 0.4}
    return benchmark_config(folder, **fields | changes)


def test_dialogues_with_and_without_references_are_evaluated(tmp_path):
    rows = [
        {"text": TEXT, "ref_speakers": references()},
        {"text": TEXT.replace("SPEAKER", "speaker"), "ref_speakers": []},
    ]
    folder = write_dialogues(tmp_path / "dialogues", rows)
    evaluation = run_protocol(config(folder, adapter=str(save_adapter(tmp_path / "adapter", scale=0.5))))
    metrics = json.loads(json.dumps(evaluation.metrics, allow_nan=False))
    tasks = [clip["task"] for clip in metrics["clips"]]
    assert tasks == ["multi_speaker_voice_cloning", "multi_speaker_smart_voice"]
    assert metrics["rows"]["base"]["wer"]["value"] == 1.0  # "noise" for every clip
    assert metrics["rows"]["base"]["dialogue_voices"]["value"] is None  # no turn was found
    assert metrics["rows"]["base"]["turns_in_order"] | {"low": None, "high": None, "note": ""} == {
        **{"value": 0.0, "low": None, "high": None, "note": "", "n": 2, "skipped": 0}
    }
    assert [turn["state"] for turn in metrics["clips"][0]["base"]["turns"]] == ["not_found"] * 3
    assert "1 of 2 dialogues have reference clips" in metrics["benchmark"]["note"]
    assert "No code of it is published" in metrics["protocol"] and "dialogue_voices" in metrics["comparison"]
    write_report(evaluation.metrics, evaluation.waveforms, run=None, output_dir=tmp_path / "report")
    markdown = (tmp_path / "report/report.md").read_text(encoding="utf-8")
    assert "| Higgs Audio v2, small talk with references | 11.89 % | 67.92 |" in markdown.replace("\u00a0", " ")
    assert "No code of it is published" in markdown and markdown.startswith("# Dialogues: adapter")


@pytest.mark.parametrize(
    "row, message",
    [
        ({"text": "Hello."}, "row 0: not a dialogue: start each turn with"),
        ({"text": "Well, [SPEAKER0] Hello."}, "row 0: not a dialogue"),
        (
            {"text": TEXT, "ref_speakers": [references()[0] | {"ref_text": ""}]},
            "row 0: ref_speakers.0.ref_text is ''",
        ),
        ({"text": TEXT, "ref_speakers": [references()[0] | {"ref_audio": "../a.flac"}]}, "row 0: .*a.flac"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_before_models_load(tmp_path, monkeypatch, row, message):
    def fail(*args, **kwargs):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("higgs_recipes.evaluation.protocols.multi_speaker.load_models", fail)
    folder = write_dialogues(tmp_path / "dialogues", [row])
    with pytest.raises(InputError, match=message):
        run_protocol(config(folder))


def test_columns_of_other_datasets_are_mapped(tmp_path):
    folder = write_dialogues(tmp_path / "dialogues", [{"script": TEXT, "lang": "en"}])
    with pytest.raises(InputError, match="no column text; the columns are .*: map them with `columns`"):
        run_protocol(config(folder))
    columns = {"text": "script", "language": "lang"}
    metrics = run_protocol(config(folder, columns=columns, asr_language="de", max_seconds=0.2)).metrics
    assert metrics["clips"][0]["text"] == TEXT and list(metrics["languages"]) == ["en"]
