"""The record of a corpus's check as a page. Names and texts come from anywhere: all are escaped."""

from collections.abc import Sequence
from typing import Any

from higgs_recipes.corpus.report_summary import Record, cuts, epoch_cost, findings, hours, lead, name_of, visible
from higgs_recipes.pages import render_page


SHOWN = 10  # rows of a table; the record has them all
MOST_CHARACTERS = 40
REACH = (
    "The model's tokenizer works on the bytes of UTF-8, so no character is out of its reach. Unusual are those that "
    "nobody sees, and those in fewer than 1 of 1,000 rows: whether the model can speak them, no table tells."
)


def render_report(record: Record) -> str:
    """corpus_report.html: one file that needs no network."""
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
    """Columns of numbers stand to the right. Of more rows than are shown, the title says so."""
    numbers = [index for index, cell in enumerate(rows[0]) if isinstance(cell, (int, float))] if rows else []
    cells = [[_cell(cell) for cell in row] for row in rows]
    return {"title": title, "note": note, "head": head, "rows": cells, "numbers": numbers}


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:,.2f}"
    return f"{value:,}" if isinstance(value, int) else value


def _listed(title: str, head: Sequence[str], rows: Sequence[Sequence[Any]], *, most: int = SHOWN) -> dict[str, Any]:
    """A table of the first rows, which says how many there are; none is said too."""
    some = f"The first {most}; corpus_report.json has all." if len(rows) > most else ""
    return _table(f"{title}: {len(rows):,}", head, rows[:most], note=some)


def _groups(groups: Sequence[Sequence[str]]) -> list[tuple[int, str]]:
    return [(len(group), ", ".join([*group[:SHOWN], *["..."][: len(group) > SHOWN]])) for group in groups]


def _sections(record: Record) -> list[dict[str, Any]]:
    return [
        {"key": "rows", "title": "Rows", "tables": _row_tables(record)},
        {"key": "speakers", "title": "Speakers and languages", "tables": _speaker_tables(record)},
        {
            "key": "sound",
            "title": "Sound",
            "plots": [_plot("Length of clips", record["durations"], unit="seconds", what="clips")],
            "tables": _sound_tables(record),
        },
        {
            "key": "text",
            "title": "Text",
            "plots": [
                _plot("Length of texts", record["text_lengths"], unit="characters", what="texts"),
                _plot("Speaking rate", record["speaking_rates"], unit="characters a second", what="rows"),
            ],
            "tables": _text_tables(record),
        },
        {"key": "tasks", "title": "Splits and tasks", "tables": _task_tables(record)},
        {
            "key": "cost",
            "title": "What an epoch costs",
            "note": epoch_cost(record)
            + ". Codes are counted; text is an estimate, one token for four bytes of UTF-8, as without the "
            "model's tokenizer it cannot be known; at most it is one a byte. Your GPU and batch have another speed.",
            "plots": [
                _plot("Length of rows, train", record["splits"]["train"]["lengths"], unit="positions", what="rows")
            ],
            "tables": _cost_tables(record),
        },
        {"key": "method", "title": "How it was measured", "facts": _facts(record)},
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
            ["reason", "rows", "corpus", "row", "id", "the first of them"],
            first,
            note="A row counts from 0. Encoding writes all of them to rejects.jsonl.",
        ),
        _table(
            "What the recipe's filters drop",
            ["field", "value", "rows"],
            [(each["filter"], str(each["value"]), each["rows"]) for each in record["filters"]],
        ),
    ]
    if record["not_drawn"]:
        tables.append(_table("Left out by weights", ["corpus", "rows"], list(record["not_drawn"].items())))
    return tables


def _speaker_tables(record: Record) -> list[dict[str, Any]]:
    tables = []
    for title in ("speakers", "languages"):
        rows = [(name_of(size), size["rows"], hours(size["seconds"])) for size in record[title]]
        head, few = [title[:-1], "rows", "time"], len(rows) <= 2 * SHOWN
        tables.append(_table(f"{title.capitalize()}: {len(rows):,}", head, rows if few else rows[:SHOWN]))
        if not few:
            tables.append(_table(f"The smallest {SHOWN}", head, rows[-SHOWN:]))
    return tables


def _sound_tables(record: Record) -> list[dict[str, Any]]:
    clipped = [(row["id"], row["samples"]) for row in record["clipped"]]
    edges = [(row["id"], row["start"], row["end"]) for row in record["silent_edges"]]
    clipping = _listed("Clipped", ["row", "samples"], clipped)
    clipping["note"] += " Three samples or more in a row at full scale; a clip made quieter afterwards is not found."
    silence = _listed("Silent at an end", ["row", "start, s", "end, s"], edges)
    silence["note"] += " More than 0.5 s that is 40 dB below the loudest 20 ms; louder noise is not found."
    return [
        _table("Sample rates", ["Hz", "rows"], [(each["rate"], each["rows"]) for each in record["sample_rates"]]),
        clipping,
        silence,
        _listed("The same sound", ["rows", "ids"], _groups(record["same_sound"])),
    ]


def _text_tables(record: Record) -> list[dict[str, Any]]:
    rates, characters = record["speaking_rates"], record["unusual_characters"]
    languages = [
        (each["language"] or "not given", each["rows"], each["median"], each["deviation"])
        + ("yes" if each["judged"] else "no: too few rows, or all alike",)
        for each in rates["languages"]
    ]
    outliers = [
        (row["id"], row["rate"], f"{row['deviations']:+.1f}", row["seconds"], row["text"]) for row in rates["outliers"]
    ]
    head = ["row", "characters/s", "deviations", "seconds", "text"]
    unusual = [(each["code"], each["name"], each["kind"], each["rows"]) for each in characters]
    odd = _listed("Unusual characters", ["code", "name", "kind", "rows"], unusual, most=MOST_CHARACTERS)
    odd["note"] += f" {record['characters']:,} different characters in all. {REACH}"
    return [
        _table("Speaking rate by language", ["language", "rows", "median", "robust deviation", "judged"], languages),
        _listed("More than 3 robust deviations off", head, outliers),
        odd,
        _listed("Letters and accents apart (not NFC)", ["row"], [(row_id,) for row_id in record["not_composed"]]),
        _listed("The same words", ["rows", "ids"], _groups(record["same_text"])),
    ]


def _task_tables(record: Record) -> list[dict[str, Any]]:
    asked = record["tasks"]
    rows = [
        (split, task, taught["tasks"].get(task, 0), f"{taught['tasks'].get(task, 0) / taught['rows']:.1%}")
        + (f"{asked[task]:.1%}" if task in asked else "by rows that name it",)
        for split, taught in record["splits"].items()
        for task in dict.fromkeys((*asked, *taught["tasks"]))
    ]
    sizes = [
        (split, taught["rows"], hours(taught["seconds"]), cuts(taught)) for split, taught in record["splits"].items()
    ]
    note = (
        "A dialogue takes the place of the utterances that it is joined from, so its share of rows is smaller. Rows "
        "that name their task are counted too, and not drawn."
    )
    return [
        _table("Splits", ["split", "rows", "time", "too long"], sizes),
        _table("Tasks", ["split", "task", "rows", "share", "asked for"], rows, note=note),
    ]


def _cost_tables(record: Record) -> list[dict[str, Any]]:
    rows = [
        (
            split,
            each["codes"],
            each["text"],
            each["text_at_most"],
            taught["longest"]["positions"],
            taught["longest"]["id"],
        )
        for split, taught in record["splits"].items()
        for each in [taught["positions"]]
    ]
    return [_table("Positions", ["split", "codes", "text", "text at most", "longest row", "which"], rows)]


def _facts(record: Record) -> list[tuple[str, str]]:
    recipe = [(field, str(value)) for field, value in record["recipe"].items() if value is not None]
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items() if version)
    return [*recipe, ("commit", record["git_commit"] or "not recorded"), ("versions", versions)]


def _plot(title: str, spread: Record, *, unit: str, what: str) -> dict[str, Any]:
    """A histogram's bars in the template's box: 50 to 550 across, 260 up to 40."""
    start, step, counts = (spread["histogram"][name] for name in ("start", "step", "counts"))
    width, top = 500 / len(counts), max(counts)
    bars, ticks = [], []
    every = -(-len(counts) // 8)
    for index, count in enumerate(counts):
        left, height = 50 + index * width, 220 * count / top
        edges = f"{start + index * step:,.4g} to {start + (index + 1) * step:,.4g}"
        if count:
            bars.append({"x": round(left, 1), "y": round(260 - height, 1), "label": f"{edges} {unit}: {count:,}"})
            bars[-1] |= {"width": round(max(width - 1, 0.5), 1), "height": round(height, 1)}
        if index % every == 0:
            ticks.append({"x": round(left, 1), "label": f"{start + index * step:,.4g}"})
    caption = (
        f"{spread['least']:,.4g} to {spread['most']:,.4g} {unit}, median {spread['median']:,.4g}; 9 in 10 {what} have "
        f"{spread['p5']:,.4g} to {spread['p95']:,.4g}."
    )
    lines = [{"y": 260, "label": "0"}, {"y": 40, "label": f"{top:,}"}]
    return {"title": title, "caption": caption, "unit": unit, "bars": bars, "ticks": ticks, "lines": lines}
