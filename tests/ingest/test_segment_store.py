"""Segmentation runs that are killed, continued and shared among processes: the corpus is always the same."""

import errno
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
from tests.helpers.raw_folder import segment_config, write_recording


RUN = """
    import sys
    from higgs_recipes.ingest.segment_corpus import segment_recordings
    from tests.ingest.test_segment_store import recipe
    from pathlib import Path
    {before}
    segment_recordings(recipe(Path(sys.argv[1])))
"""


def recipe(root: Path) -> SegmentConfig:
    return segment_config(root / "in", output_dir=root / "out", speaker_per_file=True)


def corpus_in(root: Path) -> dict[str, bytes]:
    """The files of the corpus by name, without the commit, which may change between two runs."""
    corpus = root / "out"
    files = {str(path.relative_to(corpus)): path.read_bytes() for path in corpus.rglob("*") if path.is_file()}
    return files | {"segment.json": re.sub(rb'"git_commit": .*', b"", files["segment.json"])}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[Path, dict[str, bytes]]:
    """A folder with `in`, two recordings and a copy of one, and the files of the corpus of one run."""
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
def root(run) -> Path:
    """The folder without the corpus."""
    shutil.rmtree(run[0] / "out", ignore_errors=True)
    return run[0]


@pytest.fixture
def transcribed(monkeypatch) -> list[int]:
    """The number of clips in each call of the ASR model."""
    calls, transcribe = [], PackageWhisper.transcribe

    def counted(self, waveforms, *, language):
        calls.append(len(waveforms))
        return transcribe(self, waveforms, language=language)

    monkeypatch.setattr(PackageWhisper, "transcribe", counted)
    return calls


@pytest.mark.slow
def test_a_killed_run_continues_with_the_unfinished_recordings(root, run, transcribed):
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
    (root / ".out.parts/audio/.b-1.wav.0123.partial").touch()  # of a run killed while writing

    segment_recordings(recipe(root))
    assert transcribed == [1, 1]  # the clip of b, as it is and slowed
    assert corpus_in(root) == run[1]
    assert {path.name for path in root.iterdir()} == {"in", "out"}

    with pytest.raises(InputError, match="out exists and is not empty: choose another output_dir or pass --overwrite"):
        segment_recordings(recipe(root))
    assert len(transcribed) == 2


@pytest.mark.slow
def test_two_processes_write_the_same_corpus_as_one(root, run):
    (root.parent / "run.py").write_text(textwrap.dedent(RUN.format(before="")))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    process = subprocess.run(
        [*launch, root.parent / "run.py", root],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    assert process.stderr.count("1/1") >= 2  # one recording each
    assert corpus_in(root) == run[1]


def test_broken_audio_inside_a_recording_is_a_reject_after_the_valid_segments(tmp_path):
    def segments():
        yield Reject(RejectCode.TOO_SHORT, "segment", "0.1 s").at({"id": "x"})
        raise RejectedRow(RejectCode.UNREADABLE_AUDIO, "audio", "broken audio: it ends at 3.0 s of 9.0")

    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in/a.wav", [0.0] * 8_000, 8_000)
    (file,) = find_raw_recordings(segment_config(tmp_path / "in", output_dir=tmp_path / "out"))
    store = SegmentStore(tmp_path / "out", overwrite=False, made_by={"asr": PACKAGE_ASR_MODEL})
    store.add(file, segments())
    assert [(reject.reason, reject.columns["id"]) for reject in store[file]] == [
        ("segment too short: 0.1 s", "x"),
        ("broken audio: it ends at 3.0 s of 9.0", None),
    ]
    # A recording finished by another recipe is segmented again and replaced: the names of the audio are the same.
    other_store = SegmentStore(tmp_path / "out", overwrite=False, made_by={"asr": "other"})
    assert file in store and file not in other_store
    other_store.add(file, iter(()))
    assert file in other_store and file not in store


def test_rows_are_stored_unchanged_and_a_full_disk_is_not_a_reject(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in/a.wav", [0.0] * 8_000, 8_000)
    (file,) = find_raw_recordings(segment_config(tmp_path / "in", output_dir=tmp_path / "out"))
    store = SegmentStore(tmp_path / "out", overwrite=False, made_by={"asr": PACKAGE_ASR_MODEL})
    row = {"id": "x", "file_name": "audio/x.wav", "text": "Hello.", "reason": "a column", "reject": 1}
    store.add(file, [(row, torch.zeros(100))])
    assert store[file] == [row]

    def full(*args):
        raise InputError("disk full at audio")

    monkeypatch.setattr("higgs_recipes.ingest.segment_store.write_wav", full)
    with pytest.raises(InputError, match="disk full"):
        store.add(file, [(row, torch.zeros(100))])
    assert file not in store  # a later run segments it again


def test_a_recording_stored_in_another_format_is_segmented_again(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in/a.wav", [0.0] * 8_000, 8_000)
    (file,) = find_raw_recordings(segment_config(tmp_path / "in", output_dir=tmp_path / "out"))
    store = SegmentStore(tmp_path / "out", overwrite=False, made_by={"asr": PACKAGE_ASR_MODEL})
    monkeypatch.setattr("higgs_recipes.ingest.segment_store.FORMAT", 1)
    store.add(file, iter(()))
    assert file in store
    monkeypatch.undo()
    assert file not in store


def test_a_full_disk_stops_the_run_and_a_later_run_stores_the_same(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in/a.wav", [0.0] * 8_000, 8_000)
    (file,) = find_raw_recordings(segment_config(tmp_path / "in", output_dir=tmp_path / "out"))
    segments = [({"id": name, "file_name": f"audio/{name}.wav"}, torch.full((100,), 0.5)) for name in "xyz"]
    for num_written in range(4):  # three recordings, and the list of segments
        store = SegmentStore(tmp_path / f"out{num_written}", overwrite=False, made_by={})
        written = []

        def fsync(descriptor, written=written, num_written=num_written):
            if len(written) == num_written:
                raise OSError(errno.ENOSPC, "No space left on device")
            written.append(descriptor)

        with monkeypatch.context() as patch, pytest.raises(InputError, match="disk full at"):
            patch.setattr("higgs_recipes.files.os.fsync", fsync)
            store.add(file, segments)
        assert file not in store
        store.add(file, segments)
        assert store[file] == [row for row, _ in segments]
        assert sorted(path.name for path in (store.folder / "audio").iterdir()) == ["x.wav", "y.wav", "z.wav"]


def test_a_folder_that_cannot_be_written_is_found_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file is a file, expected a folder: remove it"):
        SegmentStore(tmp_path / "file/out", overwrite=False, made_by={})
