"""The lists of a segmented corpus after rows were taken out by hand: counts, and what an interrupted run left."""

import json
from pathlib import Path

import pytest

from higgs_recipes.ingest import curation
from higgs_recipes.ingest.curation import strike_rows
from higgs_recipes.ingest.listening_page import MEASURED
from tests.helpers.import_folder import json_lines
from tests.ingest.test_segment_corpus import config


@pytest.fixture
def corpus(tmp_path) -> Path:
    """A finished folder as versions without codes wrote it: three rows, and two rejects of other reasons."""
    folder = tmp_path / "out"
    (folder / "audio").mkdir(parents=True)
    rows = [
        {"id": name, "file_name": f"audio/{name}.wav", "text": "Hello.", "text_slowed": "Hello.", "file": "a.wav"}
        | {"start": 0.0, "end": 1.0, "speaker": None, "reason": "a column of theirs"}
        | dict.fromkeys(MEASURED, 1.0)
        for name in "abc"
    ]
    for row in rows:
        (folder / row["file_name"]).write_bytes(b"sound")
    rejects = [{"id": "d", "reason": "too short: 0.1 s"}, {"id": None, "reason": "zero bytes; copy it again"}]
    record = {"rows": 3, "recordings": 1, "recorded_seconds": 3.0, "asr": "asr", "asr_revision": "main"}
    record["rejects"] = {"too short": 1, "zero bytes": 1}
    for name, lines in (("metadata.jsonl", rows), ("rejects.jsonl", rejects)):
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "segment.json").write_text(json.dumps(record))
    return folder


def strike(corpus: Path, *ids: str) -> dict:
    (corpus.parent / "strike.txt").write_text("\n".join(ids))
    return strike_rows(config(corpus, output_dir=corpus, strike=str(corpus.parent / "strike.txt")))


def test_counts_of_other_rejects_stay_and_struck_rows_are_counted_once(corpus):
    assert strike(corpus, "a")["rejects"] == {"too short": 1, "zero bytes": 1, "excluded by hand": 1}
    record = strike(corpus, "a", "b", "d")
    assert record["rows"] == 1 and record["rejects"] == {"excluded by hand": 2, "too short": 1, "zero bytes": 1}
    struck = [line for line in json_lines(corpus / "rejects.jsonl") if line["id"] in ("a", "b")]
    assert [(line["reason"], line["code"]) for line in struck] == [("excluded by hand", "struck")] * 2
    assert {path.name for path in (corpus / "audio").iterdir()} == {"c.wav"}


def test_a_list_of_rejects_alone_changes_no_count(corpus):
    assert strike(corpus, "d")["rejects"] == {"too short": 1, "zero bytes": 1}


@pytest.mark.parametrize("num_written", range(3))
def test_a_run_that_was_cut_off_can_be_made_again(corpus, monkeypatch, num_written):
    write, written = curation.atomic_write, []

    def stopping_write(path, content):
        if len(written) == num_written:
            raise KeyboardInterrupt
        written.append(path)
        write(path, content)

    monkeypatch.setattr(curation, "atomic_write", stopping_write)
    with pytest.raises(KeyboardInterrupt):
        strike(corpus, "a")
    monkeypatch.setattr(curation, "atomic_write", write)
    record = strike(corpus, "a")
    assert record["rows"] == 2 and record["rejects"] == {"too short": 1, "zero bytes": 1, "excluded by hand": 1}
    assert [line["id"] for line in json_lines(corpus / "rejects.jsonl")] == ["d", None, "a"]
    assert {path.name for path in (corpus / "audio").iterdir()} >= {"b.wav", "c.wav"}
