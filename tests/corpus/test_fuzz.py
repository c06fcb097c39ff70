"""Random rows, lists and files as sources: every invalid one is a reject or an `InputError`, whatever is in it."""

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from higgs_recipes.chatml import TASKS
from higgs_recipes.corpus.encode import encode_corpus
from higgs_recipes.corpus.encoded import load_encoded
from higgs_recipes.corpus.report import check_corpus
from higgs_recipes.corpus.report_summary import render_text
from higgs_recipes.corpus.sources.columns import COLUMNS
from higgs_recipes.corpus.sources.webdataset import WebDatasetTable
from higgs_recipes.errors import InputError
from higgs_recipes.rejects import RejectedRow
from tests.helpers.corpus_folder import encode_config, write_tone
from tests.recipes.test_hub_recipes import recording, tar


SCALARS = [None, True, 0, -7, 2**63, 10**300, 1.5, 1e308, float("nan"), float("inf")]
TEXTS = [
    "",
    " ",
    ".",
    "..",
    "/",
    "\0",
    "a\0b.wav",
    "\ud800",
    "x\udcff.wav",
    "word " * 400,
    "é",
    "e\u0301",
    "\u200b",
    "。",
]
TEXTS += ["good.wav", "other.wav", "../good.wav", "/etc/passwd", "good.wav/", "Good.WAV", "a\\good.wav", "n" * 300]
TEXTS += ["[SPEAKER0] Hi.\n[SPEAKER1] Well.", "SPEAKER0", "<|eot_id|>", "{{ 1 }}", "Plain words.", *TASKS]
CELLS = [{"bytes": "good.wav"}, {"bytes": None, "path": 5}, {"path": "good.wav"}, {"bytes": [1, 2]}, {"array": 5}]
CELLS += [
    {"array": [0.1] * 9000, "sampling_rate": 24_000},
    {"array": [[0.1], "a"]},
    {"array": [1] * 9, "sampling_rate": -1},
]


NUM_DAMAGED = {"metadata.csv": 30, "metadata.jsonl": 30, "data.tar": 300, "data.parquet": 20}
SEEDS = [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 30))]


def value(draw: random.Random, depth: int = 0) -> Any:
    kind = draw.random()
    if kind < 0.5:
        return draw.choice(TEXTS)
    if kind < 0.7:
        return draw.choice(SCALARS)
    if kind < 0.85 or depth > 2:
        return draw.choice(CELLS)
    if kind < 0.95:
        return [value(draw, depth + 1) for _ in range(draw.randint(0, 3))]
    return {draw.choice([*COLUMNS, "x", ""]): value(draw, depth + 1) for _ in range(draw.randint(0, 3))}


def random_row(draw: random.Random, index: int) -> dict[str, Any]:
    """A valid row with some of its values replaced."""
    row: dict[str, Any] = {"id": str(index), "text": f"Row {index}.", "speaker": ("anna", "bert")[index % 2]}
    row["file_name"] = draw.choice(["good.wav", "other.wav"])
    if draw.random() < 0.2:
        turn = {"speaker": "anna", "text": "Hm.", "audio": "good.wav"}
        row["turns"] = [turn | {draw.choice(list(turn)): value(draw)}, turn | {"speaker": "bert"}]
    if draw.random() < 0.2:
        row["ref_speakers"] = [
            {"speaker_tag": "SPEAKER0", "ref_text": "A.", draw.choice(["ref_audio", "x"]): value(draw)}
        ]
    for _ in range(draw.randint(0, 2)):
        row[draw.choice([*(name for name in COLUMNS if name != "audio"), "file_name", "extra"])] = value(draw)
    return row


def write_recordings(folder: Path) -> None:
    write_tone(folder / "good.wav", seconds=0.5)
    write_tone(folder / "other.wav", seconds=0.6, hertz=330.0)


def config(folder: Path, **fields: Any) -> Any:
    tasks = dict.fromkeys(TASKS, 1.0)
    own = {"output_dir": str(folder / "out"), "cache_dir": str(folder / "cache"), "tasks": tasks, "test_size": 3}
    own |= {"ref_min_seconds": 0.3, "too_long": "cut_at_turn", "max_seconds": 1.0}
    return encode_config(folder / "corpus", **own | fields)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_rows_are_checked_encoded_or_rejected(tmp_path, seed):
    draw = random.Random(seed)
    write_recordings(tmp_path / "corpus")
    lines = [json.dumps(random_row(draw, index)) for index in range(250)]
    lines += [
        "[" * 5000,
        '{"a": ' * 500 + "1" + "}" * 500,
        '{"text": 1, "text": 2}',
        '{"id": ' + "9" * 5000 + "}",
        "\0",
        "{",
    ]
    (tmp_path / "corpus/metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    record, _ = check_corpus(config(tmp_path))
    assert record["read"] == len(lines) and record["kept"] > 50
    assert render_text(record).encode()
    folder = encode_corpus(config(tmp_path))
    rows = [json.loads(line) for line in (folder / "rejects.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) == record["rejected"] and all(row["code"] and row["reason"] for row in rows)
    ids = [row_id for split in ("train", "test") for row_id in load_encoded(folder, split=split)["id"]]
    assert len(ids) == len(set(ids)) > 20


@pytest.mark.parametrize("seed", SEEDS)
def test_random_columns_of_a_parquet_file_are_checked_or_refused(tmp_path, seed):
    draw = random.Random(seed)
    write_recordings(tmp_path / "corpus")
    binary = [(tmp_path / "corpus/good.wav").read_bytes(), b"", b"\xff\xfe", None]
    kinds = [
        lambda: pa.array([draw.choice(TEXTS[14:]) for _ in range(4)]),
        lambda: pa.array([draw.choice(binary) for _ in range(4)], pa.binary()),
        lambda: pa.array([draw.choice(binary) for _ in range(4)], pa.binary()).cast(pa.large_binary()),
        lambda: pa.array([draw.choice([None, 1.5, float("nan")]) for _ in range(4)], pa.float64()),
        lambda: pa.array([[0.1] * draw.choice([0, 9000]) for _ in range(4)], pa.list_(pa.float32())),
        lambda: pa.array([{"bytes": draw.choice(binary)} for _ in range(4)]),
        lambda: pa.array([{"bytes": draw.choice(TEXTS[14:]), "path": "good.wav"} for _ in range(4)]),
        lambda: pa.array([{"path": draw.choice(["good.wav", "none.wav"])} for _ in range(4)]),
        lambda: pa.array([{"text": draw.choice(["One.", None])} for _ in range(4)]),
        lambda: pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")).take(
            [0] * 4
        ),
        lambda: pa.array([None] * 4),
    ]
    for attempt in range(12):
        columns = {
            "text": pa.array(["One.", "Two.", "Three.", "Four."]),
            "audio": pa.array(["good.wav", "other.wav"] * 2),
        }
        columns |= {draw.choice([*COLUMNS, "meta"]): draw.choice(kinds)() for _ in range(draw.randint(1, 3))}
        (tmp_path / "corpus/data").mkdir(exist_ok=True)
        pq.write_table(pa.table(columns), tmp_path / f"corpus/data/{attempt}.parquet")
        try:
            check_corpus(config(tmp_path, test_size=0, tasks={"single_speaker_smart_voice": 1.0}))
        except InputError as error:
            assert str(error).encode("utf-8", "backslashreplace")
        (tmp_path / f"corpus/data/{attempt}.parquet").unlink()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl", "data.tar", "data.parquet"])
def test_damaged_files_are_read_or_refused(tmp_path, name, seed):
    draw = random.Random(f"{name} {seed}")
    write_recordings(tmp_path / "corpus")
    names = ["good.wav", "other.wav"]
    whole = {
        "metadata.csv": "file_name,text\n" + "".join(f'{clip},"A ""quoted"" text."\n' for clip in names),
        "metadata.jsonl": "".join(json.dumps({"file_name": clip, "text": "Ünï."}) + "\n" for clip in names),
    }
    if name == "data.tar":
        content = tar(
            {
                f"{i}.{end}": c
                for i in range(2)
                for end, c in (("wav", recording(i)[:600]), ("json", b'{"text": "A."}'))
            }
        )
    elif name == "data.parquet":
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table({"text": ["One.", "Two."], "audio": names}), sink)
        content = sink.getvalue().to_pybytes()
    else:
        content = whole[name].encode()
    for _ in range(NUM_DAMAGED[name]):
        damaged = bytearray(content)
        for _ in range(draw.randint(1, 6)):
            position = draw.randrange(len(damaged))
            damaged[position] = draw.choice([0, 10, 34, 44, 45, 255, draw.randrange(256)])
        if draw.random() < 0.3:
            del damaged[draw.randrange(len(damaged)) :]
        path = tmp_path / "corpus" / name
        path.write_bytes(damaged)
        try:
            if name == "data.tar":
                table = WebDatasetTable([path])
                for index in range(len(table)):
                    try:
                        table[index]
                    except RejectedRow:
                        continue
            else:
                check_corpus(config(tmp_path, test_size=0, tasks={"single_speaker_smart_voice": 1.0}))
        except InputError as error:
            assert str(error)
