"""Data folders of Kaldi."""

import shutil
from pathlib import Path

import pytest

from higgs_recipes.errors import InputError
from tests.helpers.import_folder import imported, write_tones
from tests.helpers.raw_folder import CLIPS


def kaldi(folder: Path, **tables: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in tables.items():
        (folder / name.replace("wav_scp", "wav.scp")).write_text(content)
    return folder


def test_tables_are_joined(tmp_path):
    write_tones(tmp_path / "audio", "1.wav", "2.wav", "3.wav", "4.wav")
    data = kaldi(
        tmp_path / "data",
        wav_scp=f"u1 {tmp_path}/audio/1.wav\nu2\t2.wav\nu3 sph2pipe 3.sph |\nu4 4.wav\nu5 9.wav\nu1 3.wav\nu7\n",
        text="u1 你好 42\nu2 Hello  there\nu3 By command.\nu5 Missing.\nu6 No line.\nu2 Again\n",
        utt2spk="u1 anna\nu2 bert\n",
        spk2gender="anna f\n",
        utt2lang="u1 zh\n",
    )
    rows, rejects = imported(tmp_path / "out", format="kaldi", sources=[str(data)], audio_dir=str(tmp_path / "audio"))
    assert [(row["id"], row["text"], row["speaker"], row["gender"], row["language"]) for row in rows] == [
        ("u1", "你好 42", "anna", "female", "zh"),
        ("u2", "Hello  there", "bert", None, None),
    ]
    assert {place: reason.split(":")[0].split(";")[0] for place, reason in rejects.items()} == {
        ("text", 3): "recording by a command",
        ("text", 4): "recording",
        ("text", 5): "no recording for this transcript",
        ("text", 6): "duplicate id",
        ("wav.scp", 4): "no transcript for this recording",
        ("wav.scp", 6): "duplicate id",
        ("wav.scp", 7): "one cell",
    }


def test_segments_are_cut_with_copy_audio(tmp_path):
    shutil.copytree(CLIPS, tmp_path / "data")
    data = kaldi(
        tmp_path / "data",
        wav_scp="r1 00_heart.flac\n",
        text="u1 One.\nu2 Two.\nu3 Three.\nu4 Four.\nu5 Five.\nu6 Six.\n",
        segments="u1 r1 0.0 0.5\nu2 r1 0.5 1.25\nu3 r1 90 91\nu4 r1 2 1\nu5 r1 x y\n",
    )
    rows, rejects = imported(tmp_path / "out", format="kaldi", sources=[str(data)], copy_audio=True)
    assert [(row["file_name"], row["duration"]) for row in rows] == [("audio/u1.wav", 0.5), ("audio/u2.wav", 0.75)]
    assert {line: reason.split(":")[0] for (_, line), reason in rejects.items()} == {
        3: "segment too late",
        4: "no segment",
        5: "no segment",
        6: "no segment",
    }
    with pytest.raises(InputError, match="part of a longer file; set copy_audio: true"):
        imported(tmp_path / "out", format="kaldi", sources=[str(data)])


def test_whole_recordings_are_not_clips_if_segments_is_broken(tmp_path):
    write_tones(tmp_path / "data", "1.wav")
    data = kaldi(tmp_path / "data", wav_scp="u1 1.wav\n", text="u1 Hello.\n", segments="u1\n")
    with pytest.raises(InputError, match="all 2 rows were rejected: {'no segment': 1, 'wrong number of cells': 1}"):
        imported(tmp_path / "out", format="kaldi", sources=[str(data)], copy_audio=True)
