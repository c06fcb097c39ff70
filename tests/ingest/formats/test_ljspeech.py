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
