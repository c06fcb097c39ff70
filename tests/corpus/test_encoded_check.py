import json
import random
import runpy
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from higgs_recipes.chatml import TASKS, conversation_problem
from higgs_recipes.corpus.encoded import load_encoded
from higgs_recipes.corpus.encoded_check import check_rows
from higgs_recipes.errors import InputError
from higgs_recipes.samples import build_sample
from higgs_recipes.training.data import EncodedSamples, tokenize_rows
from tests.helpers.checkpoints import load_tiny, tiny_folder
from tests.helpers.corpus_folder import write_tone
from tests.helpers.encoded_corpus import SCHEMA, encoded_rows, write_encoded
from tests.helpers.paths import ROOT
from tests.helpers.tiny_codec import tiny_codec, tiny_codec_folder


STEP = [1] * 8


def refused(folder: Path, rows: list[dict] | pa.Table) -> str:
    with pytest.raises(InputError) as error:
        load_encoded(write_encoded(folder, rows), split="train")
    return str(error.value)


def messages(row: dict, change: Callable[[list[dict]], Any]) -> str:
    """The row's messages with its turns changed in place, or replaced by what `change` returns."""
    turns = json.loads(row["messages"])
    changed = change(turns)
    return json.dumps(turns if changed is None else changed)


def test_rows_of_all_tasks_pass_and_are_samples(tmp_path):
    rows = encoded_rows(12)
    loaded = load_encoded(write_encoded(tmp_path, rows), split="train")
    assert set(loaded["task"]) == set(TASKS)
    _, tokenizer = load_tiny()
    samples = EncodedSamples(tokenize_rows(loaded, tokenizer), tokenizer)
    for row, sample in zip(rows, samples.__getitems__(list(range(12))), strict=True):
        assert [len(codes) for codes in sample["codes"]] == [*map(len, row["ref_codes"]), len(row["codes"])]


def test_what_may_be_null_or_empty_passes(tmp_path):
    rows = encoded_rows(4)
    for name in ("raw_text", "speaker", "language", "scene", "task", "content_hash", "ref_texts", "audio"):
        rows[0][name] = None
    rows[0]["ref_codes"] = None
    rows[1]["ref_texts"] = [None]  # with the reference in the system turn
    rows[2]["audio"] = {"bytes": b"RIFF", "path": None}
    assert len(load_encoded(write_encoded(tmp_path, rows), split="train")) == 4


# Column, its value in row 2 (a dialogue) or a function of the row, and the message.
DAMAGE = [
    ("id", None, "row (without id) (number 2): column id: is null"),
    ("id", " ", "column id: is blank"),
    ("id", "x" * 300_000, "column id: has more than 262144 bytes"),
    ("id", "\x1b[2J" * 90_000, r"row '\x1b[2J\x1b[2J"),
    ("text", None, "column text: is null"),
    ("text", "\n ", "column text: is blank"),
    ("text", "a" * 300_000, "column text: has more than 262144 bytes"),
    ("scene", "a" * 300_000, "column scene: has more than 262144 bytes"),
    ("codec", None, "column codec: is null"),
    ("codec", "", "column codec: is blank"),
    ("seconds", None, "column seconds: is null"),
    ("seconds", float("nan"), "column seconds: is not a finite number"),
    ("seconds", float("inf"), "column seconds: is not a finite number"),
    ("seconds", -1.0, "column seconds: is -1.00, but codes has 12 steps of 1/25 s"),
    ("seconds", 0.7, "column seconds: is 0.70, but codes has 12 steps of 1/25 s"),
    ("turn_speakers", None, "column turn_speakers: is null"),
    ("turn_speakers", ["a" * 300_000], "column turn_speakers: has more than 262144 bytes"),
    ("ref_texts", ["Words."], "column ref_texts: has 1 texts for 0 clips in ref_codes"),
    ("codes", None, "column codes: is null"),
    ("codes", [], "column codes: has a clip without steps"),
    ("codes", [STEP] * 100_000, "column codes: has a clip of 100000 steps, at most 15000 (600 s) are read"),
    ("codes", [*[STEP] * 11, None], "column codes: has a step that is null"),
    ("codes", [*[STEP] * 11, [1, 2, 3, 4, 5, 6, 7, None]], "column codes: has a null code"),
    ("codes", [*[STEP] * 11, [1, 2, 3, 4, 5, 6, 7, 1024]], "column codes: has the code 1024, codes are 0 to 1023"),
    ("codes", [[-1] * 8, *[STEP] * 11], "column codes: has the code -1, codes are 0 to 1023"),
    ("ref_codes", [None], "column ref_codes: has a clip that is null"),
    ("ref_codes", [[STEP], []], "column ref_codes: has a clip without steps"),
    ("ref_codes", [[STEP], [STEP] * 15_001], "column ref_codes: has a clip of 15001 steps, at most 15000"),
    ("ref_codes", [[STEP], [None]], "column ref_codes: has a step that is null"),
    ("ref_codes", [[STEP], [STEP, [None] * 8]], "column ref_codes: has a null code"),
    ("ref_codes", [[STEP], [STEP, [1025] * 8]], "column ref_codes: has the code 1025, codes are 0 to 1023"),
    ("messages", None, "column messages: is null"),
    ("messages", "", "column messages: is blank"),
    ("messages", "Hello.", "column messages: is not JSON (Expecting value"),
    ("messages", "null", "column messages: is not a list of turns"),
    ("messages", "3", "column messages: is not a list of turns"),
    ("messages", "[]", "column messages: is not a list of turns"),
    ("messages", '{"role": "user"}', "column messages: is not a list of turns"),
    ("messages", "[" * 100_000, "column messages: is not JSON (maximum recursion depth"),
    ("messages", "[" + "[[]," * 1000, "column messages: is not JSON ("),
    ("messages", "1" * 5000, "column messages: is not JSON (Exceeds the limit"),
    ("messages", "[" + " " * 300_000 + "]", "column messages: has more than 262144 bytes"),
    ("messages", "[null]", "column messages: turn 0 has none of the roles system, scene, user, assistant"),
    ("messages", lambda turns: turns[1].update(role="tool"), "turn 1 has none of the roles"),
    ("messages", lambda turns: turns[1].update(role=["user"]), "turn 1 has none of the roles"),
    ("messages", lambda turns: turns[1].update(role=None), "turn 1 has none of the roles"),
    ("messages", lambda turns: turns[1].update(content="Hi."), "the content of turn 1 is not a list of items"),
    ("messages", lambda turns: turns[1].update(content=None), "the content of turn 1 is not a list of items"),
    ("messages", lambda turns: turns[1].update(content=[]), "the content of turn 1 is not a list of items"),
    ("messages", lambda turns: turns[2].update(content=["Hi."]), "turn 2 has an item that is neither audio nor text"),
    ("messages", lambda turns: turns[2].update(content=[{"type": "image"}]), "turn 2 has an item that is neither"),
    ("messages", lambda turns: turns[2].update(content=[{"type": "text"}]), "turn 2 has an item that is neither"),
    (
        "messages",
        lambda turns: turns[2].update(content=[{"type": "text", "text": 3}]),
        "turn 2 has an item that is neither",
    ),
    (
        "messages",
        lambda turns: turns[2].update(content=[{"type": "text", "text": "a<|AUDIO_OUT|>"}]),
        "the text of turn 2 has the control token <|AUDIO_OUT|>, which only the prompt may set",
    ),
    (
        "messages",
        lambda turns: turns[2].update(content=[{"type": "text", "text": "\ud800"}]),
        "the text of turn 2 has invalid Unicode",
    ),
    (
        "messages",
        lambda turns: turns[1].update(content=[{"type": "audio"}, {"type": "text", "text": "a"}]),
        "turn 1 is a scene: it must follow the system turn, and begin with text",
    ),
    ("messages", lambda turns: turns.insert(2, turns.pop(1)), "turn 2 is a scene: it must follow the system turn"),
    ("messages", lambda turns: turns[:-1], "the last turn is not the assistant's with one audio item"),
    ("messages", lambda turns: turns[-1].update(role="user"), "the last turn is not the assistant's with one audio"),
    (
        "messages",
        lambda turns: turns[-1]["content"].insert(0, {"type": "text", "text": "a"}),
        "the last turn is not the assistant's with one audio item",
    ),
    (
        "messages",
        lambda turns: turns[-1]["content"].append({"type": "audio"}),
        "the last turn is not the assistant's with one audio item",
    ),
    (
        "messages",
        lambda turns: turns.insert(2, turns[-1]),
        "column messages: has 2 audio items for 1 clips in codes and ref_codes",
    ),
]


@pytest.mark.parametrize("column, value, message", DAMAGE, ids=[f"{i}-{each[0]}" for i, each in enumerate(DAMAGE)])
def test_a_damaged_cell_is_named(tmp_path, column, value, message):
    rows = encoded_rows(4)
    rows[2][column] = messages(rows[2], value) if callable(value) else value
    if column == "ref_codes":
        rows[2]["ref_texts"] = [None] * len(value)
    error = refused(tmp_path, rows)
    assert error.startswith(f"{tmp_path}, split train: row ") and "(number 2): column " in error, error
    assert message in error and len(error) < 600
    assert error.endswith(
        "of 4 rows are damaged: remove these rows, or encode the corpus again with scripts/encode.py"
    )


def test_one_reference_too_few_or_too_many_is_named(tmp_path):
    rows = encoded_rows(4)
    rows[3]["ref_codes"].pop()
    rows[3]["ref_texts"].pop()
    assert "row row3 (number 3): column messages: has 3 audio items for 2 clips" in refused(tmp_path, rows)


def test_text_that_is_not_utf8_is_named(tmp_path):
    (row,) = encoded_rows(1)
    table = pa.Table.from_pylist([row | {"id": f"row{index}"} for index in range(4)], schema=SCHEMA)
    invalid = pa.array([b"a", b"\xff", b"\xed\xa0\x80", b"b"]).cast(pa.string(), safe=False)
    for name in ("id", "text", "raw_text", "speaker", "codec"):
        error = refused(tmp_path, table.set_column(SCHEMA.get_field_index(name), name, invalid))
        assert f"column {name}: is not valid UTF-8; 2 of 4" in error, error
    lists = pa.ListArray.from_arrays(pa.array([0, 0, 0, 1, 2], pa.int32()), invalid.slice(1, 2))
    for name in ("ref_texts", "turn_speakers"):
        error = refused(tmp_path, table.set_column(SCHEMA.get_field_index(name), name, lists))
        assert f"column {name}: is not valid UTF-8; 2 of 4" in error, error
    paths = pa.StructArray.from_arrays([pa.array([b"RIFF"] * 4), invalid], fields=list(SCHEMA.field("audio").type))
    error = refused(tmp_path, table.set_column(SCHEMA.get_field_index("audio"), "audio", paths))
    assert "row row1 (number 1): column audio.path: is not valid UTF-8; 2 of 4" in error


def test_the_first_of_the_damaged_rows_is_shown_and_all_are_counted(tmp_path):
    rows = [row | {"id": f"row{index}"} for index, row in enumerate(encoded_rows(10) * 250)]
    for index in (1200, 1201, 2400):
        rows[index]["codes"] = [[2000] * 8] * 10
    rows[1201]["text"] = None
    rows[1100]["messages"] = "[]"
    error = refused(tmp_path, rows)
    assert "row row1100 (number 1100): column messages: is not a list of turns; 4 of 2500 rows are damaged" in error


def test_every_file_of_a_split_is_checked(tmp_path):
    rows = encoded_rows(6)
    rows[5]["codes"][0][0] = 1024
    write_encoded(tmp_path, rows, num_files=3, row_group_size=1)
    with pytest.raises(InputError, match=r"row row5 \(number 5\): column codes: has the code 1024"):
        load_encoded(tmp_path, split="train")


def test_a_conversation_passes_exactly_if_it_is_a_sample():
    """Conversations with turns and items left out, repeated and exchanged, against the tokenizer's view of them."""
    _, tokenizer = load_tiny()
    draw = random.Random(0)
    outcomes = set()
    for row in encoded_rows(60):
        turns = json.loads(row["messages"])
        for _ in range(draw.randint(0, 2)):
            place = turns if draw.random() < 0.5 else draw.choice(turns)["content"]
            index = draw.randrange(len(place))
            if draw.random() < 0.5:
                place.insert(draw.randrange(len(place) + 1), place[index])
            elif len(place) > 1:
                del place[index]
        row = row | {"messages": json.dumps(turns)}
        problem = conversation_problem(row["messages"], num_clips=1 + len(row["ref_codes"]))
        if problem == "":
            build_sample(row, tokenizer)
        elif "audio items for" in problem:
            with pytest.raises(InputError, match="audio turns for"):
                build_sample(row, tokenizer)
        outcomes.add(problem.partition(" ")[0])
    assert outcomes >= {"", "has", "the"}


def test_a_large_corpus_is_checked_in_seconds():
    """100,000 rows: with one Python object for a code it would take minutes."""
    (row,) = encoded_rows(1, num_steps=200)
    (table,) = [pa.Table.from_pylist([row], schema=SCHEMA).take(np.zeros(100_000, dtype=np.int64))]
    start = time.process_time()
    check_rows(table, where="corpus")
    assert time.process_time() - start < 20


def mutate(rows: list[dict], draw: random.Random) -> list[dict]:
    """Change some cells: nulls, other values, and parts of JSON and of lists."""
    rows = json.loads(json.dumps(rows))
    for _ in range(draw.randint(1, 3)):
        row, name = draw.choice(rows), draw.choice(SCHEMA.names)
        text = row["messages"] or ""
        cut = draw.randrange(len(text) + 1)
        texts = [
            "",
            "\0",
            "<|eot_id|>",
            "ü" * draw.randrange(99),
            "[" * draw.randrange(3000),
            "null",
            text[:cut],
            "[[]]",
        ]
        texts += [text[:cut] + draw.choice('"[]{},:\\x0') + text[cut + draw.randint(0, 1) :], text + text]
        steps = [STEP] * draw.randrange(40)
        values: list[Any] = [None, draw.choice(texts)]
        if name in ("codes", "ref_codes"):
            codes = [None, [], steps, [*steps, None], [*steps, [draw.randint(-40, 1100)] * 8], [[None] * 8]]
            values = codes if name == "codes" else [None, [], *([each] * draw.randint(1, 3) for each in codes)]
        elif name in ("ref_texts", "turn_speakers"):
            values = [None, [], [None], [draw.choice(texts)] * draw.randint(1, 3)]
        elif name == "seconds":
            values = [None, draw.choice([0.0, -0.0, 1e30, float("nan"), float("-inf"), draw.random()])]
        elif name == "audio":
            values = [None, {"bytes": None, "path": "/etc/passwd"}, {"bytes": b"", "path": None}]
        row[name] = draw.choice(values)
    return rows


OTHER_TYPES = (pa.null(), pa.int64(), pa.float64(), pa.bool_(), pa.large_string(), pa.binary(), pa.list_(pa.string()))


def with_other_type(table: pa.Table, draw: random.Random) -> pa.Table:
    name = draw.choice(SCHEMA.names)
    column = pa.nulls(len(table), draw.choice(OTHER_TYPES))
    return draw.choice([table.drop_columns([name]), table.set_column(SCHEMA.get_field_index(name), name, column)])


def with_other_bytes(content: bytes, draw: random.Random) -> bytes:
    changed = bytearray(content)
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    start, end = draw.choice([(0, len(content)), (footer, len(content)), (4, footer)])
    for _ in range(draw.choice([1, 1, 2, 10])):
        changed[draw.randrange(start, end)] = draw.choice([0, 255, draw.randrange(256)])
    if draw.random() < 0.1:
        del changed[draw.randrange(start, end) :]
    return bytes(changed)


@pytest.mark.parametrize("kind", ["cells", "types", "bytes"])
def test_damage_of_any_kind_is_an_input_error(tmp_path, kind):
    draw = random.Random(f"0 {kind}")
    rows = encoded_rows(6)
    write_encoded(tmp_path, rows, compression="zstd")
    path = tmp_path / "data/train-00000-of-00001.parquet"
    content, num_refused = path.read_bytes(), 0
    for _ in range(40):
        if kind == "bytes":
            path.write_bytes(with_other_bytes(content, draw))
        elif kind == "types":
            write_encoded(tmp_path, with_other_type(pa.Table.from_pylist(rows, schema=SCHEMA), draw))
        else:
            write_encoded(tmp_path, mutate(rows, draw))
        try:
            for row in load_encoded(tmp_path, split="train"):
                conversation_problem(row["messages"], num_clips=1)
        except InputError:
            num_refused += 1
    assert num_refused >= 15
    path.write_bytes(content)
    assert load_encoded(tmp_path, split="train")["codes"][:] == [row["codes"] for row in rows]


@pytest.fixture
def run_script(monkeypatch, caplog, tmp_path):
    """Run a script on a damaged corpus: it ends with exit code 2 and the message, before it loads a model."""

    def run(script: str, field: str, corpus: Path, **fields: str) -> str:
        fields |= {field: str(corpus), "output_dir": str(tmp_path / "output")}
        fields |= {"model_name_or_path": str(tiny_folder() / "model"), "codec_name_or_path": str(tiny_codec_folder())}
        arguments = [part for name, value in fields.items() for part in (f"--{name}", value)]
        path = ROOT / f"scripts/{script}.py"
        monkeypatch.setattr(sys, "argv", [str(path), *arguments])
        monkeypatch.setattr(sys, "path", list(sys.path))
        for module in ("modeling.model", "evaluation.evaluate"):
            monkeypatch.setattr(f"higgs_recipes.{module}.load_model", lambda *args, **kwargs: pytest.fail("too late"))
        monkeypatch.setattr("higgs_recipes.modeling.model.build_model", lambda *args: pytest.fail("too late"))
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(path), run_name="__main__")
        assert end.value.code == 2
        return caplog.records[-1].getMessage()

    return run


def broken_file(folder: Path, rows: list[dict]) -> None:
    write_encoded(folder, rows)
    (folder / "data/train-00000-of-00001.parquet").write_bytes(b"PAR1")


def half_a_corpus(folder: Path, rows: list[dict]) -> None:
    write_encoded(folder, rows, num_files=2)
    (folder / "data/train-00000-of-00002.parquet").unlink()


@pytest.mark.parametrize("script, field", [("sft", "datasets"), ("evaluate", "dataset")])
@pytest.mark.parametrize(
    "write, message",
    [
        (lambda folder, rows: write_encoded(folder, []), "split train: no rows: encode the corpus again"),
        (broken_file, "data/train-00000-of-00001.parquet: the parquet file cannot be read"),
        (lambda folder, rows: write_encoded(folder, [rows[0] | {"text": None}]), "row row0 (number 0): column text"),
        (half_a_corpus, "split train: 1 of 2 files are missing"),
    ],
    ids=["no rows", "broken file", "null text", "half a corpus"],
)
def test_scripts_refuse_a_damaged_corpus_before_they_load_a_model(run_script, tmp_path, script, field, write, message):
    fields = {"sft": {"use_cpu": "true"}, "evaluate": {"split": "train"}}
    write(tmp_path / "corpus", encoded_rows(4, codec=tiny_codec().revision))
    assert message in run_script(script, field, tmp_path / "corpus", **fields[script])
    assert not (tmp_path / "output").exists()


def test_evaluate_never_opens_a_path_that_a_corpus_names(run_script, tmp_path):
    """The report plays its recordings and can be pushed: a private one would be published."""
    write_tone(tmp_path / "private.wav")
    rows = encoded_rows(1, codec=tiny_codec().revision)
    rows[0]["audio"] = {"bytes": None, "path": str(tmp_path / "private.wav")}
    write_encoded(tmp_path / "corpus", rows, split="test")
    message = "row row0: column audio has no bytes: embed the recording; a path is never opened"
    assert message in run_script("evaluate", "dataset", tmp_path / "corpus")
    # A path that looks like text in `bytes` is no recording either.
    rows[0]["audio"]["bytes"] = str(tmp_path / "private.wav").encode()
    write_encoded(tmp_path / "corpus", rows, split="test")
    assert "row row0: not audio that can be read" in run_script("evaluate", "dataset", tmp_path / "corpus")
