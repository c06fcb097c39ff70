"""Text files of a corpus: tables of keys and values, and transcripts."""

from pathlib import Path
from typing import Any

from higgs_recipes.corpus.sources.lines import decode, parse_lines, raw_lines
from higgs_recipes.rejects import Reject, RejectCode, RejectedRow


def read_table(path: Path) -> tuple[dict[str, dict[str, Any]], list[Reject]]:
    """Read a file of lines `key value`.

    Returns:
        The lines as {"file", "line", "key", "value"} by key, and the rejected lines. Of lines with the same key, the
        first is kept; the others are rejected with the key as their id.
    """
    table: dict[str, dict[str, Any]] = {}
    rejects: list[Reject] = []
    for row in parse_lines(path, _key_and_value):
        if isinstance(row, Reject):
            rejects.append(row.at({"id": None, **row.columns}))
        elif row["key"] in table:
            key = row["key"]
            duplicate = Reject(
                RejectCode.DUPLICATE_ID, "id", f"line {table[key]['line']} of {path.name} has {key} too"
            )
            rejects.append(duplicate.at({"id": key, "file": row["file"], "line": row["line"]}))
        else:
            table[row["key"]] = row
    return table, rejects


def read_text(path: Path) -> str:
    """Read a file without its byte order mark and without carriage returns at the ends of lines.

    Raises:
        RejectedRow: no such file, or not UTF-8; names the file and the line.
    """
    numbered = enumerate(raw_lines(path), start=1)
    return "\n".join(decode(raw, where=f"; line {number} of {path}").rstrip("\r\n") for number, raw in numbered)


def _key_and_value(text: str) -> dict[str, Any]:
    key, _, value = text.strip().partition(" ")
    if "\t" in key:
        key, _, value = text.strip().partition("\t")
    if not value.strip():
        raise RejectedRow(RejectCode.WRONG_CELLS, detail=f"one cell: no value for {key}")
    return {"key": key, "value": value.strip()}
