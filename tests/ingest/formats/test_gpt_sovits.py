"""Lists of GPT-SoVITS."""

from tests.helpers.import_folder import imported, write_tones


def test_bars_in_a_text_and_windows_paths(tmp_path):
    folder = write_tones(tmp_path / "in", "wavs/a.wav", "b.wav")
    (folder / "all.list").write_text("wavs\\a.wav|anna|ZH|one | two\nb.wav||en|Hello.\n")
    rows, _ = imported(tmp_path / "out", format="gpt_sovits", sources=[str(folder / "all.list")])
    assert [(row["text"], row["speaker"], row["language"]) for row in rows] == [
        ("one | two", "anna", "ZH"),
        ("Hello.", None, "en"),
    ]
