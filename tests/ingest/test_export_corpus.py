"""Export of corpus folders in the format of train-higgs-audio."""

import json
import shutil
from pathlib import Path
from typing import Any

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
        ([{"file_name": "../a.wav", "text": "Hi."}], r"line 2: recording leaves its folder: \.\./a.wav is not in"),
        ([{"file_name": "b.wav", "text": "Hi."}], "line 2: recording: cannot be read: No such file"),
        ([{"file_name": "a.wav", "text": ""}], "line 2: empty transcript"),
        ([{"file_name": "a.wav", "words": "Hi."}], "line 2: no field for text: the fields are 'file_name', 'words'"),
        ([{"path": "a.wav", "text": "Hi."}], "line 2: no field for audio: the fields are 'path', 'text'"),
        ([{"file_name": "", "text": "Hi."}], "line 2: no file name: recording is None"),
        ([{"file_name": "a.wav", "text": "Hi.", "quality_score": "good"}], "quality_score is not a number: 'good'"),
    ],
)
def test_all_rows_are_exported_or_none(tmp_path, rows, message):
    write_tones(tmp_path / "in", "a.wav", "a.flac", "../a.wav")
    write_metadata(tmp_path / "in", rows)
    with pytest.raises(InputError, match=message):
        export_corpus(ExportConfig(source=str(tmp_path / "in"), output_dir=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


def export(folder: Path, *rows: dict, **fields: Any) -> list[dict]:
    """Export rows of metadata.jsonl; returns the samples of metadata.json."""
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    out = {"output_dir": str(folder.parent / "out"), "overwrite_output_dir": True}
    export_corpus(ExportConfig(source=str(folder), **out, **fields))
    return json.loads((folder.parent / "out/metadata.json").read_text(encoding="utf-8"))["samples"]


def test_recordings_that_share_a_name_are_told_apart(tmp_path):
    names = ["a.wav", "a.flac", "audio/a.wav", "sub/a.wav", "take.0.wav", "take.1.wav", "กิ.wav", "กี.wav"]
    folder = write_tones(tmp_path / "in", *names)
    samples = export(folder, *[{"file_name": name, "text": f"The text of {name}."} for name in names])
    for key in ("id", "audio_file", "transcript_file"):
        assert len({sample[key] for sample in samples}) == len(names)
    for name, sample in zip(names, samples, strict=True):
        assert (tmp_path / "out" / sample["audio_file"]).read_bytes() == (folder / name).read_bytes()
        assert (tmp_path / "out" / sample["transcript_file"]).read_text() == f"The text of {name}."
    rows, rejects = imported(tmp_path / "back", format="train_higgs_audio", sources=[str(tmp_path / "out")])
    assert [row["text"] for row in rows] == [f"The text of {name}." for name in names] and not rejects


def test_paths_are_resolved_as_in_import(tmp_path):
    folder = write_tones(tmp_path / "in", "wavs/a.wav", "b.wav", "../elsewhere/c.wav")
    (folder / "c.wav").symlink_to(tmp_path / "elsewhere/c.wav")
    paths = ["wavs\\a.wav", str(folder / "b.wav"), "c.wav"]
    rows = [{"file_name": path, "text": "Hi."} for path in paths]
    samples = export(folder, *rows, follow_links=True)
    assert [sample["audio_file"] for sample in samples] == ["wavs/a.wav", "b.wav", "c.wav"]
    with pytest.raises(InputError, match="line 3: recording leaves its folder: c.wav is a link to a file outside"):
        export(folder, *rows)


def test_values_without_meaning_are_left_out(tmp_path):
    folder = write_tones(tmp_path / "in", "a.wav", "r.wav")
    row = {"file_name": "a.wav", "text": "Hi.", "id": 7, "speaker": float("nan"), "language": 5, "quality_score": None}
    speakers = [{"speaker_tag": "[SPEAKER0]", "ref_audio": "r.wav"}]
    (sample,) = export(folder, row | {"ref_audio_file_name": "", "ref_speakers": speakers})
    assert (sample["id"], sample["speaker_id"], sample["language"]) == ("7", "unknown_speaker", "5")
    assert (
        sample["ref_speakers"] == [{"speaker_tag": "[SPEAKER0]", "ref_audio_file": "r.wav", "ref_transcript": None}]
        and not {"quality_score", "ref_audio_file"} & sample.keys()
    )


@pytest.mark.parametrize(
    "row, message",
    [
        ({"file_name": 5}, "no file name: recording is 5"),
        ({"file_name": "a\0.wav"}, "no file name"),
        ({"file_name": "."}, "no file name"),
        ({"file_name": "sub"}, "sub is a folder"),
        ({"file_name": "notes.txt"}, "recording: not audio"),
        ({"text": 5}, "transcript is not text: 5 is a int"),
        ({"text": "\ud83d"}, "invalid Unicode"),
        ({"id": ["a"]}, r"id is not text: \['a'\] is a list"),
        ({"speaker": {"a": 1}}, "speaker is not text"),
        ({"quality_score": float("inf")}, "quality_score is not a number: inf"),
        ({"ref_speakers": {"a": 1}}, "ref_speakers is not a list"),
        ({"ref_speakers": [{"ref_audio": "b.wav"}]}, "reference clip: cannot be read"),
        ({"ref_audio_file_name": "../a.wav"}, "reference clip leaves its folder"),
    ],
)
def test_values_that_cannot_be_exported_are_errors_with_their_line(tmp_path, row, message):
    folder = write_tones(tmp_path / "in", "a.wav", "sub/b.wav")
    (folder / "notes.txt").write_text("Not a recording.")
    with pytest.raises(InputError, match=f"metadata.jsonl line 2: .*{message}"):
        export(folder, {"file_name": "a.wav", "text": "Hi."}, {"file_name": "sub/b.wav", "text": "Hi."} | row)
    assert not (tmp_path / "out").exists()


def test_a_source_that_is_not_a_folder_is_an_error(tmp_path):
    for source in (tmp_path / "nowhere", "x" * 5000):
        with pytest.raises(InputError, match="source: no such folder"):
            export_corpus(ExportConfig(source=str(source), output_dir=str(tmp_path / "out")))
