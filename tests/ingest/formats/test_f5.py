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


def test_quoted_texts_of_several_lines(tmp_path):
    folder = write_tones(tmp_path / "in", "a.wav", "b.wav", "c.wav")
    (folder / "metadata.csv").write_bytes(
        b'audio_file|text\r\na.wav|"One,\r\ntwo ""three""\r\n\r\nfour."\r\nb.wav|Five.\r\nc.wav|"Six"\r\n'
    )
    rows, rejects = imported(tmp_path / "out", format="f5", sources=[str(folder / "metadata.csv")])
    assert [row["text"] for row in rows] == ['One,\ntwo "three"\n\nfour.', "Five.", "Six"] and not rejects


def test_a_quotation_over_rows_is_rejected_with_its_lines(tmp_path):
    folder = write_tones(tmp_path / "in", *[f"{name}.wav" for name in "abcdefg"])
    lines = ['a.wav|"Come over here', "b.wav|and sit down", 'c.wav|said the old man"', "d.wav|He nodded."]
    lines += ['e.wav|"Never closed', "f.wav|Hello.", 'g.wav|"Yes," he said.']
    (folder / "metadata.csv").write_text("\n".join(["audio_file|text", *lines]))
    rows, rejects = imported(tmp_path / "out", format="f5", sources=[str(folder / "metadata.csv")])
    assert [(row["id"], row["text"]) for row in rows] == [
        ("d", "He nodded."),
        ("f", "Hello."),
        ("g", '"Yes," he said.'),
    ]
    assert rejects == {
        ("metadata.csv", 2): "not CSV: a quotation mark merges 3 lines, with that of b.wav: close or double it",
        ("metadata.csv", 6): "not CSV: the quotation mark at the start of the text is not closed",
    }
