"""Data folders of Kaldi: wav.scp and text; optional segments, utt2spk, spk2gender and utt2lang."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from higgs_recipes.corpus.sources.paths import SourceFolder
from higgs_recipes.ingest.formats.lines import read_table
from higgs_recipes.ingest.rows import ImportRow
from higgs_recipes.rejects import Reject, RejectCode, RejectedRow


Table = Mapping[str, Mapping[str, Any]]  # the lines of a file by key


def read_kaldi(source: Path, folder: SourceFolder) -> Iterator[ImportRow | Reject]:
    """Yield a row or a reject for each utterance in `text`, and a reject for each recording without a transcript.

    Segments are sorted by recording and time, so that each recording is read once. Relative paths in wav.scp are
    relative to the source's folder or audio_dir; Kaldi's own are relative to the folder where it runs.
    """
    texts, text_rejects = read_table(source / "text")
    recordings, recording_rejects = read_table(source / "wav.scp")
    names = ("segments", "utt2spk", "spk2gender", "utt2lang")
    optional = {name: read_table(source / name) if (source / name).is_file() else ({}, []) for name in names}
    tables: dict[str, Table] = {name: table for name, (table, _) in optional.items()}
    # Also if all of segments is rejected: whole recordings are not clips then.
    locate = _segment if any(optional["segments"]) else _recording
    rows: list[ImportRow] = []
    rejects: list[Reject] = []
    for name, line in texts.items():
        place = {"file": line["file"], "line": line["line"], "id": name}
        speaker = _value(tables["utt2spk"], name)
        row = place | {"text": line["value"], "speaker": speaker, "language": _value(tables["utt2lang"], name)}
        row["gender"] = _value(tables["spk2gender"], speaker)
        try:
            rows.append(row | locate(name, tables["segments"], recordings))
        except RejectedRow as error:
            rejects.append(error.reject.at(place))
    order: dict[str, int] = {}
    for row in rows:
        order.setdefault(row["audio"], len(order))
    yield from sorted(rows, key=lambda row: (order[row["audio"]], row.get("segment", (0.0,))[0]))
    yield from rejects + text_rejects

    used = {line["value"].split()[0] for line in tables["segments"].values()} or set(texts)
    for name, line in recordings.items():
        if name not in used:
            without_text = Reject(RejectCode.NO_TRANSCRIPT, "text")
            yield without_text.at({"file": line["file"], "line": line["line"], "id": name})
    yield from recording_rejects
    for _, table_rejects in optional.values():
        yield from table_rejects


def _value(table: Table, key: str | None) -> str | None:
    return table[key]["value"] if key in table else None


def _recording(name: str, _: Table, recordings: Table) -> ImportRow:
    path = _value(recordings, name)
    if path is None:
        raise RejectedRow(RejectCode.NO_RECORDING, "audio", f"wav.scp has no {name}")
    if path.endswith("|"):
        raise RejectedRow(RejectCode.COMMAND, "audio", "commands are not run: write the output to a file")
    return {"audio": path}


def _segment(name: str, segments: Table, recordings: Table) -> ImportRow:
    value = _value(segments, name)
    if value is None:
        raise RejectedRow(RejectCode.NO_SEGMENT, "segment", "not in segments")
    recording, *numbers = value.split()
    channel = numbers[2] if len(numbers) == 3 and numbers[2] != "-1" else None
    try:
        start, end = map(float, numbers[:2] if len(numbers) == 3 else numbers)
    except ValueError as error:
        detail = f"{value!r} is not recording, start and end in seconds, and optionally a channel"
        raise RejectedRow(RejectCode.NO_SEGMENT, "segment", detail) from error
    if not (0 <= start < math.inf and (end == -1 or start < end < math.inf)):
        raise RejectedRow(RejectCode.NO_SEGMENT, "segment", f"it starts at {start} s and ends at {end} s")
    segment = (start, None if end == -1 else end)  # -1 is the end of the recording
    return _recording(recording, segments, recordings) | {"segment": segment, "channel": channel}
