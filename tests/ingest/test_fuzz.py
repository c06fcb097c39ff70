"""Damaged sources of every format, at random: import and export raise `InputError` or reject rows, nothing else."""

import json
import random
import string
from pathlib import Path
from typing import Any, get_args

import pytest

from higgs_recipes.configs.corpus import ExportConfig, Format, ImportConfig
from higgs_recipes.errors import InputError
from higgs_recipes.ingest import import_corpus as import_module
from higgs_recipes.ingest.export_corpus import export_corpus
from higgs_recipes.ingest.import_corpus import import_corpus
from tests.helpers.import_folder import write_tones


# Trials for each format and each kind of damage.
TRIALS = pytest.mark.parametrize("num_trials", [60, pytest.param(1500, marks=pytest.mark.slow)])
TEXTS = ["Hello.", "你好", '"Yes," he said.', "a|b", "ก็", ""]
FRAGMENTS = [
    text.encode("latin-1") for text in '\n \r \t \0 " | , \\ / .. { } [ ] : \xff\xfe \xef\xbb\xbf \xe9'.split(" ")
]
FRAGMENTS += rb"\ud83d <think> </think> <audio> a.wav -1 NaN Infinity 1e999 C:\ //host/x".split()
FRAGMENTS += [b"9" * 5000, b"x" * 300, "\u2028".encode(), b"\xed\xa0\xbd"]
FRAGMENTS += [b"[" * depth + b"]" * depth for depth in (400, 850, 900, 950, 3000)]
ODD_VALUES: list[Any] = [None, True, 0, -1, 1e308, float("nan"), float("inf"), 10**400, [], {}, [[]], ["a.wav"]]
ODD_VALUES += [
    {"path": "a.wav"},
    {"bytes": "x"},
    [{"ref_audio": 5}],
    [{"role": 5}],
    "",
    " ",
    "a\0b",
    "\ud83d",
    "x" * 5000,
]
ODD_VALUES += r". .. / ~ ../a.wav /etc/passwd C:\a.wav \\host\a.wav audio <think> 🎉 a/b/c 84".split()


def rows_of(format: str) -> list[dict[str, Any]]:
    """Rows with all fields of a format that has JSON."""
    if format == "ms_swift":
        return [
            {"messages": [{"role": "assistant", "content": "Hello."}], "audios": ["a.wav"], "spk": "x"},
            {"conversations": [{"from": "gpt", "value": "Hello."}], "audios": ["b.wav"], "spk": "x"},
            {"query": "Say it.", "response": "<think>Hello.", "history": [], "audios": "sub/c.wav", "spk": "x"},
        ]
    names = {"audio": "audio_file", "text": "transcript_file", "ref": "ref_audio_file"}
    if format != "train_higgs_audio":
        names = {"audio": "file_name", "text": "text", "ref": "ref_audio_file_name"}
    reference = {"speaker_tag": "[SPEAKER0]", "ref_text": "Hi.", "ref_audio": "b.wav", "ref_audio_file": "b.wav"}
    fields = {
        "speaker": "x",
        "speaker_id": "x",
        "scene": "room",
        "emotion": "calm",
        "quality_score": 1.0,
        "gender": "f",
    }
    return [
        {
            names["audio"]: audio,
            names["text"]: "a.txt",
            "id": index,
            names["ref"]: "sub/c.wav",
            "ref_speakers": [reference],
        }
        | fields
        for index, audio in enumerate(("a.wav", "b.wav"))
    ]


def write_source(format: str, folder: Path) -> list[Path]:
    """A valid source; returns its text files, the first of which is the source of list formats."""
    write_tones(folder, "a.wav", "b.wav", "sub/c.wav", "wavs/a.wav", "84/1/84_1_0.wav", "wav48/p1/p1_1.wav")
    audio = ("a.wav", "b.wav", "sub/c.wav")
    lines = list(zip(audio, TEXTS, strict=False))
    contents = {
        "gpt_sovits": {"all.list": "".join(f"{name}|x|en|{text}\n" for name, text in lines)},
        "f5": {"list.csv": "audio_file|text\n" + "".join(f'{name}|"{text}"\n' for name, text in lines)},
        "ljspeech": {"metadata.csv": "a|Hello.|Hello.\nb|Hi.\n"},
        "kaldi": {
            "text": "u1 Hello.\nu2 Hi.\n",
            "wav.scp": "r1 a.wav\nr2 b.wav\n",
            "segments": "u1 r1 0 0.2\nu2 r2 0.1 -1 0\n",
            "utt2spk": "u1 x\nu2 y\n",
            "spk2gender": "x f\n",
            "utt2lang": "u1 en\n",
        },
        "libritts": {"84/1/84_1_0.normalized.txt": "Hello.\n", "SPEAKERS.txt": "84 | F | x\n"},
        "vctk": {"txt/p1/p1_1.txt": "Hello.\n", "speaker-info.txt": "ID AGE GENDER\n1 23 F\n"},
        "audiofolder": {
            "metadata.csv": "file_name,text,speaker\n" + "".join(f'{name},"Hi, {name}",x\n' for name in audio)
        },
    }
    files = contents.get(format, {})
    if format == "train_higgs_audio":
        files = {"metadata.json": json.dumps({"samples": rows_of(format)}, indent=1), "a.txt": "Hello."}
    elif format == "ms_swift":
        files = {"list.jsonl": "".join(json.dumps(row) + "\n" for row in rows_of(format))}
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    return [folder / name for name in files]


def damaged(content: bytes, draw: random.Random) -> bytes:
    """The content with bytes changed, inserted, deleted, repeated or cut off."""
    for _ in range(draw.randint(1, 4)):
        start = draw.randint(0, len(content))
        end = min(len(content), start + draw.choice((0, 1, 2, 8, 40)))
        insert = draw.choice(
            (
                b"",
                draw.choice(FRAGMENTS),
                bytes([draw.randrange(256)]),
                draw.choice(string.printable).encode(),
                content[start:end] * 2,
            )
        )
        content = content[:start] + insert + (b"" if draw.random() < 0.1 else content[end:])
    return content


def with_odd_values(value: Any, draw: random.Random) -> Any:
    """A JSON value in which some values, keys and elements are replaced, removed or repeated."""
    if draw.random() < 0.12:
        return draw.choice(ODD_VALUES)
    if isinstance(value, dict):
        changed = {key: with_odd_values(inner, draw) for key, inner in value.items() if draw.random() > 0.05}
        return changed | (
            {"\ud83d" if draw.random() < 0.3 else "extra": draw.choice(ODD_VALUES)} if draw.random() < 0.1 else {}
        )
    if isinstance(value, list):
        return [with_odd_values(inner, draw) for inner in value for _ in range(draw.choice((0, 1, 1, 1, 1, 2)))]
    return value


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    """Without the subprocess, the progress bar and the flush to the disk of each run."""
    monkeypatch.setattr(import_module, "git_commit", lambda: None)
    monkeypatch.setattr(import_module, "library_versions", dict)
    monkeypatch.setattr(import_module, "tqdm", lambda rows, **_: rows)
    monkeypatch.setattr("higgs_recipes.files.os.fsync", lambda _: None)


def try_import(format: str, source: Path, out: Path, draw: random.Random) -> bool:
    """Whether the import wrote a corpus, whose lists are then valid; an `InputError` is the only other result."""
    fields = {"columns": {"speaker": "spk"}} if format == "ms_swift" and draw.random() < 0.5 else {}
    fields |= {"audio_dir": str(source.parent if source.suffix else source)} if draw.random() < 0.5 else {}
    config = ImportConfig(
        format=format,
        sources=[str(source)],
        output_dir=str(out),
        overwrite_output_dir=True,
        copy_audio=draw.random() < 0.7,
        min_quality_score=draw.choice((None, 0.5)),
        **fields,
    )
    try:
        record = import_corpus(config)
    except InputError:
        return False
    rows = [json.loads(line) for line in (out / "metadata.jsonl").read_text(encoding="utf-8").split("\n")[:-1]]
    rejects = (out / "rejects.jsonl").read_bytes().decode().split("\n")[:-1]
    assert len(rows) == record["rows"] and len(list(map(json.loads, rejects))) == sum(record["rejects"].values())
    assert len({row["id"] for row in rows}) == len(rows)
    audio = (out / "audio").resolve()
    for row in rows:
        assert (out / row["file_name"]).is_file() and (out / row["file_name"]).parent.resolve().is_relative_to(audio)
    return True


@TRIALS
@pytest.mark.parametrize("format", get_args(Format))
def test_damaged_files(tmp_path, format, num_trials):
    draw = random.Random(f"damaged {format}")
    folder = tmp_path / "in"
    files = write_source(format, folder)
    contents = [path.read_bytes() for path in files]
    source = files[0] if format in import_module.LIST_FORMATS else folder
    assert try_import(format, source, tmp_path / "out", draw)
    num_written = 0
    for _ in range(num_trials):
        for path, content in zip(files, contents, strict=True):
            path.write_bytes(damaged(content, draw) if draw.random() < 0.7 else content)
        num_written += try_import(format, source, tmp_path / "out", draw)
    assert 0 < num_written


@TRIALS
@pytest.mark.parametrize("format", ["ms_swift", "train_higgs_audio", "audiofolder"])
def test_odd_values(tmp_path, format, num_trials):
    draw = random.Random(f"odd values {format}")
    folder = tmp_path / "in"
    files = write_source(format, folder)
    files[0].unlink()
    name = {"ms_swift": "list.jsonl", "train_higgs_audio": "metadata.json", "audiofolder": "metadata.jsonl"}[format]
    source = folder / name if format == "ms_swift" else folder
    num_written = 0
    for _ in range(num_trials):
        rows = with_odd_values(rows_of(format), draw)
        if format == "train_higgs_audio":
            content = json.dumps({"samples": rows})
        elif format == "ms_swift" and draw.random() < 0.5 or not isinstance(rows, list):
            content = json.dumps(rows)
        else:
            content = "\n".join(map(json.dumps, rows))
        (folder / name).write_text(content)
        num_written += try_import(format, source, tmp_path / "out", draw)
    assert 0 < num_written


@TRIALS
@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.csv"])
def test_export(tmp_path, name, num_trials):
    draw = random.Random(f"export {name}")
    folder = tmp_path / "in"
    csv = write_source("audiofolder", folder)[0].read_bytes()
    (folder / "metadata.csv").unlink()
    config = ExportConfig(source=str(folder), output_dir=str(tmp_path / "out"), overwrite_output_dir=True)
    num_written = 0
    for trial in range(2 * num_trials):
        content = csv
        if name == "metadata.jsonl":
            rows = with_odd_values(rows_of("audiofolder"), draw) if trial else rows_of("audiofolder")
            content = "\n".join(map(json.dumps, rows if isinstance(rows, list) else [rows])).encode()
        (folder / name).write_bytes(damaged(content, draw) if trial and draw.random() < 0.5 else content)
        try:
            export_corpus(config)
        except InputError:
            continue
        num_written += 1
        samples = json.loads((tmp_path / "out/metadata.json").read_text(encoding="utf-8"))["samples"]
        for sample in samples:
            assert all((tmp_path / "out" / sample[key]).is_file() for key in ("audio_file", "transcript_file"))
    assert 0 < num_written
