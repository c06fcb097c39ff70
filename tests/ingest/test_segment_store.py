"""Runs of segment that are killed, that go on, and that are shared out: the corpus is always the same."""

import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import soundfile
import torch

from higgs_recipes.audio.asr import PACKAGE_ASR_MODEL, PackageWhisper
from higgs_recipes.configs.segment import SegmentConfig
from higgs_recipes.errors import InputError
from higgs_recipes.ingest.raw_recordings import find_raw_recordings
from higgs_recipes.ingest.segment_corpus import segment_recordings
from higgs_recipes.ingest.segment_store import SegmentStore
from higgs_recipes.rejects import Reject, RejectCode, RejectedRow
from tests.helpers.import_folder import json_lines
from tests.helpers.paths import ROOT
from tests.ingest.test_segment_corpus import config, write_recording


RUN = """
    import sys
    from higgs_recipes.ingest.segment_corpus import segment_recordings
    from tests.ingest.test_segment_store import recipe
    from pathlib import Path
    {before}
    segment_recordings(recipe(Path(sys.argv[1])))
"""


def recipe(root: Path) -> SegmentConfig:
    return config(root / "in", output_dir=root / "out", speaker_per_file=True)


def corpus_in(root: Path) -> dict[str, bytes]:
    """The files of the corpus by name, less the commit, which may change between two runs."""
    corpus = root / "out"
    files = {str(path.relative_to(corpus)): path.read_bytes() for path in corpus.rglob("*") if path.is_file()}
    return files | {"segment.json": re.sub(rb'"git_commit": .*', b"", files["segment.json"])}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, dict[str, bytes]]:
    """A folder with `in`, two recordings and a copy of one, and the files of the corpus that a run makes of it."""
    root = tmp_path_factory.mktemp("runs")
    write_recording(root / "in/a.flac", "heart", pauses=[0.5], rate=24_000)
    write_recording(root / "in/b.flac", "rms", pauses=[0.5], rate=16_000)
    shutil.copy(root / "in/a.flac", root / "in/c.flac")
    record = segment_recordings(recipe(root))
    assert (record["recordings"], record["rows"], record["rejects"]) == (3, 2, {"same recording": 1})
    assert 1 < record["measured"]["dnsmos_ovrl"]["median"] < 5
    assert {row["speaker"] for row in json_lines(root / "out/metadata.jsonl")} == {"a", "b"}
    assert {path.name for path in root.iterdir()} == {"in", "out"} and not (root / "out/finished").exists()
    return root, corpus_in(root)


@pytest.fixture
def root(made) -> Path:
    """The folder without the corpus."""
    shutil.rmtree(made[0] / "out", ignore_errors=True)
    return made[0]


@pytest.fixture
def transcribed(monkeypatch) -> list[int]:
    """How many clips each call of the ASR model was given."""
    calls, transcribe = [], PackageWhisper.transcribe

    def counted(self, waveforms, *, language):
        calls.append(len(waveforms))
        return transcribe(self, waveforms, language=language)

    monkeypatch.setattr(PackageWhisper, "transcribe", counted)
    return calls


@pytest.mark.slow
def test_a_killed_run_goes_on_with_the_recordings_that_it_had_not_finished(root, made, transcribed):
    slow = "from higgs_recipes.ingest.segment_store import SegmentStore; import time; add = SegmentStore.add; "
    slow += "SegmentStore.add = lambda *args: (add(*args), time.sleep(60))"  # long enough to be killed here
    with (root.parent / "log").open("w") as log:
        code = textwrap.dedent(RUN.format(before=slow))
        process = subprocess.Popen([sys.executable, "-c", code, root], cwd=ROOT, stderr=log)
    deadline = time.monotonic() + 200
    while not list(root.glob(".out.parts/finished/*.json")):
        assert process.poll() is None and time.monotonic() < deadline, (root.parent / "log").read_text()
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (root / "out").exists()
    (root / ".out.parts/audio/.b-1.wav.0123.partial").touch()  # of a kill amid writing

    segment_recordings(recipe(root))
    assert transcribed == [1, 1]  # the clip of b, as it is and slowed
    assert corpus_in(root) == made[1]
    assert {path.name for path in root.iterdir()} == {"in", "out"}

    with pytest.raises(InputError, match="out exists and is not empty: choose another output_dir or pass --overwrite"):
        segment_recordings(recipe(root))
    assert len(transcribed) == 2


@pytest.mark.slow
def test_two_processes_make_the_corpus_of_one(root, made):
    (root.parent / "run.py").write_text(textwrap.dedent(RUN.format(before="")))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    run = subprocess.run(
        [*launch, root.parent / "run.py", root],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert run.stderr.count("1/1") >= 2  # each had one
    assert corpus_in(root) == made[1]


def test_broken_sound_amid_a_recording_is_a_reject_after_the_rows_before_it(tmp_path):
    def segments():
        yield Reject(RejectCode.TOO_SHORT, "segment", "0.1 s").at({"id": "x"})
        raise RejectedRow(RejectCode.UNREADABLE_AUDIO, "audio", "broken audio: it ends at 3.0 s of 9.0")

    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in/a.wav", [0.0] * 8_000, 8_000)
    (file,) = find_raw_recordings(config(tmp_path / "in", output_dir=tmp_path / "out"))
    parts = SegmentStore(tmp_path / "out", overwrite=False, made_by={"asr": PACKAGE_ASR_MODEL})
    parts.add(file, segments())
    assert [(reject.reason, reject.columns["id"]) for reject in parts[file]] == [
        ("segment too short: 0.1 s", "x"),
        ("broken audio: it ends at 3.0 s of 9.0", None),
    ]
    # What was made by another recipe is made again, and stands in the place of what was: they share the sound's name.
    others = SegmentStore(tmp_path / "out", overwrite=False, made_by={"asr": "other"})
    assert file in parts and file not in others
    others.add(file, iter(()))
    assert file in others and file not in parts


def test_rows_come_back_as_they_were_and_a_full_disk_is_no_reject(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in/a.wav", [0.0] * 8_000, 8_000)
    (file,) = find_raw_recordings(config(tmp_path / "in", output_dir=tmp_path / "out"))
    parts = SegmentStore(tmp_path / "out", overwrite=False, made_by={"asr": PACKAGE_ASR_MODEL})
    row = {"id": "x", "file_name": "audio/x.wav", "text": "Hello.", "reason": "a column", "reject": 1}
    parts.add(file, [(row, torch.zeros(100))])
    assert parts[file] == [row]

    def full(*args):
        raise InputError("disk full at audio")

    monkeypatch.setattr("higgs_recipes.ingest.segment_store.write_wav", full)
    with pytest.raises(InputError, match="disk full"):
        parts.add(file, [(row, torch.zeros(100))])
    assert file not in parts  # so a run with more room makes it again


def test_a_recording_that_another_format_of_the_store_finished_is_made_again(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in/a.wav", [0.0] * 8_000, 8_000)
    (file,) = find_raw_recordings(config(tmp_path / "in", output_dir=tmp_path / "out"))
    parts = SegmentStore(tmp_path / "out", overwrite=False, made_by={"asr": PACKAGE_ASR_MODEL})
    monkeypatch.setattr("higgs_recipes.ingest.segment_store.FORMAT", 1)
    parts.add(file, iter(()))
    assert file in parts
    monkeypatch.undo()
    assert file not in parts
