"""Render the record of a corpus check as a page. Names and texts are untrusted: all are escaped."""

from collections.abc import Sequence
from typing import Any

from higgs_recipes.corpus.report_summary import Record, cuts, epoch_cost, findings, hours, lead, name_of, visible
from higgs_recipes.pages import render_page


SHOWN = 10  # rows of a table; the record has all
MAX_CHARACTERS = 40
UNUSUAL = (
    "The tokenizer works on UTF-8 bytes, so it can represent any character. Unusual characters are invisible ones and "
    "those in fewer than 1 of 1,000 rows: the model may not know how to speak them."
)


def render_report(record: Record) -> str:
    """corpus_report.html, a single file that loads nothing from the network."""
    sources = ", ".join(source if isinstance(source, str) else source["path"] for source in record["sources"])
    return render_page(
        "corpus",
        finalize=_finalize,
        title=f"Corpus check: {sources}",
        lead=lead(record),
        findings=findings(record),
        sections=[{"note": "", "plots": [], "tables": [], "facts": []} | section for section in _sections(record)],
    )


def _finalize(value: Any) -> Any:
    return visible(value) if type(value) is str else value


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[Any]], *, note: str = "") -> dict[str, Any]:
    """A table for the template; columns of numbers are right-aligned."""
    numbers = [index for index, cell in enumerate(rows[0]) if isinstance(cell, (int, float))] if rows else []
    cells = [[_cell(cell) for cell in row] for row in rows]
    return {"title": title, "note": note, "head": head, "rows": cells, "numbers": numbers}


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:,.2f}"
    return f"{value:,}" if isinstance(value, int) else value


def _first_rows(
    title: str, head: Sequence[str], rows: Sequence[Sequence[Any]], *, limit: int = SHOWN
) -> dict[str, Any]:
    """A table of the first rows, with the number of all rows in its title."""
    note = f"The first {limit}; corpus_report.json has all." if len(rows) > limit else ""
    return _table(f"{title}: {len(rows):,}", head, rows[:limit], note=note)


def _groups(groups: Sequence[Sequence[str]]) -> list[tuple[int, str]]:
    return [(len(group), ", ".join([*group[:SHOWN], *["..."][: len(group) > SHOWN]])) for group in groups]


def _sections(record: Record) -> list[dict[str, Any]]:
    return [
        {"key": "rows", "title": "Rows", "tables": _row_tables(record)},
        {"key": "speakers", "title": "Speakers and languages", "tables": _speaker_tables(record)},
        {
            "key": "sound",
            "title": "Audio",
            "plots": [_plot("Duration of clips", record["durations"], unit="seconds", items="clips")],
            "tables": _audio_tables(record),
        },
        {
            "key": "text",
            "title": "Text",
            "plots": [
                _plot("Length of texts", record["text_lengths"], unit="characters", items="texts"),
                _plot("Speaking rate", record["speaking_rates"], unit="characters per second", items="rows"),
            ],
            "tables": _text_tables(record),
        },
        {"key": "tasks", "title": "Splits and tasks", "tables": _task_tables(record)},
        {
            "key": "cost",
            "title": "Cost of an epoch",
            "note": epoch_cost(record)
            + ". Codes are counted. Text is estimated at one token per four bytes of UTF-8, because the model's "
            "tokenizer is not used here; the maximum is one token per byte. The speed depends on GPU and batch size.",
            "plots": [
                _plot("Length of rows, train", record["splits"]["train"]["lengths"], unit="positions", items="rows")
            ],
            "tables": _cost_tables(record),
        },
        {"key": "method", "title": "Method", "facts": _facts(record)},
    ]


def _row_tables(record: Record) -> list[dict[str, Any]]:
    first = [
        (group["reason"] if not index else "", group["rows"] if not index else "", reject["file"], reject["row"])
        + (reject["id"] or "", reject["reason"])
        for group in record["rejects"]
        for index, reject in enumerate(group["first"])
    ]
    tables = [
        _table(
            f"Rejected: {record['rejected']:,}",
            ["category", "rows", "corpus", "row", "id", "first reasons"],
            first,
            note="Rows count from 0. Encoding writes all rejects to rejects.jsonl.",
        ),
        _table(
            "Rows removed by filters",
            ["field", "value", "rows"],
            [(effect["filter"], str(effect["value"]), effect["rows"]) for effect in record["filters"]],
        ),
    ]
    if record["not_drawn"]:
        tables.append(_table("Left out by weights", ["corpus", "rows"], list(record["not_drawn"].items())))
    return tables


def _speaker_tables(record: Record) -> list[dict[str, Any]]:
    tables = []
    for title in ("speakers", "languages"):
        rows = [(name_of(size), size["rows"], hours(size["seconds"])) for size in record[title]]
        head, few = [title[:-1], "rows", "duration"], len(rows) <= 2 * SHOWN
        tables.append(_table(f"{title.capitalize()}: {len(rows):,}", head, rows if few else rows[:SHOWN]))
        if not few:
            tables.append(_table(f"Smallest {SHOWN}", head, rows[-SHOWN:]))
    return tables


def _audio_tables(record: Record) -> list[dict[str, Any]]:
    clipped = [(row["id"], row["samples"]) for row in record["clipped"]]
    edges = [(row["id"], row["start"], row["end"]) for row in record["silent_edges"]]
    clipping = _first_rows("Clipped", ["row", "samples"], clipped)
    clipping["note"] += (
        " Three or more samples in a row at full scale; clips that were made quieter afterwards are not detected."
    )
    silence = _first_rows("Silence at an end", ["row", "start, s", "end, s"], edges)
    silence["note"] += " More than 0.5 s that is 40 dB below the loudest 20 ms; louder noise is not detected."
    return [
        _table("Sample rates", ["Hz", "rows"], [(size["rate"], size["rows"]) for size in record["sample_rates"]]),
        clipping,
        silence,
        _first_rows("Same audio", ["rows", "ids"], _groups(record["same_sound"])),
    ]


def _text_tables(record: Record) -> list[dict[str, Any]]:
    rates, characters = record["speaking_rates"], record["unusual_characters"]
    languages = [
        (rate["language"] or "not given", rate["rows"], rate["median"], rate["deviation"])
        + ("yes" if rate["judged"] else "no: too few rows, or no spread",)
        for rate in rates["languages"]
    ]
    outliers = [
        (row["id"], row["rate"], f"{row['deviations']:+.1f}", row["seconds"], row["text"]) for row in rates["outliers"]
    ]
    head = ["row", "characters/s", "deviations", "seconds", "text"]
    unusual = [
        (character["code"], character["name"], character["kind"], character["rows"]) for character in characters
    ]
    character_table = _first_rows(
        "Unusual characters", ["code", "name", "kind", "rows"], unusual, limit=MAX_CHARACTERS
    )
    character_table["note"] += f" {record['characters']:,} different characters in total. {UNUSUAL}"
    return [
        _table(
            "Speaking rate by language",
            ["language", "rows", "median", "robust deviation", "outliers searched"],
            languages,
        ),
        _first_rows("More than 3 robust deviations from the median", head, outliers),
        character_table,
        _first_rows("Not in Unicode NFC", ["row"], [(row_id,) for row_id in record["not_composed"]]),
        _first_rows("Same words", ["rows", "ids"], _groups(record["same_text"])),
    ]


def _task_tables(record: Record) -> list[dict[str, Any]]:
    weights = record["tasks"]
    rows = [
        (name, task, split["tasks"].get(task, 0), f"{split['tasks'].get(task, 0) / split['rows']:.1%}")
        + (f"{weights[task]:.1%}" if task in weights else "only rows that name it",)
        for name, split in record["splits"].items()
        for task in dict.fromkeys((*weights, *split["tasks"]))
    ]
    sizes = [(name, split["rows"], hours(split["seconds"]), cuts(split)) for name, split in record["splits"].items()]
    note = (
        "A dialogue replaces the utterances that it is joined from, so its share of rows is smaller than its weight. "
        "Rows that name their task are included."
    )
    return [
        _table("Splits", ["split", "rows", "duration", "too long"], sizes),
        _table("Tasks", ["split", "task", "rows", "share", "weight"], rows, note=note),
    ]


def _cost_tables(record: Record) -> list[dict[str, Any]]:
    rows = [
        (
            name,
            split["positions"]["codes"],
            split["positions"]["text"],
            split["positions"]["text_at_most"],
            split["longest"]["positions"],
            split["longest"]["id"],
        )
        for name, split in record["splits"].items()
    ]
    return [_table("Positions", ["split", "codes", "text", "text at most", "longest row", "its id"], rows)]


def _facts(record: Record) -> list[tuple[str, str]]:
    recipe = [(field, str(value)) for field, value in record["recipe"].items() if value is not None]
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items() if version)
    return [*recipe, ("commit", record["git_commit"] or "not recorded"), ("versions", versions)]


def _plot(title: str, spread: Record, *, unit: str, items: str) -> dict[str, Any]:
    """The bars of a histogram in the coordinates of the template: x from 50 to 550, y from 260 up to 40."""
    start, step, counts = (spread["histogram"][name] for name in ("start", "step", "counts"))
    width, top = 500 / len(counts), max(counts)
    bars, ticks = [], []
    tick_step = -(-len(counts) // 8)
    for index, count in enumerate(counts):
        left, height = 50 + index * width, 220 * count / top
        edges = f"{start + index * step:,.4g} to {start + (index + 1) * step:,.4g}"
        if count:
            bars.append({"x": round(left, 1), "y": round(260 - height, 1), "label": f"{edges} {unit}: {count:,}"})
            bars[-1] |= {"width": round(max(width - 1, 0.5), 1), "height": round(height, 1)}
        if index % tick_step == 0:
            ticks.append({"x": round(left, 1), "label": f"{start + index * step:,.4g}"})
    caption = (
        f"{spread['least']:,.4g} to {spread['most']:,.4g} {unit}, median {spread['median']:,.4g}; 90 % of {items} "
        f"have {spread['p5']:,.4g} to {spread['p95']:,.4g}."
    )
    lines = [{"y": 260, "label": "0"}, {"y": 40, "label": f"{top:,}"}]
    return {"title": title, "caption": caption, "unit": unit, "bars": bars, "ticks": ticks, "lines": lines}
