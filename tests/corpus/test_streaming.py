"""Encoding with streaming, from a local Hub server: the resulting corpus, and the files on disk meanwhile."""

import io
import json
import os
import shutil
import signal
import subprocess
import textwrap
import threading
import time
from pathlib import Path

import pytest
import soundfile
from datasets import Audio, ClassLabel, Dataset, Features, Value

from higgs_recipes.audio.clipping import Levels
from higgs_recipes.corpus import streaming
from higgs_recipes.corpus.clips import Clip
from higgs_recipes.corpus.encoded import load_encoded
from higgs_recipes.rejects import Reject, RejectCode
from tests.helpers.forked_python import Python
from tests.helpers.hub_server import HubServer, stored
from tests.helpers.paths import ROOT
from tests.helpers.tiny_codec import tiny_codec_folder, tone
from tests.recipes.test_hub_recipes import card, tar


NUM_FILES, ROWS_EACH = 4, 3
NAMES = [f"train-{index:05d}-of-{NUM_FILES:05d}.parquet" for index in range(NUM_FILES)]
TEXT = Value("string")
# Encodes recipes from stdin in a separate process, whose environment has the server's address.
ENCODE = """
    import json, sys
    from pathlib import Path
    from higgs_recipes.corpus.report import check_corpus
    from higgs_recipes.corpus.encode import encode_corpus
    from higgs_recipes.errors import InputError
    from tests.helpers.corpus_folder import encode_config
    for line in sys.stdin:
        try:
            config = encode_config("unused", **json.loads(line))
            if config.dry_run:
                record, _ = check_corpus(config)
                print(json.dumps([record["read"], record["kept"]]), flush=True)
            else:
                print(json.dumps(str(encode_corpus(config))), flush=True)
        except InputError as error:
            print(json.dumps(str(error)), flush=True)
"""


def wav(index: int) -> bytes:
    content = io.BytesIO()
    soundfile.write(content, tone(0.4 + 0.04 * (index % 3), hertz=200.0 + 20 * index).numpy(), 24_000, format="WAV")
    return content.getvalue()


def shard(file: int, **changed: str) -> bytes:
    """Rows of one file: one sentence is in every file, row 4 is invalid, speakers are class labels."""
    rows = []
    for number in range(file * ROWS_EACH, (file + 1) * ROWS_EACH):
        text = "" if number == 4 else f"Sentence {number if number % ROWS_EACH else 0}."
        row = {"name": f"row {number}", "text": text, "who": number % 2, "use": "no" if number == 7 else "yes"}
        rows.append(row | {"audio": {"bytes": wav(number), "path": f"{number}.wav"}})
    rows[-1] |= changed
    features = {"name": TEXT, "text": TEXT, "who": ClassLabel(names=["anna", "bert"]), "use": TEXT}
    features = Features(features | {"audio": {"bytes": Value("binary"), "path": TEXT}})
    content = io.BytesIO()
    Dataset.from_list(rows, features=features).cast_column("audio", Audio()).to_parquet(content, batch_size=2)
    return content.getvalue()


# Encodes the recipe of its argument; with "linger" it waits after its second file, to be killed there.
ONCE = """
    import json, sys, time
    from higgs_recipes.corpus import streaming
    from higgs_recipes.corpus.encode import encode_corpus
    from tests.helpers.corpus_folder import encode_config
    if __name__ == "__main__":
        write, written = streaming._write_journal, []
        def lingering_write(*args, **kwargs):
            write(*args, **kwargs)
            written.append(args[0])
            time.sleep(60 if len(written) == 2 and sys.argv[2] == "linger" else 0)
        streaming._write_journal = lingering_write
        encode_corpus(encode_config("unused", **json.loads(sys.argv[1])))
"""


class Encoder:
    """Encodes recipes with one server in one process, so that imports are done once."""

    def __init__(self, hub: HubServer, folder: Path) -> None:
        self.hub, self.folder = hub, folder
        files = {f"data/{name}": shard(index) for index, name in enumerate(NAMES)}
        self.large = hub.add_repo("tester/large", files | {"README.md": LARGE_CARD}, kind="datasets")
        clips = [
            {f"EN_{n}.json": json.dumps({"text": f"Sentence {n}."}).encode(), f"EN_{n}.wav": wav(n)} for n in range(4)
        ]
        broken = {"EN_4.json": b"{", "EN_4.wav": wav(4)}
        tars = {"EN/0.tar": tar(clips[0] | clips[1]), "EN/1.tar": tar(clips[2] | clips[3] | broken)}
        hub.add_repo("tester/tars", tars, kind="datasets")
        self.python = self.start()

    def start(self, *arguments: str) -> Python:
        env = self.hub.env() | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(ROOT)}
        with (self.folder / "log").open("a") as log:
            pipe = subprocess.PIPE
            return Python(
                *(arguments or ("-c", textwrap.dedent(ENCODE))), env=env, stdin=pipe, stdout=pipe, stderr=log
            )

    def recipe(self, name: str, *, streaming: bool = True, source: dict | None = None, **fields) -> dict:
        source = source or {"path": "tester/large", "columns": {"speaker": "who"}}
        own = {"output_dir": str(self.folder / name), "cache_dir": str(self.folder / f"cache_{name}")}
        own |= {"codec_name_or_path": str(tiny_codec_folder()), "test_size": 3, "overwrite_output_dir": True}
        return own | {"sources": [source | ({"streaming": True} if streaming else {})]} | fields

    def run(self, name: str, **fields) -> str | list:
        """Encode a recipe; returns the folder, or the message of an error."""
        self.python.stdin.write(json.dumps(self.recipe(name, **fields)) + "\n")
        self.python.stdin.flush()
        line = self.python.stdout.readline()
        shutil.rmtree(self.hub.folder / "tester" / "hub", ignore_errors=True)  # the Hub's cache
        assert line, (self.folder / "log").read_text()[-3000:]
        return json.loads(line)

    def fetched(self) -> list[str]:
        """Data files downloaded since the last call, in order."""
        names = [
            name.rpartition("/")[2] for name in self.hub.requests if name.startswith("GET") and "/resolve/" in name
        ]
        self.hub.requests.clear()
        return [name for name in names if name.endswith((".parquet", ".tar"))]


LARGE_CARD = card(("default", {"train": "data/train-*"}))
TARS = {"path": "tester/tars", "files": "EN/*.tar", "columns": {"text": "json.text", "audio": "wav"}}
WITH_IDS = {"path": "tester/large", "columns": {"id": "name", "speaker": "who"}}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("streaming")
    with HubServer(folder / "clients") as hub:
        encoder = Encoder(hub, folder)
        yield encoder
        encoder.python.stdin.close()
        encoder.python.wait(60)
        encoder.python.stdout.close()


def contents(folder: str | Path) -> list:
    """The content of an encoded corpus, without its recipe and commit."""
    record = json.loads((Path(folder) / "corpus.json").read_text())
    del record["recipe"], record["sources"], record["git_commit"]
    rows = {split: load_encoded(folder, split=split).to_list() for split in record["splits"]}
    return [record, (Path(folder) / "rejects.jsonl").read_text(), rows]


def test_a_streamed_corpus_equals_the_whole_one_with_one_file_on_disk(encoder):
    sizes, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            for place, _, names in os.walk(encoder.folder):
                if ".streaming" in place:
                    sizes.append(sum(len(encoder.large.files["data/" + each]) for each in names if each in NAMES))

    watcher = threading.Thread(target=watch)
    watcher.start()
    encoder.fetched()
    streamed = encoder.run("streamed", source=WITH_IDS)
    done.set()
    watcher.join()
    assert encoder.fetched() == NAMES
    assert not list(encoder.folder.glob(".*streaming"))
    assert 0 < max(sizes) <= max(map(len, encoder.large.files.values()))
    assert contents(streamed) == contents(encoder.run("whole", source=WITH_IDS, streaming=False))
    assert load_encoded(streamed, split="test")["audio"][0]["bytes"].startswith(b"RIFF")


@pytest.mark.parametrize(
    "fields",
    [
        {"split_by": "speaker", "test_size": 2},
        {"tasks": {"zero_shot_voice_cloning": 1.0}, "ref_min_seconds": 0.3, "test_size": 5},
        {"source": WITH_IDS | {"where": {"use": "yes"}}},
        {"source": {"path": "tester/large", "where": {"use": "yes"}}, "keep_audio": "none", "test_size": 0.3},
        {"source": TARS, "test_size": 1},
        {"source": TARS | {"where": {"json.text": "*[03]*"}}, "test_size": 1},
    ],
    ids=["speakers", "references", "where", "rows by number", "tar", "where in tar"],
)
def test_streaming_does_not_change_the_corpus(encoder, request, fields):
    name = request.node.callspec.id.replace(" ", "_")
    streamed, whole = (
        encoder.run(f"streamed_{name}", **fields),
        encoder.run(f"whole_{name}", streaming=False, **fields),
    )
    assert contents(streamed) == contents(whole)
    if "tar" in name:  # rows that cannot be read are rejected, whatever where says
        lines = (Path(streamed) / "rejects.jsonl").read_text(encoding="utf-8").splitlines()
        (reject,) = map(json.loads, lines)
        assert "EN_4.json: not JSON" in reject["reason"]


def test_finished_files_are_not_downloaded_again_and_only_new_clips_of_a_changed_file_are_encoded(encoder):
    cache = encoder.folder / "cache_again"
    first = contents(encoder.run("again", source=WITH_IDS))
    encoder.fetched()
    codes = set(cache.rglob("*.safetensors"))
    assert contents(encoder.run("again", source=WITH_IDS)) == first
    assert encoder.fetched() == NAMES[:1]  # read for its columns
    encoder.run("again", source=WITH_IDS, test_size=2, seed=0)
    assert encoder.fetched() == NAMES[:1]

    before = encoder.large.commits[encoder.large.head]
    new = shard(2, name="new", audio={"bytes": wav(50), "path": "new.wav"})
    encoder.large.commit(before | stored({"data/" + NAMES[2]: new}))
    rows = contents(encoder.run("again", source=WITH_IDS))[2]
    assert encoder.fetched() == [NAMES[0], NAMES[2]]
    ids = {row["id"] for split in rows.values() for row in split}
    assert "new" in ids and "row_8" not in ids
    (added,) = set(cache.rglob("*.safetensors")) - codes
    assert len(set(cache.rglob("*.jsonl"))) == NUM_FILES + 1
    encoder.large.commit(before)


@pytest.mark.slow
def test_a_killed_run_continues_with_its_file(encoder):
    recipe = json.dumps(encoder.recipe("killed", source=WITH_IDS))
    process = encoder.start("-c", textwrap.dedent(ONCE), recipe, "linger")
    journals = encoder.folder / "cache_killed"
    deadline = time.monotonic() + 120
    while len(list(journals.rglob("*.jsonl"))) < 2:
        assert process.poll() is None and time.monotonic() < deadline, (encoder.folder / "log").read_text()[-3000:]
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdin.close()
    process.stdout.close()
    assert list(encoder.folder.glob(".killed.*streaming"))  # left by the killed run, removed by the next
    codes = {path: path.stat().st_mtime_ns for path in journals.rglob("*.safetensors")}
    encoder.fetched()
    folder = encoder.run("killed", source=WITH_IDS)
    assert encoder.fetched() == [NAMES[0], *NAMES[2:]]
    assert codes.items() <= {path: path.stat().st_mtime_ns for path in journals.rglob("*.safetensors")}.items()
    assert not list(encoder.folder.glob(".killed*streaming"))
    assert contents(folder) == contents(encoder.run("whole_killed", source=WITH_IDS, streaming=False))


@pytest.mark.slow
def test_several_processes_share_the_files(encoder, tmp_path):
    script = tmp_path / "once.py"
    script.write_text(textwrap.dedent(ONCE))
    encoder.fetched()
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    process = encoder.start(*launch, json.dumps(encoder.recipe("shared", source=WITH_IDS)), "whole")
    process.stdin.close()
    with process.stdout:
        process.stdout.read()
    assert process.wait(300) == 0, (encoder.folder / "log").read_text()[-3000:]
    assert sorted(encoder.fetched()) == sorted([NAMES[0], *NAMES])  # each process reads the columns of the first
    assert contents(encoder.folder / "shared") == contents(encoder.run("whole2", source=WITH_IDS, streaming=False))
    assert not list(encoder.folder.glob(".shared*"))


@pytest.mark.slow
def test_fields_that_need_all_recordings_are_refused(encoder):
    encoder.fetched()
    message = encoder.run("refused", source=WITH_IDS, keep_audio="all")
    assert message == "keep_audio: all is not supported with streaming: set test or none"
    assert "test_size (0.2) is a share, but with streaming the number of rows is not known" in encoder.run(
        "refused", source=WITH_IDS, test_size=0.2
    )
    tasks = {"single_speaker_smart_voice": 1.0, "multi_speaker_smart_voice": 1.0}
    message = encoder.run("refused", source=WITH_IDS, tasks=tasks)
    assert message.startswith(
        "row row_0: multi_speaker_smart_voice joins single utterances, which is not supported with"
    )
    assert set(encoder.fetched()) == {NAMES[0]}  # refused before the other files are downloaded
    source = {"path": str(encoder.folder)}
    assert "streaming requires a dataset on the Hub, and" in encoder.run("refused", source=source)
    message = encoder.run("refused", source={"path": "tester/large", "split": "train[:2]"})
    assert message == "tester/large: split 'train[:2]' is a part of a split; streaming requires whole splits, or files"
    message = encoder.run("refused", source={"path": "tester/large", "files": "*.md"})
    assert "streaming requires .parquet or .tar files, found .md; set revision: refs/convert/parquet" in message
    message = encoder.run("refused", source={"path": "tester/large", "columns": {"text": "sentence"}})
    assert "no column 'sentence' for text; the columns are name, text, who, use, audio" in message
    assert "where: no column 'mic'; the columns are" in encoder.run(
        "refused", source=WITH_IDS | {"where": {"mic": "1"}}
    )
    assert "none of 0 rows passes the checks" in encoder.run("refused", source=WITH_IDS | {"where": {"use": "never"}})
    assert not list(encoder.folder.glob(".*streaming"))


def test_a_dry_run_reads_all_rows_and_encodes_nothing(encoder):
    assert encoder.run("dry", dry_run=True) == [NUM_FILES * ROWS_EACH, NUM_FILES * ROWS_EACH - 1]
    assert not list((encoder.folder / "cache_dry").rglob("*.safetensors"))


def test_a_journal_does_not_depend_on_the_index_of_the_files_first_row(tmp_path):
    clip = Clip(1.0, "hash", place=(0, 7, "audio"), levels=Levels(24_000, 0, 0.0, 0.0))
    row = {"row": 7, "source": 0, "id": "a", "own": clip, "reference": None, "ref_speakers": [], "reason": "a column"}
    columns = {"source": 0, "row": 8, "file": "f", "id": None}
    reject = Reject(RejectCode.TOO_SHORT, "audio", "0.1 s", columns=columns)
    streaming._write_journal(tmp_path / "journal", [row, reject], first=7)
    assert streaming._read_journal(tmp_path / "journal", first=7) == [row, reject]
    moved, moved_reject = streaming._read_journal(tmp_path / "journal", first=100)
    assert moved["row"] == moved["own"].place[1] == 100 and moved_reject == reject.at(columns | {"row": 101})
