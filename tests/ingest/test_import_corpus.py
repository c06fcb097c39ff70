"""Import and export: what the folder of an imported corpus is, and the way to train-higgs-audio and back."""

import doctest
import hashlib
import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import soundfile

from higgs_recipes.audio.io import read_audio
from higgs_recipes.configs.corpus import ExportConfig, ImportConfig
from higgs_recipes.corpus.corpus import load_rows
from higgs_recipes.corpus.sources.source import open_sources
from higgs_recipes.corpus.task_assignment import assign_tasks
from higgs_recipes.errors import InputError
from higgs_recipes.ingest import import_corpus as importing
from higgs_recipes.ingest.export_corpus import export_corpus
from higgs_recipes.ingest.import_corpus import import_corpus
from scripts import export_corpus as export_script
from scripts import import_corpus as import_script
from tests.helpers.corpus_folder import encode_config, write_metadata, write_tone
from tests.helpers.import_folder import TEXTS, imported, json_lines, write_tones
from tests.helpers.paths import ROOT


CLIPS = ROOT / "tests/data/two_voices"


def test_examples_in_the_docstrings_hold():
    assert doctest.testmod(importing).failed == 0


# train-higgs-audio


def sample(name: str, **fields) -> dict:
    """As its converter writes a sample, all fields of it."""
    written = {
        "id": name,
        "audio_file": f"{name}.wav",
        "transcript_file": f"{name}.txt",
        "duration": 0.4,
        "speaker_id": "huo_speaker",
        "speaker_name": "Huo",
        "scene": "recording_system",
        "emotion": "alerting",
        "language": "zh",
        "gender": "unknown",
        "quality_score": 1.0,
        "original_audio_path": f"/srv/recordings/{name}.wav",
        "user_instruction": "<audio> /translate",
        "task_type": "audio_generation",
    }
    return written | fields


def higgs_folder(folder: Path, *samples: dict, texts: list[str] = TEXTS) -> Path:
    write_tones(folder, *[each["audio_file"] for each in samples if re.fullmatch(r"\w+\.wav", each["audio_file"])])
    for each, text in zip(samples, texts, strict=False):
        (folder / each["transcript_file"]).write_text(text, encoding="utf-8")
    metadata = {"dataset_info": {"total_samples": len(samples)}, "samples": list(samples)}
    (folder / "metadata.json").write_text(json.dumps(metadata, indent=2, ensure_ascii=False), encoding="utf-8")
    return folder


def full_folder(folder: Path) -> Path:
    """A folder with every documented field."""
    speakers = [
        {"speaker_tag": f"[SPEAKER{index}]", "ref_audio_file": f"refs/{index}.wav", "ref_transcript": f"I am {index}."}
        for index in range(2)
    ]
    samples = [
        sample("huo_000000"),
        sample(
            "huo_000001", ref_audio_file="refs/0.wav", ref_transcript="我是火君。", task_type="zero_shot_voice_cloning"
        ),
        sample("huo_000002", ref_speakers=speakers, task_type="multi_speaker_voice_cloning", user_instruction=None),
        sample("huo_000003", gender="female", quality_score=0.5, emotion="neutral", scene="a busy street"),
    ]
    higgs_folder(folder, *samples, texts=["你好。", "Xin chào.", "[SPEAKER0] Hi.\n[SPEAKER1] مرحبا", "Bye 🎉 42"])
    for index in range(2):
        write_tone(folder / f"refs/{index}.wav", hertz=500.0 + 50 * index)
    return folder


def test_every_field_of_train_higgs_audio_has_its_column(tmp_path):
    folder = full_folder(tmp_path / "higgs")
    rows, rejects = imported(tmp_path / "out", format="train_higgs_audio", sources=[str(folder)])
    assert not rejects and rows[0] == {
        "id": "huo_000000",
        "file_name": "audio/huo_000000.wav",
        "text": "你好。",
        "speaker": "huo_speaker",
        "speaker_name": "Huo",
        "language": "zh",
        "gender": None,
        "scene": "Audio is recorded from a recording system. The speaker sounds alerting.",
        "scene_label": "recording_system",
        "emotion": "alerting",
        "ref_audio_file_name": None,
        "ref_text": None,
        "ref_speakers": None,
        "task": None,
        "user_instruction": "<audio> /translate",
        "quality_score": 1.0,
        "original_audio_path": "/srv/recordings/huo_000000.wav",
        "duration": 0.4,
    }
    assert (rows[1]["ref_audio_file_name"], rows[1]["ref_text"]) == ("audio/refs/0.wav", "我是火君。")
    assert rows[2]["ref_speakers"][1] == {
        "speaker_tag": "[SPEAKER1]",
        "ref_text": "I am 1.",
        "ref_audio": "audio/refs/1.wav",
    }
    assert rows[3]["gender"] == "female" and rows[3]["scene"].startswith("Audio is recorded from a busy street. ")


@pytest.mark.parametrize("copy_audio", [True, False])
def test_train_higgs_audio_goes_both_ways(tmp_path, copy_audio):
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


def test_a_folder_without_metadata_json_is_its_recordings_and_transcripts(tmp_path):
    folder = write_tones(tmp_path / "higgs", "a.wav", "b.wav", "c.wav", "d.wav")
    (folder / "a.txt").write_bytes("\ufeff你好\r\nHello \n".encode())
    (folder / "b.txt").write_bytes(b"one\ncaf\xe9\n")
    (folder / "c.txt").write_text("\n")
    rows, rejects = imported(tmp_path / "out", format="train_higgs_audio", sources=[str(folder)])
    assert [(row["id"], row["text"], row["speaker"]) for row in rows] == [("a", "你好\nHello", None)]
    assert rejects["b.txt", 1] == f"not UTF-8 (byte 0xe9); save the file as UTF-8; line 2 of {folder}/b.txt"
    assert rejects["c.txt", 1].startswith("empty transcript")
    assert rejects["d.txt", 1].startswith("cannot be read: No such file")


def test_broken_samples_are_named_by_the_line_of_metadata_json(tmp_path):
    samples = [
        sample("good"),
        sample("good", audio_file="other.wav", transcript_file="other.txt"),
        sample("up", audio_file="../up.wav"),
        sample("root", audio_file="/etc/hostname"),
        sample("text_up", transcript_file="../out.txt"),
        sample("nowhere"),
        sample("ref", ref_audio_file="../ref.wav", ref_transcript="Hi."),
        sample("refs", ref_speakers=["anna"]),
        sample("low", quality_score=0.2),
        sample("none", quality_score="good"),
        sample("nan", quality_score=float("nan")),
        sample("half", user_instruction="half of a pair"),
        sample("zero", audio_file="a\0.wav"),
        sample("dot", audio_file="."),
    ]
    folder = higgs_folder(tmp_path / "higgs", *samples, texts=["Hi."] * len(samples))
    write_tone(tmp_path / "up.wav")
    (folder / "nowhere.wav").unlink()
    metadata = (folder / "metadata.json").read_text()
    (folder / "metadata.json").write_text(metadata.replace("half of a pair", r"\ud83d"))
    rows, rejects = imported(
        tmp_path / "out", format="train_higgs_audio", sources=[str(folder)], min_quality_score=0.5
    )
    lines = (folder / "metadata.json").read_text().splitlines()
    assert [row["id"] for row in rows] == ["good"] and all(name == "metadata.json" for name, _ in rejects)
    assert {
        json.loads("{" + lines[line].rstrip(",") + "}")["id"]: why.split(":")[0] for (_, line), why in rejects.items()
    } == {
        "good": "duplicate id",
        "up": "recording leaves its folder",
        "root": "recording leaves its folder",
        "text_up": "transcript_file leaves its folder",
        "nowhere": "recording",
        "ref": "reference clip leaves its folder",
        "refs": "ref_speakers is not a list of {speaker_tag, ref_audio_file, ref_transcript}",
        "low": "quality_score too low",
        "none": "quality_score is not a number",
        "nan": "quality_score is not a number",
        "half": "invalid Unicode",
        "zero": "no file name",
        "dot": "no file name",
    }
    assert {reject["id"] for reject in json_lines(tmp_path / "out/rejects.jsonl")} >= {"low", "up", "nowhere"}
    assert not list((tmp_path / "out/audio").rglob("low*"))  # a rejected row leaves no recording


def test_a_metadata_json_that_cannot_be_read_is_refused_by_its_line(tmp_path):
    folder = higgs_folder(tmp_path / "higgs", sample("a"))
    whole = (folder / "metadata.json").read_text()
    fields = {"format": "train_higgs_audio", "sources": [str(folder)]}
    for broken, message in [
        (whole.replace('"audio_generation"\n', '"audio_generation",\n'), r"metadata.json line 2\d: not JSON"),
        ("[]", "no list of samples"),
        ('{"samples": {}}', "no list of samples"),
        (whole.encode("utf-16"), "UTF-16: save"),
        (whole.replace("Huo", "caf\xe9").encode("latin-1"), "not UTF-8 .* line 12 of .*metadata.json"),
    ]:
        (folder / "metadata.json").write_bytes(broken if isinstance(broken, bytes) else broken.encode())
        with pytest.raises(InputError, match=message):
            imported(tmp_path / "out", **fields)
    (folder / "metadata.json").write_text(
        '{"a": [1, {"samples": []}], "samples": [3, ' + whole.split('"samples": [')[1]
    )
    rows, rejects = imported(tmp_path / "out", **fields)  # the line is that of the sample, whatever stands before it
    assert len(rows) == 1 and rejects == {("metadata.json", 1): "not a JSON object but a int"}
    shutil.rmtree(folder)
    folder.mkdir()
    with pytest.raises(InputError, match="neither metadata.json nor a .wav or .mp3 file"):
        imported(tmp_path / "out", **fields)


# The folder that import leaves


def test_encode_takes_an_imported_corpus_as_it_is(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("00_heart.flac", "01_rms.flac"):
        shutil.copy(CLIPS / name, folder)
    (folder / "all.list").write_text(
        "00_heart.flac|heart|en|The birch canoe slid.\n01_rms.flac|rms|en|Glue the sheet.\n"
    )
    for copy_audio in (True, False):
        source = {"path": str(folder / "all.list"), "scene": "quiet_room"}
        imported(tmp_path / "out", format="gpt_sovits", sources=[source], copy_audio=copy_audio)
        assert (tmp_path / "out/audio/00_heart.flac").is_symlink() is not copy_audio
        rows = load_rows(encode_config(tmp_path / "out")).rows
        assert [(row["id"], row["speaker"], row["language"], row["scene"]) for row in rows] == [
            ("00_heart", "heart", "en", "Audio is recorded from a quiet room."),
            ("01_rms", "rms", "en", "Audio is recorded from a quiet room."),
        ]
    assert sorted(path.name for path in folder.iterdir()) == ["00_heart.flac", "01_rms.flac", "all.list"]


def test_references_are_clips_of_the_imported_corpus(tmp_path):
    folder = full_folder(tmp_path / "higgs")
    imported(tmp_path / "out", format="train_higgs_audio", sources=[str(folder)])
    (source,) = open_sources(encode_config(tmp_path / "out"))
    rows = [source.row(index) for index in range(4)]
    assert rows[1]["ref_text"] == "我是火君。"
    clips = [rows[1]["ref_audio"], *(speaker["ref_audio"] for speaker in rows[2]["ref_speakers"])]
    assert [len(read_audio(clip, name="reference")) for clip in clips] == [12_000] * 3


def test_encode_teaches_the_tasks_that_an_imported_corpus_names(tmp_path):
    imported(tmp_path / "out", format="train_higgs_audio", sources=[str(full_folder(tmp_path / "higgs"))])
    config = encode_config(tmp_path / "out", test_size=0)
    corpus = load_rows(config)
    rows = assign_tasks(corpus, corpus.rows, config, split="train")
    assert {row["id"]: (row["task"], row["ref_texts"]) for row in rows} == {
        "huo_000000": ("single_speaker_smart_voice", []),
        "huo_000001": ("zero_shot_voice_cloning", ["我是火君."]),
        "huo_000002": ("multi_speaker_voice_cloning", ["I am 0.", "I am 1."]),
        "huo_000003": ("single_speaker_smart_voice", []),
    }
    scene = json.loads(rows[0]["messages"])[1]["content"][0]["text"]
    assert scene == "Audio is recorded from a recording system. The speaker sounds alerting."


def test_copies_are_the_recordings_to_the_byte(tmp_path):
    folder = full_folder(tmp_path / "higgs")
    imported(tmp_path / "out", format="train_higgs_audio", sources=[str(folder)], copy_audio=True)
    shutil.rmtree(folder)
    copies = {path.name: path for path in (tmp_path / "out/audio").rglob("*.wav")}
    hashes = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in copies.items()}
    full_folder(folder)
    assert len(copies) == 6
    for path in folder.rglob("*.wav"):
        assert hashes[path.name] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_each_list_has_its_own_speaker_and_ids_of_two_sources_do_not_meet(tmp_path):
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


def test_what_is_said_of_a_source_holds_whatever_its_rows_say(tmp_path):
    folder = write_tones(tmp_path / "in", "a.wav")
    write_metadata(folder, [{"file_name": "a.wav", "text": "Hello.", "speaker": "anna", "who": "bert"}])
    fields = {"format": "audiofolder", "columns": {"speaker": "who"}}
    for source, speaker in (({"path": str(folder)}, "bert"), ({"path": str(folder), "speaker": "carl"}, "carl")):
        (row,), _ = imported(tmp_path / "out", sources=[source], **fields)
        assert row["speaker"] == speaker


def test_the_same_clip_twice_is_found_whatever_its_name_and_source(tmp_path):
    write_tone(tmp_path / "a/x.wav")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    for name, text in (("a", "Hello."), ("b", "Bye.")):
        (tmp_path / name / "all.list").write_text(f"x.wav|anna|en|{text}\n")
    sources = [str(tmp_path / name / "all.list") for name in "ab"]
    rows, rejects = imported(tmp_path / "out", format="gpt_sovits", sources=sources)
    assert len(rows) == 1
    assert rejects == {("all.list", 1): f"same recording with another transcript: {sources[0]} line 1 has it too"}


def test_the_record_says_what_was_made_of_what(tmp_path):
    folder = write_tones(tmp_path / "in", "a.wav", "b.wav")
    (folder / "all.list").write_text("a.wav|x|en|Hello.\nb.wav|x|en|Bye.\nc.wav|x|en|No.\nd.wav|x|en|No.\n")
    config = ImportConfig(format="gpt_sovits", sources=[str(folder / "all.list")], output_dir=str(tmp_path / "out"))
    record = import_corpus(config)
    assert record == json.loads((tmp_path / "out/import.json").read_text())
    assert (record["rows"], record["seconds"], record["rejects"]) == (2, 0.8, {"recording cannot be read": 2})
    assert record["recipe"]["format"] == "gpt_sovits"
    with pytest.raises(InputError, match="out exists and is not empty"):
        import_corpus(config)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"sources": ["x"]}, "format is missing"),
        ({"format": "f5"}, "sources is empty"),
        ({"format": "f5", "sources": ["nowhere.csv"]}, "no such file or folder: nowhere.csv"),
        ({"format": "f5", "sources": ["."]}, r"\. is no list file; format f5 needs one"),
        ({"format": "vctk", "sources": [__file__]}, "is no folder; format vctk needs one"),
        ({"format": "f5", "sources": [{"path": "x", "speker": "y"}]}, r"unknown key \['speker'\]"),
        ({"format": "f5", "sources": [{"speaker": "y"}]}, "path of .* must be a string"),
        ({"format": "f5", "sources": ["x"], "columns": "a: b"}, "columns must be a mapping"),
    ],
)
def test_a_wrong_recipe_is_named(tmp_path, fields, message):
    with pytest.raises(InputError, match=message):
        import_corpus(ImportConfig(output_dir=str(tmp_path / "out"), **fields))


def test_an_import_that_fails_leaves_nothing(tmp_path):
    (tmp_path / "all.list").write_text("a.wav|x|en|Hello.\n")
    with pytest.raises(InputError, match=r"no row is left of 1: \{'recording cannot be read': 1\}; .*'line': 1"):
        imported(tmp_path / "out", format="gpt_sovits", sources=[str(tmp_path / "all.list")])
    assert [path.name for path in tmp_path.iterdir()] == ["all.list"]


# Export of other corpora


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
        ([{"file_name": "../a.wav", "text": "Hi."}], r"line 2: \.\./a.wav leaves the folder"),
        ([{"file_name": "b.wav", "text": "Hi."}], "line 2: no such recording"),
        ([{"file_name": "a.wav", "text": ""}], "line 2: no text"),
        ([{"file_name": name, "text": "Hi."} for name in ("a.wav", "a.flac")], "a.txt is the transcript of row a too"),
    ],
)
def test_a_corpus_that_cannot_be_exported_whole_is_not_exported(tmp_path, rows, message):
    write_tones(tmp_path / "in", "a.wav", "a.flac", "../a.wav")
    write_metadata(tmp_path / "in", rows)
    with pytest.raises(InputError, match=message):
        export_corpus(ExportConfig(source=str(tmp_path / "in"), output_dir=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


def test_the_scripts_say_where_the_corpus_is(tmp_path, monkeypatch, capsys):
    folder = full_folder(tmp_path / "higgs")
    out, back = str(tmp_path / "out"), str(tmp_path / "back")
    flags = ["import_corpus.py", "--format", "train_higgs_audio", "--sources", str(folder), "--output_dir", out]
    monkeypatch.setattr(sys, "argv", flags)
    import_script.main()
    monkeypatch.setattr(sys, "argv", ["export_corpus.py", "--source", out, "--output_dir", back])
    export_script.main()
    said = capsys.readouterr().out.splitlines()
    assert said == [f"corpus: {out}: 4 rows, 0.00 hours; 0 rejected, see rejects.jsonl", f"exported: {back}: 4 rows"]
