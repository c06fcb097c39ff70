"""Data folders of Kaldi."""

import os
import shutil
from pathlib import Path

import pytest
import soundfile
import torch

from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.errors import InputError
from higgs_recipes.ingest import importer
from tests.helpers.audio_files import encode, half
from tests.helpers.corpus_folder import write_tone
from tests.helpers.import_folder import imported, write_tones
from tests.helpers.raw_folder import CLIPS
from tests.helpers.tiny_codec import tone


def kaldi(folder: Path, **tables: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in tables.items():
        (folder / name.replace("wav_scp", "wav.scp")).write_text(content)
    return folder


def test_a_recording_in_an_archive_is_a_reject(tmp_path):
    data = kaldi(
        write_tones(tmp_path / "data", "a.wav"), wav_scp="u1 data.ark:1234\nu2 a.wav\n", text="u1 Hi.\nu2 Ho."
    )
    (row,), rejects = imported(tmp_path / "out", format="kaldi", sources=[str(data)])
    assert row["id"] == "u2" and "data.ark:1234 is a part of an archive: write it to a file" in rejects["text", 1]


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


def test_segments_of_a_truncated_recording_are_cut_out_of_what_is_there(tmp_path):
    """Only a whole recording may end before its last segment, by at most a second."""
    content = encode(tone(4.0), rate=24_000)
    data = kaldi(
        tmp_path / "data",
        wav_scp="r1 a.wav\nr2 b.wav\n",
        text="u1 One.\nu2 Two.\nu3 Three.\n",
        segments="u1 r1 0.0 1.5\nu2 r1 1.5 2.5\nu3 r2 1.5 4.5\n",
    )
    (data / "a.wav").write_bytes(half(content))
    (data / "b.wav").write_bytes(content)
    rows, rejects = imported(tmp_path / "out", format="kaldi", sources=[str(data)], copy_audio=True)
    assert [(row["id"], row["duration"]) for row in rows] == [("u1", 1.5), ("u3", 2.5)]
    (reason,) = rejects.values()
    assert (
        reason == "segment too late: it ends at 2.5 s, the recording at 2.00 s (truncated: 2.00 s of 4.00 s are there)"
    )


def test_a_segment_may_end_with_the_recording_and_name_a_channel(tmp_path):
    write_tone(tmp_path / "data/long.flac", seconds=3.0)
    stereo = torch.stack([tone(1.0), tone(1.0, hertz=330.0)], dim=1)
    soundfile.write(tmp_path / "data/stereo.wav", stereo.numpy(), SAMPLE_RATE)
    data = kaldi(
        tmp_path / "data",
        wav_scp="r1 long.flac\nr2 stereo.wav\n",
        text="".join(f"u{index} text {index}\n" for index in range(1, 9)),
        segments="u1 r1 0.0 1.0\nu2 r1 2.25 -1\nu3 r1 1.0 2.0 0\nu4 r1 1 2 1\nu5 r2 0.0 0.5 1\nu6 r2 0.5 1.0 -1\n"
        "u7 r1 -1 2\nu8 r1 nan inf\n",
    )
    rows, rejects = imported(tmp_path / "out", format="kaldi", sources=[str(data)], copy_audio=True)
    seconds = {"u1": 1.0, "u2": 0.75, "u3": 1.0, "u6": 0.5}
    assert {row["id"]: row["duration"] for row in rows} == seconds
    assert {line: reason for (_, line), reason in rejects.items()} == {
        4: "no segment: it names channel 1, the recording has 1: split it into files",
        5: "no segment: it names channel 1, the recording has 2: split it into files",
        7: "no segment: it starts at -1.0 s and ends at 2.0 s",
        8: "no segment: it starts at nan s and ends at inf s",
    }


def test_each_recording_is_opened_once_whatever_the_order_of_the_segments(tmp_path, monkeypatch):
    opened = []

    class Counted(importer.LongRecording):
        def __init__(self, path):
            opened.append(path.name)
            super().__init__(path)

    monkeypatch.setattr(importer, "LongRecording", Counted)
    for index in range(3):
        write_tone(tmp_path / f"data/{index}.wav", seconds=2.0, hertz=200.0 + 50 * index)
    utterances = [(f"u{turn}_{index}", index, turn) for turn in (3, 0, 2, 1) for index in range(3)]
    data = kaldi(
        tmp_path / "data",
        wav_scp="".join(f"r{index} {index}.wav\n" for index in range(3)),
        text="".join(f"{name} Turn {turn} of {index}.\n" for name, index, turn in utterances),
        segments="".join(f"{name} r{index} {turn * 0.5} {turn * 0.5 + 0.4}\n" for name, index, turn in utterances),
    )
    rows, rejects = imported(tmp_path / "out", format="kaldi", sources=[str(data)], copy_audio=True)
    assert len(rows) == 12 and not rejects and opened == ["0.wav", "1.wav", "2.wav"]
    for index in range(3):
        samples, _ = soundfile.read(tmp_path / f"data/{index}.wav")
        for turn in range(4):
            clip, _ = soundfile.read(tmp_path / f"out/audio/u{turn}_{index}.wav")
            assert clip == pytest.approx(samples[turn * 12_000 : turn * 12_000 + 9_600], abs=1e-4)


@pytest.mark.parametrize("name", ["text", "wav.scp"])
def test_a_table_that_is_a_pipe_does_not_block(tmp_path, name):
    data = kaldi(tmp_path / "data", wav_scp="u1 1.wav\n", text="u1 Hello.\n")
    (data / name).unlink()
    os.mkfifo(data / name)
    with pytest.raises(InputError, match=f"{name} is not a file"):
        imported(tmp_path / "out", format="kaldi", sources=[str(data)])
