"""Folders of VCTK."""

import pytest

from tests.helpers.import_folder import imported, write_tones


@pytest.mark.parametrize("audio", ["wav48_silence_trimmed/{}/{}_mic1.flac", "wav48/{}/{}.wav"])
def test_the_speaker_is_the_folder_and_the_first_microphone_is_used(tmp_path, audio):
    folder = tmp_path / "VCTK"
    for speaker in ("p225", "p226"):
        write_tones(folder, audio.format(speaker, f"{speaker}_001"))
        (folder / f"txt/{speaker}").mkdir(parents=True)
        (folder / f"txt/{speaker}/{speaker}_001.txt").write_text("Please call Stella.\r\n")
    write_tones(folder, "other.wav", audio.format("p225", "p225_002"), audio.format("p226", "p226_001"))
    if "mic1" in audio:
        write_tones(folder, "wav48_silence_trimmed/p225/p225_001_mic2.flac")
    (folder / "speaker-info.txt").write_text(
        "ID  AGE  GENDER  ACCENTS  REGION\n225  23  F  English\np226  22  M  English\n"
    )
    rows, rejects = imported(tmp_path / "out", format="vctk", sources=[str(folder)])
    assert [(row["id"], row["text"], row["speaker"], row["gender"]) for row in rows] == [
        ("p225_001", "Please call Stella.", "p225", "female"),
        ("p226_001", "Please call Stella.", "p226", "male"),
    ]
    (reason,) = rejects.values()
    assert reason == "no transcript for this recording"
