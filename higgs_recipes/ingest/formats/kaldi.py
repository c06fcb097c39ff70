"""Kaldi's data folders: wav.scp and text, and where they are there segments, utt2spk, spk2gender, utt2lang."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from higgs_recipes.errors import InputError
from higgs_recipes.ingest.formats.lines import Row, read_table


def read_kaldi(source: Path) -> Iterator[Row]:
    """A row for each utterance of `text`, a reject for each without a recording and for each recording without a text.

    Relative paths in wav.scp start at the source's folder or audio_dir; for Kaldi they start where it is run.
    """
    texts, recordings = read_table(source / "text"), read_table(source / "wav.scp")
    tables = {name: _optional(source / name) for name in ("segments", "utt2spk", "spk2gender", "utt2lang")}
    for name, line in texts.items():
        row = {"file": line["file"], "line": line["line"], "id": line.get("key")}
        try:
            _require(line)
            speaker = _value(tables["utt2spk"], name)
            row |= {"text": line["value"], "speaker": speaker, "language": _value(tables["utt2lang"], name)}
            row["gender"] = _value(tables["spk2gender"], speaker)
            yield row | (_segment if tables["segments"] else _recording)(name, tables["segments"], recordings)
        except InputError as error:
            yield row | {"reason": str(error)}

    used = {line["value"].split()[0] for line in tables["segments"].values() if "reason" not in line} or set(texts)
    for table in (recordings, *tables.values()):
        for name, line in table.items():
            if table is recordings and "reason" not in line and name not in used:
                line = line | {"reason": "recording without a text"}
            if "reason" in line:
                yield {"id": line.get("key")} | {key: line[key] for key in ("file", "line", "reason")}


def _optional(path: Path) -> dict[str, Row]:
    return read_table(path) if path.is_file() else {}


def _require(line: Row) -> None:
    if "reason" in line:
        raise InputError(line["reason"])


def _value(table: Mapping[str, Row], key: str | None) -> str | None:
    return table[key]["value"] if key in table else None


def _recording(name: str, _: Mapping[str, Row], recordings: Mapping[str, Row]) -> Row:
    path = _value(recordings, name)
    if path is None:
        raise InputError(f"no recording: wav.scp has no {name}")
    if path.endswith("|"):
        raise InputError("recording by a command; it is not run: write its output to a file")
    return {"audio": path}


def _segment(name: str, segments: Mapping[str, Row], recordings: Mapping[str, Row]) -> Row:
    value = _value(segments, name)
    if value is None:
        raise InputError("no segment: segments has no line for it")
    try:
        recording, start, end = value.split()
        span = float(start), float(end)
    except ValueError as error:
        raise InputError(f"no segment: {value!r} is not recording, start and end in seconds") from error
    if not 0 <= span[0] < span[1]:
        raise InputError(f"no segment: it starts at {start} s and ends at {end} s")
    return _recording(recording, segments, recordings) | {"segment": span}
