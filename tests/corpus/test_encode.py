import errno
import json
import logging
import os
import shutil
import signal
import subprocess
import textwrap
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from huggingface_hub import DatasetCard
from pyarrow.parquet import ParquetWriter

from higgs_recipes.audio.io import read_audio
from higgs_recipes.configs.corpus import EncodeConfig
from higgs_recipes.configs.parser import parse_recipe
from higgs_recipes.corpus import encode as encoding
from higgs_recipes.corpus import parquet_writer as shards
from higgs_recipes.corpus.code_cache import CodeCache
from higgs_recipes.corpus.encode import encode_corpus
from higgs_recipes.corpus.encoded import check_codec, load_encoded
from higgs_recipes.errors import InputError
from tests.helpers.corpus_folder import encode_config, make_corpus, write_metadata, write_tone
from tests.helpers.forked_python import Python
from tests.helpers.hub_server import HubServer, run_python
from tests.helpers.paths import ROOT
from tests.helpers.tiny_codec import CORPUS, tiny_codec, tiny_codec_folder
from tests.recipes.test_hub_recipes import tar


@pytest.fixture
def config(tmp_path):
    """A function that makes the recipe of a small corpus; all its folders are in tmp_path."""

    def build(**fields):
        if not (tmp_path / "clips").exists():
            make_corpus(tmp_path / "clips")
        defaults = {"output_dir": str(tmp_path / "corpus"), "cache_dir": str(tmp_path / "codes")}
        return encode_config(tmp_path / "clips", **defaults | fields)

    return build


@pytest.fixture
def encoded_clips(monkeypatch):
    """Numbers of clips in the batches that the codec encodes."""
    codec, batches = tiny_codec(), []
    handle = codec.model.acoustic_encoder.register_forward_hook(lambda _, args, out: batches.append(len(out)))
    monkeypatch.setattr(encoding, "load_codec", lambda *args, **kwargs: codec)
    yield batches
    handle.remove()


def test_the_folder_has_all_columns_of_an_encoded_corpus(config):
    folder = encode_corpus(config())
    train, test = load_encoded(folder, split="train"), load_encoded(folder, split="test")
    assert len(train) == 4 and len(test) == 2
    row = test[0]
    index = int(row["id"])
    waveform = read_audio(config().sources[0] + f"/{index:02d}.wav", name="clip")
    expected = tiny_codec().encode([waveform])[0]
    codes = torch.tensor(row["codes"])
    assert codes.shape == expected.shape and (codes == expected).float().mean() >= 0.999
    assert str(train.features["codes"]) == "List(List(Value('int16'), length=8))"
    assert row["seconds"] == pytest.approx(len(waveform) / 24_000)
    assert row["text"] == f"Sentence {index}." and row["speaker"] == ("anna", "bert")[index % 2]
    assert row["task"] == "single_speaker_smart_voice" and row["codec"] == tiny_codec().revision
    assert json.loads(row["messages"])[-1]["role"] == "assistant"
    assert row["ref_codes"] == [] and row["ref_texts"] == [] and row["scene"] is None
    # Only the test split keeps its recordings, byte for byte.
    assert row["audio"] == {
        "path": f"{index:02d}.wav",
        "bytes": Path(config().sources[0], f"{index:02d}.wav").read_bytes(),
    }
    assert train["audio"][:] == [None] * 4


def test_the_records_describe_the_corpus_without_paths_of_this_machine(config):
    make_corpus(Path(config().sources[0]))
    write_tone(Path(config().sources[0]) / "00.wav", seconds=0.05)
    folder = encode_corpus(config(hub_dataset_id="user/hums", license="cc-by-4.0"))
    record = json.loads((folder / "corpus.json").read_text())
    assert record["codec"] == tiny_codec().revision and record["sources"] == ["clips"]
    assert record["license"] == DatasetCard.load(folder / "README.md").data.license == "cc-by-4.0"
    assert {split: size["rows"] for split, size in record["splits"].items()} == {"train": 3, "test": 2}
    assert record["rejects"] == {"recording too short": 1} and record["recipe"]["min_seconds"] == 0.3
    (reject,) = map(json.loads, (folder / "rejects.jsonl").read_text().splitlines())
    assert (reject["id"], reject["row"]) == ("00", 0) and reject["reason"].startswith("recording too short: 0.05 s")
    card = DatasetCard.load(folder / "README.md")
    assert card.data.configs[0]["data_files"][0] == {"split": "train", "path": "data/train-*.parquet"}
    assert 'load_dataset("user/hums"' in card.text
    assert reject["file"] == "clips:train"
    for name in ("corpus.json", "rejects.jsonl", "README.md"):
        assert str(Path(config().sources[0]).parent) not in (folder / name).read_text()


def test_the_fingerprint_depends_on_the_content_only(config, tmp_path):
    folder = encode_corpus(config())
    shutil.copytree(folder, tmp_path / "elsewhere")
    train, test = (load_encoded(folder, split=split)._fingerprint for split in ("train", "test"))
    assert load_encoded(tmp_path / "elsewhere", split="train")._fingerprint == train != test


@pytest.mark.parametrize("keep, kept", [("all", {"train", "test"}), ("test", {"test"}), ("none", set())])
def test_recordings_are_kept_as_keep_audio_says(config, keep, kept):
    folder = encode_corpus(config(keep_audio=keep))
    for split in ("train", "test"):
        audio = load_encoded(folder, split=split)["audio"][:]
        assert all((cell is not None) == (split in kept) for cell in audio)


def test_reference_clips_are_encoded(config, tmp_path):
    clips = tmp_path / "clips"
    for index in range(4):
        write_tone(clips / f"{index}.wav", hertz=200.0 + 20 * index)
    rows = [
        {
            "file_name": f"{i}.wav",
            "text": f"Row {i}.",
            "ref_audio_file_name": f"{(i + 1) % 4}.wav",
            "ref_text": "Before.",
        }
        for i in range(4)
    ]
    write_metadata(clips, rows)
    folder = encode_corpus(config(tasks={"zero_shot_voice_cloning": 1.0}, test_size=0))
    encoded = {row["id"]: row for row in load_encoded(folder, split="train")}
    assert encoded["0"]["ref_codes"] == [encoded["1"]["codes"]] and encoded["0"]["ref_texts"] == ["Before."]


def test_the_log_says_what_the_cache_keeps_and_how_to_delete_it(config, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    encode_corpus(config())
    (codes,) = (tmp_path / "codes").iterdir()
    assert f"{codes} keeps codes for later runs; to delete them: rm -r {codes}" in caplog.messages
    (codes / "recordings").mkdir()
    (codes / "recordings" / "ab12").write_bytes(bytes(3_000_000))  # as with streaming
    encode_corpus(config(overwrite_output_dir=True))
    assert any("keeps codes and 1 held-out recordings (3 MB) for later runs" in line for line in caplog.messages)


def test_a_corpus_is_encoded_once(config, encoded_clips):
    first = encode_corpus(config())
    assert sum(encoded_clips) == 6 and len(encoded_clips) == 3  # three lengths, two clips each
    before = {row["id"]: row["codes"] for split in ("train", "test") for row in load_encoded(first, split=split)}

    # Another folder with the same recordings, and other splits.
    make_corpus(Path(config().sources[0]).parent / "copy")
    sources = [str(Path(config().sources[0]).parent / "copy")]
    second = encode_corpus(config(sources=sources, test_size=3, seed=1, output_dir=config().output_dir + "2"))
    after = {row["id"]: row["codes"] for split in ("train", "test") for row in load_encoded(second, split=split)}
    assert sum(encoded_clips) == 6 and after == before

    write_tone(Path(config().sources[0]) / "00.wav", hertz=999.0)  # one new recording
    encode_corpus(config(overwrite_output_dir=True))
    assert sum(encoded_clips) == 7


def test_codes_of_another_codec_are_not_used(tmp_path):
    codes = torch.ones(3, 8, dtype=torch.int16)
    CodeCache(tmp_path, codec="local@1").add({"a": codes})
    assert "a" in CodeCache(tmp_path, codec="local@1") and "a" not in CodeCache(tmp_path, codec="user/codec@1")
    assert torch.equal(CodeCache(tmp_path, codec="local@1")["a"], codes)


def test_a_damaged_cache_file_is_named(tmp_path):
    CodeCache(tmp_path, codec="local@1").add({"a": torch.ones(3, 8, dtype=torch.int16)})
    (path,) = tmp_path.glob("*/*.safetensors")
    shutil.copy(path, broken := path.with_name("broken.safetensors"))
    broken.write_bytes(path.read_bytes()[:20])
    with pytest.raises(InputError, match="broken.safetensors cannot be read .*; remove it and run again"):
        CodeCache(tmp_path, codec="local@1")


def test_a_split_can_have_several_files(config, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", 200)  # one row without audio
    folder = encode_corpus(config(keep_audio="none", test_size=0))
    names = sorted(path.name for path in (folder / "data").iterdir())
    monkeypatch.undo()
    assert names[0].startswith("train-00000-of-0000") and len(load_encoded(folder, split="train")) == 6


def test_files_are_passed_on_while_the_next_is_made_and_are_reproducible(config, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", 200)  # one row without audio
    monkeypatch.setattr(encoding, "CHUNK_SECONDS", 0.5)  # two of them
    recipe = config(keep_audio="none", test_size=0, batch_seconds=0.5, overwrite_output_dir=True)
    cached, passed_on, output_dir = [], {}, Path(recipe.output_dir)
    with ThreadPoolExecutor(1) as worker:

        def upload(path: Path, name: str) -> None:
            time.sleep(0.02)
            assert not output_dir.exists()  # the corpus appears when all files are uploaded
            passed_on[name] = path.read_bytes()

        def on_shard(path: Path, name: str) -> Future:
            cached.append(len(CodeCache(recipe.cache_dir, codec=tiny_codec().revision)._shards))
            return worker.submit(upload, path, name)

        folder = encode_corpus(recipe, on_shard=on_shard)
    assert cached == [2, 2, 4, 4, 6, 6]  # codes in the cache when a file is passed on
    written = {f"data/{path.name}": path.read_bytes() for path in (folder / "data").iterdir()}
    assert list(passed_on) == sorted(written) and passed_on == written
    encode_corpus(recipe)
    assert {f"data/{path.name}": path.read_bytes() for path in (folder / "data").iterdir()} == written


def test_a_finished_corpus_is_not_overwritten_by_default(config, encoded_clips):
    encode_corpus(config())
    encoded = sum(encoded_clips)
    make_corpus(Path(config().sources[0]), first_hertz=500.0)
    with pytest.raises(InputError, match="exists and is not empty"):
        encode_corpus(config())
    assert sum(encoded_clips) == encoded  # refused before the work


def test_a_full_disk_leaves_no_partial_files(config, tmp_path, monkeypatch):
    def no_space(self, table, *args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(ParquetWriter, "write_table", no_space)
    with pytest.raises(InputError, match="disk full at .* make room or choose another folder"):
        encode_corpus(config())
    assert not (tmp_path / "corpus").exists() and not list(tmp_path.glob(".corpus*"))
    monkeypatch.undo()
    encode_corpus(config())


@pytest.fixture
def small_disk(tmp_path):
    """A mounted disk of 256 KB; skipped without the right to mount."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no right to mount a disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_mounted_full_disk_leaves_no_partial_files(config, small_disk):
    (small_disk / "other").write_bytes(bytes(240_000))
    with pytest.raises(InputError, match="disk full"):
        encode_corpus(config(output_dir=str(small_disk / "corpus"), keep_audio="all"))
    assert [path.name for path in small_disk.iterdir()] == ["other"]


KILLED = """
    import sys, time
    from higgs_recipes.corpus import encode as encoding
    from higgs_recipes.corpus.code_cache import CodeCache
    from tests.helpers.corpus_folder import encode_config
    add = CodeCache.add
    def slow_add(self, codes):
        add(self, codes)
        time.sleep(5)   # killed here
    CodeCache.add = slow_add
    sources, codec, output_dir, cache_dir = sys.argv[1:]
    encoding.encode_corpus(encode_config(
        sources, codec_name_or_path=codec, output_dir=output_dir, cache_dir=cache_dir, batch_seconds=0.5
    ))
"""


@pytest.mark.slow
def test_a_killed_run_continues(config, encoded_clips, tmp_path):
    paths = [config().sources[0], str(tiny_codec_folder()), config().output_dir, config().cache_dir]
    with (tmp_path / "log").open("w") as log:
        process = Python("-c", textwrap.dedent(KILLED), *paths, env=dict(os.environ), stderr=log)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "codes").glob("*/*.safetensors")):
        assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "corpus").exists()

    kept = len(CodeCache(tmp_path / "codes", codec=tiny_codec().revision)._shards)
    folder = encode_corpus(config())
    assert 0 < kept < 6 and sum(encoded_clips) == 6 - kept
    assert len(load_encoded(folder, split="train")) == 4


def test_codes_of_another_codec_are_refused(config):
    rows = load_encoded(encode_corpus(config()), split="train")
    check_codec(rows, tiny_codec().revision, where="my corpus")
    with pytest.raises(
        InputError,
        match=r"my corpus: column codec: the codes were made by local@\w+, the recipe's codec is user/codec@abc: set",
    ):
        check_codec(rows, "user/codec@abc", where="my corpus")


def test_folders_that_are_not_an_encoded_corpus_are_refused(config, tmp_path):
    folder = encode_corpus(config())
    with pytest.raises(InputError, match="no split 'dev'; it has test, train"):
        load_encoded(folder, split="dev")
    with pytest.raises(InputError, match=r"no encoded corpus \(no data/\*.parquet\): make one with scripts/encode.py"):
        load_encoded(CORPUS, split="train")
    (tmp_path / "other/data").mkdir(parents=True)
    Dataset.from_dict({"text": ["A"]}).to_parquet(tmp_path / "other/data/train-00000-of-00001.parquet")
    with pytest.raises(InputError, match=r"no encoded corpus \(no column audio, codec, codes, content_hash"):
        load_encoded(tmp_path / "other", split="train")
    with pytest.raises(InputError, match="no such folder"):
        load_encoded("./nowhere", split="train")


HUB = """
    import sys
    from higgs_recipes.corpus.code_cache import CodeCache
    from higgs_recipes.corpus.encoded import load_encoded
    from higgs_recipes.corpus.streaming import load_corpus
    from higgs_recipes.errors import InputError
    from tests.helpers.corpus_folder import encode_config

    def load(path, **spec):
        try:
            config = encode_config(path, sources=[{"path": path, **spec}], codec_name_or_path="unused")
            config.output_dir = config.cache_dir = f"{sys.argv[1]}/{path}"
            corpus = load_corpus(config, codec=None, cache=CodeCache(config.cache_dir, codec="no codec"))
            return [(row["id"], row["text"], corpus.recording(row["own"])["bytes"] is None) for row in corpus.rows]
        except InputError as error:
            return str(error)

    results = {
        "folder": load("tester/folder"),
        "parquet": load("tester/parquet"),
        "part": load("tester/parquet", split="train[:1]"),
        "no_split": load("tester/parquet", split="dev"),
        "no_revision": load("tester/parquet", revision="v7"),
        "no_name": load("tester/parquet", name="danish"),
        "no_repo": load("tester/nowhere"),
        "private": load("stranger/private"),
        "empty": load("tester/empty"),
        "script": load("tester/script"),
        "encoded": len(load_encoded("tester/encoded", split="train")),
        "attacks": {
            name: [load(f"stranger/{name}"), load(f"stranger/{name}", streaming=True)]
            for name in ("json-bytes", "json-path", "parquet-bytes", "parquet-path", "tar-path", "outside", "absolute")
        },
    }
    import json
    print(json.dumps(results))
"""


def attacks(folder: Path) -> dict[str, dict[str, bytes]]:
    """Datasets that name a recording of this machine."""
    write_tone(private := folder / "private.wav", seconds=1.0)
    found = {}
    for kind, cell in (
        ("bytes", {"bytes": str(private), "path": None}),
        ("path", {"bytes": None, "path": str(private)}),
    ):
        found[f"json-{kind}"] = {"data.jsonl": json.dumps({"text": "Taken.", "audio": cell}).encode()}
        Dataset.from_list([{"text": "Taken.", "audio": cell}]).to_parquet(folder / f"{kind}.parquet")
        found[f"parquet-{kind}"] = {"data/train-00000-of-00001.parquet": (folder / f"{kind}.parquet").read_bytes()}
    found["tar-path"] = {"train.tar": tar({"a.json": json.dumps({"text": "Taken.", "audio": str(private)}).encode()})}
    for kind, path in (("outside", "../" * 12 + str(private)[1:]), ("absolute", str(private))):
        lines = f"file_name,text\n{path},Taken.\n".encode()
        found[kind] = {"metadata.csv": lines, "a.wav": (folder / "private.wav").read_bytes()}
    return found


def test_corpora_are_read_from_the_hub(config, tmp_path):
    folder = Path(config().sources[0])
    clips = {path.name: path.read_bytes() for path in folder.iterdir()}
    audio = {"bytes": clips["00.wav"], "path": None}
    table = Dataset.from_list([{"text": "One.", "audio": audio}, {"text": "Two.", "audio": audio}])
    table.to_parquet(tmp_path / "table.parquet")
    encoded = encode_corpus(config())
    encoded_files = {p.relative_to(encoded).as_posix(): p.read_bytes() for p in encoded.rglob("*") if p.is_file()}
    with HubServer(tmp_path) as hub:
        hub.add_repo("tester/folder", clips, kind="datasets")
        hub.add_repo("stranger/private", clips, kind="datasets", private=True)
        parquet = {"data/train-00000-of-00001.parquet": (tmp_path / "table.parquet").read_bytes()}
        hub.add_repo("tester/parquet", parquet, kind="datasets")
        hub.add_repo("tester/empty", {"README.md": b"Nothing yet."}, kind="datasets")
        hub.add_repo("tester/script", {"script.py": b"raise SystemExit"}, kind="datasets")
        hub.add_repo("tester/encoded", encoded_files, kind="datasets")
        for name, files in attacks(tmp_path).items():
            hub.add_repo(f"stranger/{name}", files, kind="datasets")
        found = json.loads(run_python(textwrap.dedent(HUB), hub.env(), str(tmp_path / "out")).splitlines()[-1])
    assert found["folder"][:2] == [["00", "Sentence 0.", True], ["01", "Sentence 1.", True]]
    assert found["parquet"] == [["000000", "One.", False], ["000001", "Two.", False]]
    assert found["part"] == [["000000", "One.", False]] and found["encoded"] == 4
    assert "Unknown split \"dev\". Should be one of ['train']" in found["no_split"]
    assert "Revision 'v7' doesn't exist" in found["no_revision"] and "'danish' not found" in found["no_name"]
    assert "check the name, or run `hf auth login`" in found["no_repo"] and "hf auth login" in found["private"]
    for name, messages in found["attacks"].items():  # some of them cannot be streamed
        assert all(isinstance(message, str) for message in messages), (name, messages)
        reasons = ("its bytes are str", "has a path but no bytes", "leaves its folder", "not one; leave streaming out")
        reasons += ("streaming requires .parquet or .tar files", "FFmpeg", "no column 'audio' for audio")
        assert all(any(reason in message for reason in reasons) for message in messages), (name, messages)
    assert "doesn't contain any data files" in found["empty"] and "scripts are no longer supported" in found["script"]


def test_the_recipe_of_the_test_data_encodes_its_corpus(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    own = ["--codec_name_or_path", str(tiny_codec_folder()), "--output_dir", str(tmp_path / "corpus")]
    own += ["--cache_dir", str(tmp_path / "codes")]
    folder = encode_corpus(parse_recipe(EncodeConfig, ["--config", "tests/data/random_tiny/encode.yaml", *own]))
    train, test = (load_encoded(folder, split=split) for split in ("train", "test"))
    assert len(train) == 32 and len(test) == 8 and set(test["speaker"]) == {"heart", "rms"}
    assert not set(train["text"]) & set(test["text"]) and None not in test["audio"][:]
    assert (folder / "rejects.jsonl").read_text() == ""
