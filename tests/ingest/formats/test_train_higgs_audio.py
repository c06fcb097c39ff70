"""Folders of train-higgs-audio."""

import json
import shutil

import pytest
import yaml

from higgs_recipes.errors import InputError
from tests.helpers.corpus_folder import write_tone
from tests.helpers.higgs_folder import full_folder, higgs_folder, sample
from tests.helpers.import_folder import imported, json_lines, write_tones
from tests.helpers.paths import ROOT


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


def test_without_metadata_json_each_recording_is_a_row(tmp_path):
    folder = write_tones(tmp_path / "higgs", "a.wav", "b.wav", "c.wav", "d.wav")
    (folder / "a.txt").write_bytes("\ufeff你好\r\nHello \n".encode())
    (folder / "b.txt").write_bytes(b"one\ncaf\xe9\n")
    (folder / "c.txt").write_text("\n")
    rows, rejects = imported(tmp_path / "out", format="train_higgs_audio", sources=[str(folder)])
    assert [(row["id"], row["text"], row["speaker"]) for row in rows] == [("a", "你好\nHello", None)]
    assert rejects["b.txt", 1].startswith("not UTF-8 (byte 0xe9); convert the file by `iconv -f ")
    assert rejects["b.txt", 1].endswith(f"; line 2 of {folder}/b.txt")
    assert rejects["c.txt", 1].startswith("empty transcript")
    assert rejects["d.txt", 1].startswith("cannot be read: No such file")


def test_broken_samples_are_rejected_with_their_line(tmp_path):
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


def test_a_broken_metadata_json_is_an_error_with_its_line(tmp_path):
    folder = higgs_folder(tmp_path / "higgs", sample("a"))
    whole = (folder / "metadata.json").read_text()
    fields = {"format": "train_higgs_audio", "sources": [str(folder)]}
    for broken, message in [
        (whole.replace('"audio_generation"\n', '"audio_generation",\n'), r"metadata.json line 2\d: not JSON"),
        ("[]", "no list of samples"),
        ('{"samples": {}}', "no list of samples"),
        (whole.encode("utf-16-le"), "UTF-16: .* has no byte order mark"),
        (whole.replace("Huo", "caf\xe9").encode("latin-1"), "not UTF-8 .* line 12 of .*metadata.json"),
    ]:
        (folder / "metadata.json").write_bytes(broken if isinstance(broken, bytes) else broken.encode())
        with pytest.raises(InputError, match=message):
            imported(tmp_path / "out", **fields)
    (folder / "metadata.json").write_text(
        '{"a": [1, {"samples": []}], "samples": [3, ' + whole.split('"samples": [')[1]
    )
    rows, rejects = imported(tmp_path / "out", **fields)  # the line of the sample, whatever precedes it
    assert len(rows) == 1 and rejects == {("metadata.json", 1): "not a JSON object but a int"}
    shutil.rmtree(folder)
    folder.mkdir()
    with pytest.raises(InputError, match="neither metadata.json nor recordings"):
        imported(tmp_path / "out", **fields)


def test_a_folder_of_all_suffixes_and_subfolders_with_the_shipped_recipe(tmp_path, caplog):
    folder = write_tones(tmp_path / "in", "a.wav", "b.flac", "c.MP3", "sub/deep/d.ogg", "e.wav", "e.flac", "._a.wav")
    for name in ("a.txt", "b.txt", "c.txt", "sub/deep/d.txt", "e.txt", "e.flac.txt", "lone.txt", "g.TXT"):
        (folder / name).write_text(f"The text of {name}.")
    write_tone(folder / "g.wav", hertz=777.0)
    recipe = yaml.safe_load((ROOT / "recipes/import/train_higgs_audio.yaml").read_text())
    recipe |= {"sources": [str(folder)]}
    del recipe["output_dir"]
    rows, rejects = imported(tmp_path / "out", **recipe)
    assert {row["file_name"].removeprefix("audio/"): row["text"] for row in rows} == {
        "a.wav": "The text of a.txt.",
        "b.flac": "The text of b.txt.",
        "c.MP3": "The text of c.txt.",
        "e.flac": "The text of e.flac.txt.",
        "e.wav": "The text of e.txt.",
        "g.wav": "The text of g.TXT.",
        "sub/deep/d.ogg": "The text of sub/deep/d.txt.",
    }
    assert len({row["id"] for row in rows}) == 7
    assert rejects == {("lone.txt", 1): "no recording for this transcript"}
    assert "7 rows have no quality_score; min_quality_score does not reject them" in caplog.text


@pytest.mark.parametrize("path", ["{folder}/a.{0}", "sub\\..\\a.{0}", "../in/a.{0}", '"a.{0}"', "{link}/a.{0}"])
def test_transcript_file_is_found_like_audio_file(tmp_path, path):
    folder = write_tones(tmp_path / "in", "a.wav")
    (tmp_path / "link").symlink_to(folder)
    (folder / "a.txt").write_text("Hello.")
    files = {
        key: path.format(suffix, folder=folder, link=tmp_path / "link")
        for key, suffix in (("audio_file", "wav"), ("transcript_file", "txt"))
    }
    (folder / "metadata.json").write_text(json.dumps({"samples": [{"id": "a", **files}]}))
    (row,), rejects = imported(tmp_path / "out", format="train_higgs_audio", sources=[str(folder)])
    assert row["text"] == "Hello." and not rejects


def test_transcripts_are_found_in_the_source_or_in_audio_dir(tmp_path):
    write_tones(tmp_path / "audio", "a.wav", "b.wav")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.txt").write_text("In the source.")
    (tmp_path / "audio/b.txt").write_text("With the recordings.")
    samples = [{"audio_file": f"D:\\x\\{name}.wav", "transcript_file": f"D:\\x\\{name}.txt"} for name in "abc"]
    (tmp_path / "in/metadata.json").write_text(json.dumps({"samples": samples}))
    rows, rejects = imported(
        tmp_path / "out", format="train_higgs_audio", sources=[str(tmp_path / "in")], audio_dir=str(tmp_path / "audio")
    )
    assert [row["text"] for row in rows] == ["In the source.", "With the recordings."] and len(rejects) == 1
