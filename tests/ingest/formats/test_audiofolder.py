"""Audio folders."""

import json

import pytest

from higgs_recipes.errors import InputError
from tests.helpers.corpus_folder import write_metadata
from tests.helpers.import_folder import imported, write_tones
from tests.helpers.ms_swift import swift_line


def test_columns_of_metadata_csv(tmp_path):
    folder = write_tones(tmp_path / "in", "a.wav", "b.wav", "c.wav", "d.wav")
    (folder / "metadata.csv").write_bytes(
        b'file_name,transcription,speaker\r\na.wav,"One, ""two""",anna\r\nb.wav,x\r\nc.wav,Three.,\r\n'
        + b'd.wav,caf\xe9,bert\r\nd.wav,"NA",bert\r\n'
    )
    fields = {"format": "audiofolder", "sources": [str(folder)], "columns": {"text": "transcription"}}
    rows, rejects = imported(tmp_path / "out", **fields)
    assert [(row["text"], row["speaker"]) for row in rows] == [
        ('One, "two"', "anna"),
        ("Three.", None),
        ("NA", "bert"),
    ]
    assert rejects["metadata.csv", 3].startswith("not one cell for each") and ("metadata.csv", 5) in rejects
    (folder / "metadata.csv").write_text('file_name,transcription\na.wav,"never closed\nb.wav,lost\n')
    with pytest.raises(InputError, match="metadata.csv', 'line': 3, 'id': None, 'reason': 'not CSV: unexpected end"):
        imported(tmp_path / "out", **fields)
    (folder / "metadata.csv").rename(folder / "metadata.jsonl")
    with pytest.raises(InputError, match="line': 1, .*not JSON"):
        imported(tmp_path / "out", **fields)
    (folder / "metadata.jsonl").unlink()
    with pytest.raises(InputError, match="neither metadata.csv nor metadata.jsonl"):
        imported(tmp_path / "out", **fields)


NAMED = {"reason": "a reason", "code": "silent", "line": 99, "file": "elsewhere", "reject": {}}


@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.csv"])
def test_columns_with_the_keys_of_rejects_are_ordinary_columns(tmp_path, name):
    folder = write_tones(tmp_path / "in", "a.wav")
    stored = {"file_name": "a.wav", "text": "Hello."} | NAMED
    if name == "metadata.csv":
        write_metadata(folder, [stored])
    else:
        (folder / name).write_text(json.dumps(stored) + "\n" + json.dumps(stored | {"text": ""}), encoding="utf-8")
    (row,), rejects = imported(tmp_path / "out", format="audiofolder", sources=[str(folder)])
    assert row["text"] == "Hello."
    assert list(rejects) == ([(name, 2)] if name == "metadata.jsonl" else [])
    rows, _ = imported(
        tmp_path / "out", format="audiofolder", sources=[str(folder)], columns={"speaker": "reason"}, overwrite=True
    )
    assert rows[0]["speaker"] == "a reason"


def test_fields_with_the_keys_of_rejects_are_ordinary_fields(tmp_path):
    folder = write_tones(tmp_path / "in", "a.wav")
    (folder / "a.jsonl").write_text(swift_line("a.wav", "Hello.", **NAMED))
    rows, rejects = imported(tmp_path / "out", format="ms_swift", sources=[str(folder / "a.jsonl")])
    assert len(rows) == 1 and not rejects
    (folder / "a.txt").write_text("Hello.")
    sample = {"audio_file": "a.wav", "transcript_file": "a.txt"} | NAMED
    (folder / "metadata.json").write_text(json.dumps({"samples": [sample]}))
    rows, rejects = imported(tmp_path / "out", format="train_higgs_audio", sources=[str(folder)])
    assert len(rows) == 1 and not rejects


def test_a_metadata_csv_in_utf_16_is_an_error(tmp_path):
    folder = write_tones(tmp_path / "in", "a.wav")
    (folder / "metadata.csv").write_text("file_name,text\na.wav,Hello.\n", encoding="utf-16")
    with pytest.raises(InputError, match="UTF-16: save .* as UTF-8"):
        imported(tmp_path / "out", format="audiofolder", sources=[str(folder)])
