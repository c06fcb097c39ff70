"""Lists of GPT-SoVITS."""

import pytest

from higgs_recipes.errors import InputError
from tests.helpers.import_folder import imported, write_tones


def test_bars_in_a_text_and_windows_paths(tmp_path):
    folder = write_tones(tmp_path / "in", "wavs/a.wav", "b.wav")
    (folder / "all.list").write_text("wavs\\a.wav|anna|ZH|one | two\nb.wav||en|Hello.\n")
    rows, _ = imported(tmp_path / "out", format="gpt_sovits", sources=[str(folder / "all.list")])
    assert [(row["text"], row["speaker"], row["language"]) for row in rows] == [
        ("one | two", "anna", "ZH"),
        ("Hello.", None, "en"),
    ]


@pytest.mark.parametrize(
    "path",
    [
        "D:\\GPT-SoVITS\\output\\slicer_opt\\v_1.wav",
        '"D:\\GPT-SoVITS\\output\\slicer_opt\\v_1.wav"',
        "/home/someone/output/slicer_opt/v_1.wav",
        "output/slicer_opt/v_1.wav",
        "../in/slicer_opt/v_1.wav",
    ],
)
def test_lists_of_other_computers_are_read_with_audio_dir(tmp_path, path):
    folder = write_tones(tmp_path / "in", "slicer_opt/v_1.wav", "v_2.wav")
    (folder / "a.list").write_text(f"{path}|huo|ZH|你好。\n{path.replace('v_1', 'v_2')}|huo|ZH|再见。\n")
    rows, rejects = imported(
        tmp_path / "out", format="gpt_sovits", sources=[str(folder / "a.list")], audio_dir=str(folder)
    )
    assert [row["file_name"] for row in rows][:1] == ["audio/slicer_opt/v_1.wav"]
    assert len(rows) == 2 or path.startswith("..") and len(rejects) == 1
    if not path.startswith(("output", "..")):
        with pytest.raises(InputError, match="leaves its folder: .*; set audio_dir to the folder of all recordings"):
            imported(tmp_path / "out", format="gpt_sovits", sources=[str(folder / "a.list")])
