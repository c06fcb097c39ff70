"""Lists of F5-TTS."""

import pytest

from higgs_recipes.errors import InputError
from tests.helpers.import_folder import imported, write_tones


def test_quotes_around_the_whole_text_are_those_of_csv(tmp_path):
    folder = write_tones(tmp_path / "in", "a.wav", "b.wav", "c.wav")
    (folder / "metadata.csv").write_text(
        'audio_file|text\na.wav|"one | ""two"""\nb.wav|"Yes," he said.\nc.wav|one | two\n'
    )
    source = str(folder / "metadata.csv")
    rows, rejects = imported(tmp_path / "out", format="f5", sources=[source])
    assert [row["text"] for row in rows] == ['one | "two"', '"Yes," he said.']
    assert rejects["metadata.csv", 4].startswith("more than two cells")
    (folder / "metadata.csv").write_text("a.wav|Hello.\n")
    with pytest.raises(InputError, match=r"metadata.csv line 1: the header must be audio_file\|text"):
        imported(tmp_path / "out", format="f5", sources=[source])
