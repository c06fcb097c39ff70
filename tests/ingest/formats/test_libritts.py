"""Folders of LibriTTS and LibriTTS-R."""

import shutil
from pathlib import Path

import pytest

from higgs_recipes.errors import InputError
from tests.helpers.import_folder import imported, write_tones
from tests.helpers.raw_folder import CLIPS


def libritts(folder: Path) -> Path:
    for index, (name, text) in enumerate({"84_1_0": "你好。\n", "84_1_1": "Hello.", "174_2_0": ""}.items()):
        speaker, chapter, _ = name.split("_")
        place = folder / "train-clean-100" / speaker / chapter
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(CLIPS / f"0{index}_{('heart', 'rms')[index % 2]}.flac", place / f"{name}.wav")
        (place / f"{name}.normalized.txt").write_text(text)
        (place / f"{name}.original.txt").write_text("not this")
    return folder


@pytest.mark.parametrize(
    "table, content",
    [
        ("SPEAKERS.txt", "; comment\n;ID |SEX| SUBSET |MINUTES| NAME\n84   | F | train-clean-100 | 25.03 | X\n"),
        ("speakers.tsv", "READER\tGENDER\tSUBSET\tNAME\n84\tF\ttrain-clean-100\tX Y\n"),
    ],
)
def test_the_speaker_is_the_folder_above_the_chapter(tmp_path, table, content):
    folder = libritts(tmp_path / "LibriTTS")
    (folder / table).write_text(content)
    chapter = folder / "train-clean-100/84/1"
    write_tones(chapter, "84_1_2.wav")
    (chapter / "84_1_3.normalized.txt").write_text("Hello.")
    (chapter / "84_1_1.normalized.txt").write_bytes(b"ok\ncaf\xe9")
    for source, where in ((folder, "train-clean-100/"), (folder / "train-clean-100", "")):
        rows, rejects = imported(tmp_path / "out", format="libritts", sources=[str(source)])
        (row,) = rows
        assert (row["id"], row["text"], row["speaker"], row["gender"]) == ("84_1_0", "你好。", "84", "female")
        assert row["file_name"] == f"audio/{where}84/1/84_1_0.wav"
        assert rejects.pop(("84_1_1.normalized.txt", 1)).startswith("not UTF-8 (byte 0xe9)")
        assert {name: reason.split(":")[0] for (name, _), reason in rejects.items()} == {
            "174_2_0.normalized.txt": "empty transcript",
            "84_1_2.wav": "no transcript for this recording",
            "84_1_3.normalized.txt": "no recording for this transcript",
        }
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no recordings in the folders of this format"):
        imported(tmp_path / "out", format="libritts", sources=[str(tmp_path / "empty")])


@pytest.mark.parametrize("suffix", [".WAV", ".flac", ".ogg"])
def test_recordings_have_any_suffix(tmp_path, suffix):
    folder = write_tones(tmp_path / "in", f"84/1/84_1_0{suffix}", "._84_1_9.wav")
    (folder / "84/1/84_1_0.normalized.txt").write_text("Hello.")
    (folder / "84/1/._84_1_0.normalized.txt").write_text("macOS metadata")
    (row,), rejects = imported(tmp_path / "out", format="libritts", sources=[str(folder)])
    assert (row["id"], row["speaker"]) == ("84_1_0", "84") and not rejects


def test_linked_speakers_are_read_with_follow_links_and_named_without(tmp_path, caplog):
    folder = write_tones(tmp_path / "in", "84/1/84_1_0.wav", "../disk/85/1/85_1_0.wav")
    for path in (folder / "84/1/84_1_0.normalized.txt", tmp_path / "disk/85/1/85_1_0.normalized.txt"):
        path.write_text(f"Hello, {path.name}.")
    (folder / "85").symlink_to("../disk/85")
    (folder / "loop").symlink_to(".")
    fields = {"format": "libritts", "sources": [str(folder)]}
    rows, rejects = imported(tmp_path / "out", **fields, follow_links=True)
    assert [(row["id"], row["speaker"]) for row in rows] == [("84_1_0", "84"), ("85_1_0", "85")] and not rejects
    rows, rejects = imported(tmp_path / "out", **fields)
    assert [row["id"] for row in rows] == ["84_1_0"] and not rejects
    assert f"{folder}/85: skipped, a link to a folder outside: name that folder as a source" in caplog.text
