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


def test_recordings_that_no_line_names_are_counted(tmp_path, caplog):
    names = ("a.wav", "b.wav", "sub/c.wav", "sub/d.wav", "e.wav")
    folder = write_tones(tmp_path / "in", *names)
    lines = [
        {"file_name": "a.wav", "text": "One.", "ref_speakers": [{"speaker_tag": "[SPEAKER0]", "ref_audio": "e.wav"}]},
        {"file_name": "sub\\c.wav", "text": ""},
    ]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (row,), rejects = imported(tmp_path / "out", format="audiofolder", sources=[str(folder)])
    assert row["text"] == "One." and list(rejects) == [("metadata.jsonl", 2)]
    assert "metadata.jsonl: no line names 2 recordings: 'b.wav', 'sub/d.wav'" in caplog.text


def test_two_columns_of_one_meaning_are_refused(tmp_path):
    folder = write_tones(tmp_path / "in", "a.wav", "b.wav")
    write_metadata(folder, [{"file_name": "a.wav", "audio": "b.wav", "text": "One."}])
    with pytest.raises(InputError, match="two columns are a row's audio, one of them audio; keep one"):
        imported(tmp_path / "out", format="audiofolder", sources=[str(folder)])


def test_a_speaker_that_is_infinite_is_rejected(tmp_path):
    folder = write_tones(tmp_path / "in", "a.wav", "b.wav")
    lines = ['{"file_name": "a.wav", "text": "One.", "speaker": 1e400}', '{"file_name": "b.wav", "text": "Two."}']
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    _, rejects = imported(tmp_path / "out", format="audiofolder", sources=[str(folder)])
    assert rejects == {("metadata.jsonl", 1): "speaker is inf; expected text or a number"}


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


def test_a_metadata_csv_in_utf_16_is_read(tmp_path):
    folder = write_tones(tmp_path / "in", "a.wav")
    (folder / "metadata.csv").write_text("file_name,text\na.wav,Hello.\n", encoding="utf-16")
    (row,), rejects = imported(tmp_path / "out", format="audiofolder", sources=[str(folder)])
    assert row["text"] == "Hello." and not rejects


@pytest.mark.parametrize("text_first", [False, True])
def test_a_quotation_over_rows_is_rejected_with_its_lines(tmp_path, text_first):
    folder = write_tones(tmp_path / "in", *[f"{name}.wav" for name in "abcde"])
    texts = [
        '"Come over here',
        "and sit down by the fire",
        'said the old man"',
        "He nodded.",
        '"Two lines,\nsaid she."',
    ]
    cells = [(f"{name}.wav", text) for name, text in zip("abcde", texts, strict=True)]
    header = ("file_name", "text")
    lines = [",".join(reversed(row) if text_first else row) for row in [header, *cells]]
    (folder / "metadata.csv").write_text("\n".join(lines))
    rows, rejects = imported(tmp_path / "out", format="audiofolder", sources=[str(folder)])
    assert [(row["id"], row["text"]) for row in rows] == [("d", "He nodded."), ("e", "Two lines,\nsaid she.")]
    assert all(reason.startswith("not CSV: a quot") for reason in rejects.values())
    assert any("2" in reason and "4" in reason for reason in rejects.values())


def test_a_relative_source_and_a_linked_source_with_absolute_paths(tmp_path, monkeypatch):
    folder = write_tones(tmp_path / "in [1]*", "a.wav")
    write_tones(tmp_path / "in 1x", "b.wav")
    write_metadata(folder, [{"file_name": str(folder / "a.wav"), "text": "Hello."}])
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    for source in ("in [1]*", "link", str(tmp_path / "link"), str(folder)):
        (row,), rejects = imported(tmp_path / "out", format="audiofolder", sources=[source])
        assert (row["id"], row["file_name"]) == ("a", "audio/a.wav") and not rejects


def test_dialogues_in_turns_are_rejected_and_not_lost_silently(tmp_path):
    folder = write_tones(tmp_path / "in", "a.wav", "b.wav")
    rows = [{"file_name": "a.wav", "text": "Hello.", "turns": []}, {"file_name": "b.wav", "turns": [{"text": "Hi."}]}]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found, rejects = imported(tmp_path / "out", format="audiofolder", sources=[str(folder)])
    assert [row["text"] for row in found] == ["Hello."]
    assert rejects == {("metadata.jsonl", 2): "turns are not imported: encode the folder directly"}


def test_blank_lines_before_the_header_are_skipped(tmp_path):
    folder = write_tones(tmp_path / "in", "a.wav")
    (folder / "metadata.csv").write_text("\n\nfile_name,text\na.wav,Hello.\n")
    (row,), rejects = imported(tmp_path / "out", format="audiofolder", sources=[str(folder)])
    assert row["text"] == "Hello." and not rejects
