"""Encoded corpora made of rows, for tests that damage them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from higgs_recipes.chatml import TASKS, conversation
from higgs_recipes.constants import FRAMES_PER_SECOND
from higgs_recipes.corpus.encoded import shard_features


SCHEMA = shard_features(num_codebooks=8).arrow_schema
_, CLONING, DIALOGUE, DIALOGUE_CLONING = TASKS


def encoded_rows(num_rows: int, *, codec: str = "user/codec@abc", num_steps: int = 10) -> list[dict[str, Any]]:
    """Rows of the four tasks in turn with random codes; each is a step longer than the one before."""
    rng = np.random.default_rng(0)
    return [_row(index, TASKS[index % 4], codec, num_steps + index, rng) for index in range(num_rows)]


def _row(index: int, task: str, codec: str, num_steps: int, rng: np.random.Generator) -> dict[str, Any]:
    text = f"Sentence {index}, naïve."
    row = {"id": f"row{index}", "audio": f"{index}.wav", "text": text, "scene": "A quiet room." if index % 3 else None}
    speakers: list[str | None] = []
    num_references = 0
    if task == CLONING:
        row |= {"ref_audio": "ref.wav", "ref_text": "Words."}
        num_references = 1
    if task in (DIALOGUE, DIALOGUE_CLONING):
        row["text"] = f"[SPEAKER0] {text}\n[SPEAKER1] Yes."
        speakers = ["anna", None]
    if task == DIALOGUE_CLONING:
        tags = [{"speaker_tag": tag, "ref_audio": "ref.wav", "ref_text": "Words."} for tag in ("SPEAKER0", "SPEAKER1")]
        row["ref_speakers"] = tags
        num_references = 2
    messages = conversation(row, task=task, ref_in_system=task == CLONING and index % 8 == 1)
    return {
        **{name: row[name] for name in ("id", "text", "scene")},
        "raw_text": row["text"],
        "speaker": None if speakers else "anna",
        "language": "en",
        "task": task,
        "messages": json.dumps(messages, ensure_ascii=False),
        "codec": codec,
        "content_hash": f"{index:032x}",
        "codes": rng.integers(0, 1024, (num_steps, 8)).tolist(),
        "ref_codes": [rng.integers(0, 1024, (5, 8)).tolist() for _ in range(num_references)],
        "ref_texts": ["Words."] * num_references,
        "turn_speakers": speakers,
        "seconds": num_steps / FRAMES_PER_SECOND - 0.01,
        "audio": None,
    }


def write_encoded(
    folder: Path,
    rows: Sequence[dict[str, Any]] | pa.Table,
    *,
    split: str = "train",
    num_files: int = 1,
    **options: Any,
) -> Path:
    """Write rows as a split of an encoded corpus without corpus.json; `options` are those of pyarrow's writer."""
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(list(rows), schema=SCHEMA)
    (folder / "data").mkdir(parents=True, exist_ok=True)
    size = -(-len(table) // num_files)
    for index in range(num_files):
        path = folder / f"data/{split}-{index:05d}-of-{num_files:05d}.parquet"
        pq.write_table(table.slice(index * size, size), path, **options)
    return folder


def write_record(folder: Path, rows: Sequence[dict[str, Any]], *, split: str = "train", **changes: Any) -> None:
    """Write the corpus.json of a split."""
    size = {"rows": len(rows), "seconds": round(sum(row["seconds"] for row in rows), 2)}
    (folder / "corpus.json").write_text(json.dumps({"splits": {split: size | changes}}))
