"""Export of corpus folders in the format of train-higgs-audio."""

import json
import shutil

import pytest
import soundfile

from higgs_recipes.configs.corpus import ExportConfig
from higgs_recipes.errors import InputError
from higgs_recipes.ingest.export_corpus import export_corpus
from tests.helpers.corpus_folder import write_metadata
from tests.helpers.higgs_folder import full_folder
from tests.helpers.import_folder import imported, json_lines, write_tones
from tests.helpers.raw_folder import CLIPS


@pytest.mark.parametrize("copy_audio", [True, False])
def test_an_imported_folder_is_exported_unchanged(tmp_path, copy_audio):
    folder = full_folder(tmp_path / "higgs")
    imported(tmp_path / "out", format="train_higgs_audio", sources=[str(folder)], copy_audio=copy_audio)
    export_corpus(ExportConfig(source=str(tmp_path / "out"), output_dir=str(tmp_path / "back")))
    there, back = (json.loads((place / "metadata.json").read_text()) for place in (folder, tmp_path / "back"))
    assert back["samples"] == there["samples"]
    assert back["dataset_info"] == {
        "total_samples": 4,
        "speakers": ["huo_speaker"],
        "languages": ["zh"],
        "total_duration": 1.6,
        "avg_duration": 0.4,
        "created_from": ["out"],
    }
    files = {path.relative_to(folder) for path in folder.rglob("*") if path.suffix in (".wav", ".txt")}
    for path in files:
        assert (tmp_path / "back" / path).read_bytes() == (folder / path).read_bytes()
    rows, _ = imported(tmp_path / "again", format="train_higgs_audio", sources=[str(tmp_path / "back")])
    assert rows == json_lines(tmp_path / "out/metadata.jsonl")


def test_any_corpus_folder_can_be_exported(tmp_path):
    shutil.copytree(CLIPS, tmp_path / "tiny")
    assert export_corpus(ExportConfig(source=str(tmp_path / "tiny"), output_dir=str(tmp_path / "out"))) == 40
    metadata = json.loads((tmp_path / "out/metadata.json").read_text())
    first = metadata["samples"][0]
    assert first == {
        "id": "00_heart",
        "audio_file": "00_heart.flac",
        "transcript_file": "00_heart.txt",
        "duration": round(soundfile.info(CLIPS / "00_heart.flac").duration, 2),
        "speaker_id": "heart",
        "speaker_name": "Unknown",
        "gender": "unknown",
        "task_type": "audio_generation",
        "user_instruction": None,
    }
    assert (tmp_path / "out/00_heart.txt").read_text() == "The birch canoe slid on the smooth planks."
    assert metadata["dataset_info"]["speakers"] == ["heart", "rms"]


@pytest.mark.parametrize(
    "rows, message",
    [
        ([{"file_name": "../a.wav", "text": "Hi."}], r"line 2: \.\./a.wav is outside the folder"),
        ([{"file_name": "b.wav", "text": "Hi."}], "line 2: no such recording"),
        ([{"file_name": "a.wav", "text": ""}], "line 2: no text"),
        ([{"file_name": name, "text": "Hi."} for name in ("a.wav", "a.flac")], "row a has the transcript a.txt too"),
    ],
)
def test_all_rows_are_exported_or_none(tmp_path, rows, message):
    write_tones(tmp_path / "in", "a.wav", "a.flac", "../a.wav")
    write_metadata(tmp_path / "in", rows)
    with pytest.raises(InputError, match=message):
        export_corpus(ExportConfig(source=str(tmp_path / "in"), output_dir=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()
