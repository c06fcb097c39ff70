"""Corpora that do not fit the disk, from a Hub on the loopback: what comes out, what lies on the disk meanwhile."""

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
# In a process of its own, which reads the Hub's address: recipes one after the other, and what the Hub was asked for.
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
    """Rows of one file: a sentence that comes in every file, a bad row in one, two speakers as numbers of classes."""
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


# Killed while it lingers over its second file, or started by a launcher: the recipe is an argument.
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
    """Encodes recipes of one Hub, in one process while its imports are paid for once."""

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
        """What a recipe gives: the folder, or what is said to it."""
        self.python.stdin.write(json.dumps(self.recipe(name, **fields)) + "\n")
        self.python.stdin.flush()
        line = self.python.stdout.readline()
        shutil.rmtree(self.hub.folder / "tester" / "hub", ignore_errors=True)  # what lies there is not fetched
        assert line, (self.folder / "log").read_text()[-3000:]
        return json.loads(line)

    def fetched(self) -> list[str]:
        """The data files that were fetched since this was asked, in their order."""
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
    """All that an encoded corpus says, but for its recipe and the checkout."""
    record = json.loads((Path(folder) / "corpus.json").read_text())
    del record["recipe"], record["sources"], record["git_commit"]
    rows = {split: load_encoded(folder, split=split).to_list() for split in record["splits"]}
    return [record, (Path(folder) / "rejects.jsonl").read_text(), rows]


def test_a_streamed_corpus_is_the_corpus_and_one_file_lies_on_the_disk(encoder):
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
def test_whatever_is_streamed_comes_out_the_same(encoder, request, fields):
    name = request.node.callspec.id.replace(" ", "_")
    streamed, whole = (
        encoder.run(f"streamed_{name}", **fields),
        encoder.run(f"whole_{name}", streaming=False, **fields),
    )
    assert contents(streamed) == contents(whole)
    if "tar" in name:  # what cannot be read is rejected, whatever it would have said
        lines = (Path(streamed) / "rejects.jsonl").read_text(encoding="utf-8").splitlines()
        (reject,) = map(json.loads, lines)
        assert "EN_4.json: not JSON" in reject["reason"]


def test_what_is_there_is_not_fetched_again_and_of_a_changed_file_only_what_changed_is_encoded(encoder):
    cache = encoder.folder / "cache_again"
    first = contents(encoder.run("again", source=WITH_IDS))
    encoder.fetched()
    codes = set(cache.rglob("*.safetensors"))
    assert contents(encoder.run("again", source=WITH_IDS)) == first
    assert encoder.fetched() == NAMES[:1]  # looked into for its columns
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


def test_a_killed_run_goes_on_with_the_file_it_was_at(encoder):
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
    assert list(encoder.folder.glob(".killed.*streaming"))  # what it was at is left, and removed by the next run
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
    assert sorted(encoder.fetched()) == sorted([NAMES[0], *NAMES])  # each process looks into the first
    assert contents(encoder.folder / "shared") == contents(encoder.run("whole2", source=WITH_IDS, streaming=False))
    assert not list(encoder.folder.glob(".shared*"))


def test_what_needs_all_recordings_is_refused(encoder):
    encoder.fetched()
    said = encoder.run("refused", source=WITH_IDS, keep_audio="all")
    assert said.startswith("keep_audio is all: streaming keeps no recordings but the test split's; use test or none")
    assert "test_size is 0.2, a share of rows that nobody has counted yet" in encoder.run(
        "refused", source=WITH_IDS, test_size=0.2
    )
    tasks = {"single_speaker_smart_voice": 1.0, "multi_speaker_smart_voice": 1.0}
    said = encoder.run("refused", source=WITH_IDS, tasks=tasks)
    assert said.startswith("row row_0: one utterance, and multi_speaker_smart_voice would join it with others, which")
    assert set(encoder.fetched()) == {NAMES[0]}  # said before all is fetched
    source = {"path": str(encoder.folder)}
    assert "streaming is for a dataset on the Hub, and" in encoder.run("refused", source=source)
    said = encoder.run("refused", source={"path": "tester/large", "split": "train[:2]"})
    assert said == "tester/large: split 'train[:2]' is a part; streaming takes whole splits, or files by their names"
    said = encoder.run("refused", source={"path": "tester/large", "files": "*.md"})
    assert "streaming reads .parquet or .tar files, and these are .md; set revision: refs/convert/parquet" in said
    said = encoder.run("refused", source={"path": "tester/large", "columns": {"text": "sentence"}})
    assert "no column 'sentence' for text; it has name, text, who, use, audio" in said
    assert "where names 'mic', which is no column" in encoder.run("refused", source=WITH_IDS | {"where": {"mic": "1"}})
    assert "no row is left of 0" in encoder.run("refused", source=WITH_IDS | {"where": {"use": "never"}})
    assert not list(encoder.folder.glob(".*streaming"))


def test_a_dry_run_reads_all_and_encodes_nothing(encoder):
    assert encoder.run("dry", dry_run=True) == [NUM_FILES * ROWS_EACH, NUM_FILES * ROWS_EACH - 1]
    assert not list((encoder.folder / "cache_dry").rglob("*.safetensors"))


def test_a_journal_gives_back_rows_and_rejects_wherever_their_file_begins(tmp_path):
    clip = Clip(1.0, "hash", place=(0, 7, "audio"), levels=Levels(24_000, 0, 0.0, 0.0))
    row = {"row": 7, "source": 0, "id": "a", "own": clip, "reference": None, "ref_speakers": [], "reason": "a column"}
    columns = {"source": 0, "row": 8, "file": "f", "id": None}
    reject = Reject(RejectCode.TOO_SHORT, "audio", "0.1 s", columns=columns)
    streaming._write_journal(tmp_path / "journal", [row, reject], first=7)
    assert streaming._read_journal(tmp_path / "journal", first=7) == [row, reject]
    moved, moved_reject = streaming._read_journal(tmp_path / "journal", first=100)
    assert moved["row"] == moved["own"].place[1] == 100 and moved_reject == reject.at(columns | {"row": 101})
