"""Rows excluded by hand: counts, and repetition of an interrupted run."""

import json
from pathlib import Path

import pytest

from higgs_recipes.errors import InputError
from higgs_recipes.ingest import curation, listening_page
from higgs_recipes.ingest.curation import exclude_rows
from higgs_recipes.ingest.listening_page import MEASURED
from higgs_recipes.rejects import Reject, RejectCode
from tests.helpers.corpus_folder import write_tone
from tests.helpers.import_folder import json_lines
from tests.helpers.raw_folder import segment_config


EXCLUDED = Reject(RejectCode.STRUCK).category


@pytest.fixture
def corpus(tmp_path) -> Path:
    """A corpus written before rejects had codes: three rows, and two rejects."""
    folder = tmp_path / "out"
    (folder / "audio").mkdir(parents=True)
    rows = [
        {"id": name, "file_name": f"audio/{name}.wav", "text": "Hello.", "text_slowed": "Hello.", "file": "a.wav"}
        | {"start": 0.0, "end": 1.0, "speaker": None, "reason": "a column of the source"}
        | dict.fromkeys(MEASURED, 1.0)
        for name in "abc"
    ]
    for row in rows:
        (folder / row["file_name"]).write_bytes(b"audio")
    rejects = [{"id": "d", "reason": "too short: 0.1 s"}, {"id": None, "reason": "zero bytes; copy it again"}]
    record = {"rows": 3, "recordings": 1, "recorded_seconds": 3.0, "asr": "asr", "asr_revision": "main"}
    record["rejects"] = {"too short": 1, "zero bytes": 1}
    for name, lines in (("metadata.jsonl", rows), ("rejects.jsonl", rejects)):
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "segment.json").write_text(json.dumps(record))
    return folder


def strike(corpus: Path, *ids: str) -> dict:
    (corpus.parent / "strike.txt").write_text("\n".join(ids))
    return exclude_rows(segment_config(corpus, output_dir=corpus, strike=str(corpus.parent / "strike.txt")))


def test_excluded_rows_are_counted_once(corpus):
    assert strike(corpus, "a")["rejects"] == {"too short": 1, "zero bytes": 1, EXCLUDED: 1}
    record = strike(corpus, "a", "b", "d")
    assert record["rows"] == 1 and record["rejects"] == {EXCLUDED: 2, "too short": 1, "zero bytes": 1}
    excluded = [line for line in json_lines(corpus / "rejects.jsonl") if line["id"] in ("a", "b")]
    assert [(line["reason"], line["code"]) for line in excluded] == [(EXCLUDED, "struck")] * 2
    assert {path.name for path in (corpus / "audio").iterdir()} == {"c.wav"}


def test_rejected_ids_in_the_list_change_no_count(corpus):
    assert strike(corpus, "d")["rejects"] == {"too short": 1, "zero bytes": 1}


STEPS = ["rejects.jsonl", "metadata.jsonl", "segment.json", "listen.html", "a.wav"]


def stop_at(monkeypatch, name: str) -> None:
    """Stop the run before it writes or deletes the file of this name."""
    write, unlink = curation.atomic_write, Path.unlink

    def stopping_write(path, content):
        if path.name == name:
            path.with_name(f".{path.name}.0123abcd.partial").touch()  # as a killed atomic_write leaves it
            raise KeyboardInterrupt
        write(path, content)

    def stopping_unlink(path, *args, **kwargs):
        if path.name == name:
            raise KeyboardInterrupt
        unlink(path, *args, **kwargs)

    monkeypatch.setattr(curation, "atomic_write", stopping_write)
    monkeypatch.setattr(listening_page, "atomic_write", stopping_write)
    monkeypatch.setattr(Path, "unlink", stopping_unlink)


@pytest.mark.parametrize("step", STEPS)
def test_an_interrupted_run_can_be_repeated(corpus, monkeypatch, step):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, step)
        strike(corpus, "a")
    assert (corpus / "audio/a.wav").exists()
    record = strike(corpus, "a")
    assert record["rows"] == 2 and record["rejects"] == {"too short": 1, "zero bytes": 1, EXCLUDED: 1}
    assert [line["id"] for line in json_lines(corpus / "rejects.jsonl")] == ["d", None, "a"]
    assert {path.name for path in (corpus / "audio").iterdir()} == {"b.wav", "c.wav"}
    assert "audio/a.wav" not in (corpus / "listen.html").read_text(encoding="utf-8")
    assert not list(corpus.glob(".*"))


@pytest.mark.parametrize("step", STEPS[1:])
def test_a_later_exclusion_deletes_what_an_interrupted_run_left(corpus, monkeypatch, step):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, step)
        strike(corpus, "a")
    assert strike(corpus, "a", "b")["rows"] == 1
    assert {path.name for path in (corpus / "audio").iterdir()} == {"c.wav"}


def test_a_corpus_of_an_earlier_version_is_counted_like_a_new_one(corpus):
    strike(corpus, "a")
    record = json.loads((corpus / "segment.json").read_text())
    record["rejects"]["struck by hand"] = record["rejects"].pop(EXCLUDED)
    (corpus / "segment.json").write_text(json.dumps(record))
    assert strike(corpus, "b")["rejects"] == {EXCLUDED: 2, "too short": 1, "zero bytes": 1}


def test_errors_of_missing_files(tmp_path):
    write_tone(tmp_path / "in/a.wav")
    missing = segment_config(tmp_path / "in", output_dir=tmp_path / "out", strike=str(tmp_path / "none.txt"))
    with pytest.raises(InputError, match="strike: no such file"):
        exclude_rows(missing)
    (tmp_path / "none.txt").touch()
    with pytest.raises(InputError, match="no segment.json; run once without --strike"):
        exclude_rows(missing)


def test_nothing_outside_the_folder_is_deleted(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "precious.wav").write_bytes(b"mine")
    rows = [{"id": "a", "file_name": "../precious.wav"}, {"id": "b", "file_name": "audio/b.wav"}]
    (tmp_path / "out/metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "out/rejects.jsonl").touch()
    (tmp_path / "out/segment.json").write_text("{}")
    (tmp_path / "strike.txt").write_text("a")
    with pytest.raises(InputError, match="file_name is '../precious.wav': it leaves the folder"):
        exclude_rows(segment_config(tmp_path / "in", output_dir=tmp_path / "out", strike=str(tmp_path / "strike.txt")))
    assert (tmp_path / "precious.wav").read_bytes() == b"mine"
    assert len(json_lines(tmp_path / "out/metadata.jsonl")) == 2


def test_a_broken_list_of_the_corpus_is_an_error_with_its_line(corpus):
    with (corpus / "rejects.jsonl").open("a") as file:
        file.write("{\n")
    with pytest.raises(InputError, match="rejects.jsonl line 3: not JSON"):
        strike(corpus, "a")
    (corpus / "metadata.jsonl").write_text('{"file_name": "audio/a.wav"}\n')
    with pytest.raises(InputError, match="metadata.jsonl line 1: no id"):
        strike(corpus, "a")
