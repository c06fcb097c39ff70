"""Rows with their recordings: copies, constants, duplicates and rejects."""

import hashlib
import json
import shutil

from tests.helpers.corpus_folder import write_metadata, write_tone
from tests.helpers.higgs_folder import full_folder
from tests.helpers.import_folder import imported, json_lines, write_tones


def test_copied_recordings_are_unchanged(tmp_path):
    folder = full_folder(tmp_path / "higgs")
    imported(tmp_path / "out", format="train_higgs_audio", sources=[str(folder)], copy_audio=True)
    shutil.rmtree(folder)
    copies = {path.name: path for path in (tmp_path / "out/audio").rglob("*.wav")}
    hashes = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in copies.items()}
    full_folder(folder)
    assert len(copies) == 6
    for path in folder.rglob("*.wav"):
        assert hashes[path.name] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_constants_and_ids_of_two_sources(tmp_path):
    sources = []
    for index, speaker in enumerate(("tun", "huo")):
        folder = tmp_path / speaker
        write_tone(folder / "0.wav", hertz=200.0 + 50 * index)
        (folder / "all.list").write_text("0.wav|someone|zh|你好\n")
        sources.append({"path": str(folder / "all.list"), "speaker": speaker, "gender": "M"})
    rows, rejects = imported(tmp_path / "out", format="gpt_sovits", sources=sources)
    assert [(row["id"], row["speaker"], row["gender"], row["file_name"]) for row in rows] == [
        ("0-0", "tun", "male", "audio/0/0.wav"),
        ("1-0", "huo", "male", "audio/1/0.wav"),
    ]
    assert not rejects


def test_constants_override_columns(tmp_path):
    folder = write_tones(tmp_path / "in", "a.wav")
    write_metadata(folder, [{"file_name": "a.wav", "text": "Hello.", "speaker": "anna", "who": "bert"}])
    fields = {"format": "audiofolder", "columns": {"speaker": "who"}}
    for source, speaker in (({"path": str(folder)}, "bert"), ({"path": str(folder), "speaker": "carl"}, "carl")):
        (row,), _ = imported(tmp_path / "out", sources=[source], **fields)
        assert row["speaker"] == speaker


def test_a_duplicate_recording_in_another_source_is_rejected(tmp_path):
    write_tone(tmp_path / "a/x.wav")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    for name, text in (("a", "Hello."), ("b", "Bye.")):
        (tmp_path / name / "all.list").write_text(f"x.wav|anna|en|{text}\n")
    sources = [str(tmp_path / name / "all.list") for name in "ab"]
    rows, rejects = imported(tmp_path / "out", format="gpt_sovits", sources=sources)
    assert len(rows) == 1
    assert rejects == {("all.list", 1): f"same recording with another transcript: {sources[0]} line 1 has it too"}


def test_rejects_have_codes_and_are_counted_by_category(tmp_path):
    folder = write_tones(tmp_path / "in", "a.wav", "b.wav")
    lines = ["a.wav|x|en|Hello.", "b.wav|x|en| ", "one cell", "none.wav|x|en|two: too long; (", "../c.wav|x|en|Hi."]
    (folder / "all.list").write_text("\n".join(lines))
    imported(tmp_path / "out", format="gpt_sovits", sources=[str(folder / "all.list")])
    rejects = json_lines(tmp_path / "out/rejects.jsonl")
    assert [(reject["line"], reject["code"]) for reject in rejects] == [
        (2, "empty_transcript"),
        (3, "wrong_cells"),
        (4, "unreadable_audio"),
        (5, "outside_folder"),
    ]
    assert all(list(reject) == ["file", "line", "id", "reason", "code"] for reject in rejects)
    assert json.loads((tmp_path / "out/import.json").read_text())["rejects"] == {
        "empty transcript": 1,
        "wrong number of cells": 1,
        "recording cannot be read": 1,
        "recording leaves its folder": 1,
    }
