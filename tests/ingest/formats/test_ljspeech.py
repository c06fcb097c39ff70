"""Folders of LJSpeech."""

import pytest

from higgs_recipes.errors import InputError
from tests.helpers.import_folder import imported, write_tones


def test_the_normalized_text_is_used_and_no_speaker_guessed(tmp_path):
    folder = write_tones(tmp_path / "LJ", "wavs/LJ-1.wav", "wavs/LJ-2.wav", "wavs/LJ-3.wav")
    lines = [
        'LJ-1|Mr. "B" at 8|Mister "B" at eight',
        "LJ-2|xin chào",
        "LJ-3|a|",
        "LJ-1|again",
        "LJ-9|x",
        "LJ-8",
        "|||",
    ]
    (folder / "metadata.csv").write_text("\r\n".join(lines))
    rows, rejects = imported(tmp_path / "out", format="ljspeech", sources=[str(folder)])
    assert [(row["id"], row["text"], row["speaker"]) for row in rows] == [
        ("LJ-1", 'Mister "B" at eight', None),
        ("LJ-2", "xin chào", None),
        ("LJ-3", "a", None),
    ]
    assert {line: reason.split(":")[0].split(";")[0] for (_, line), reason in rejects.items()} == {
        4: "duplicate id",
        5: "recording",
        6: "1 cells",
        7: "4 cells",
    }
    with pytest.raises(InputError, match="cannot be read: No such file or directory: .*metadata.csv"):
        imported(tmp_path / "out", format="ljspeech", sources=[str(tmp_path)])


def test_recordings_have_any_suffix_and_ids_may_have_one(tmp_path):
    names = ("a.wav", "b.flac", "c.WAV", "take.1.ogg", "e/f.wav", "g.flac", "h.WAV")
    folder = write_tones(tmp_path / "LJ", *[f"wavs/{name}" for name in names])
    (folder / "metadata.csv").write_text(
        "a.wav|One.\nb|Two.\nc.WAV|Three.\ntake.1|Four.\nwavs/e/f.wav|Five.\ng.wav|Six.\nh.wav|Seven.\n"
    )
    rows, rejects = imported(tmp_path / "out", format="ljspeech", sources=[str(folder)])
    assert not rejects and [(row["id"], row["file_name"]) for row in rows] == [
        ("a", "audio/wavs/a.wav"),
        ("b", "audio/wavs/b.flac"),
        ("c", "audio/wavs/c.WAV"),
        ("take.1", "audio/wavs/take.1.ogg"),
        ("wavs_e_f", "audio/wavs/e/f.wav"),
        ("g", "audio/wavs/g.flac"),
        ("h", "audio/wavs/h.WAV"),
    ]


def test_a_bar_in_the_text_and_a_speaker_column_are_rejected(tmp_path):
    folder = write_tones(tmp_path / "LJ", *[f"wavs/{name}.wav" for name in "abcdefgh"])
    lines = [
        "a|Yes|no, said he.",
        "b|ann|Good day.",
        "c|In 1836, he left.|In eighteen thirty-six, he left.",
        "d|42|forty-two",
    ]
    lines += ["e|Dr.|Doctor", "f|卡尔普陪外孙|ka2 er2 pu3 pei2", "g|你好|你好", "h|One|two|three"]
    (folder / "metadata.csv").write_text("\n".join(lines), encoding="utf-8")
    rows, rejects = imported(tmp_path / "out", format="ljspeech", sources=[str(folder)])
    spoken = {"c": "In eighteen thirty-six, he left.", "d": "forty-two", "e": "Doctor", "g": "你好"}
    assert {row["id"]: row["text"] for row in rows} == spoken
    message = "'no, said he.' is not 'Yes' normalized: a bar in the text, or another column?"
    assert rejects["metadata.csv", 1].startswith(message)
    assert sorted(line for _, line in rejects) == [1, 2, 6, 8]


def test_recordings_that_no_line_names_are_rejects(tmp_path):
    folder = write_tones(tmp_path / "LJ", "wavs/a.wav", "wavs/b.wav", "wavs/a.flac", "wavs/sub/c.mp3")
    (folder / "wavs/notes.txt").write_text("Not a recording.")
    (folder / "metadata.csv").write_text("a|One.\n")
    rows, rejects = imported(tmp_path / "out", format="ljspeech", sources=[str(folder)])
    assert [row["file_name"] for row in rows] == ["audio/wavs/a.wav"]
    assert {name: reason for (name, _), reason in rejects.items()} == dict.fromkeys(
        ("a.flac", "b.wav", "c.mp3"), "no transcript for this recording"
    )
