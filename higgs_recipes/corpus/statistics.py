"""Measures of a corpus: its checked rows, its rejects, and the length of its rows in training."""

import json
import math
import statistics
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

from higgs_recipes.audio.codec import num_steps
from higgs_recipes.configs.corpus import EncodeConfig
from higgs_recipes.configs.measured_speeds import SETTINGS, find_speed
from higgs_recipes.constants import NUM_CODEBOOKS, SAMPLE_RATE
from higgs_recipes.corpus.corpus import sentence
from higgs_recipes.corpus.rows import CheckedRow, TaskRow
from higgs_recipes.rejects import Reject, RejectCode


FIRST = 5  # rows that a report shows of each kind
NUM_BINS = 24
LONG_EDGE = 0.5  # seconds of silence at an end of a clip; more is reported
RARE = 1 / 1000  # share of rows
OUTLIER = 3.0  # robust standard deviations
MIN_ROWS = 10  # rows of a language; with fewer, the spread of speaking rates is not known
BYTES_PER_TOKEN = 4  # bytes of UTF-8; measured for English with Llama 3's tokenizer, an estimate for other languages
# The fields of recipes/higgs-3b/voice_lora.yaml that the steps and the duration of an epoch depend on.
VOICE_LORA = {"pack_to": 8192, "gradient_checkpointing": True, "compile_layers": True}

INVISIBLE = {"Cc": "control", "Cf": "format", "Co": "private use", "Cn": "unassigned"}


def spread(values: Sequence[float], *, least_step: float = 0.0) -> dict[str, Any]:
    """Minimum, maximum, mean, median, 5th and 95th percentile of values, and their `histogram`."""
    ordered = sorted(values)
    last = len(ordered) - 1
    return {
        "least": ordered[0],
        "p5": ordered[round(0.05 * last)],
        "median": statistics.median(ordered),
        "mean": statistics.fmean(ordered),
        "p95": ordered[round(0.95 * last)],
        "most": ordered[-1],
        "histogram": histogram(ordered, least_step=least_step),
    }


def histogram(values: Sequence[float], *, least_step: float = 0.0) -> dict[str, Any]:
    """Counts in about `NUM_BINS` bins of width 1, 2 or 5 times a power of ten; bin i starts at start + i * step.

    >>> histogram([0.0, 1.0, 1.5, 30.0], least_step=10)
    {'start': 0, 'step': 10, 'counts': [3, 0, 0, 1]}
    """
    width = (max(values) - min(values)) / NUM_BINS
    scale = 10.0 ** math.floor(math.log10(width)) if width else 1.0
    step = max(least_step, next(scale * factor for factor in (1, 2, 5, 10) if scale * factor >= width))
    # 0.44 / 0.02 is slightly below 22 in floating point.
    bins = Counter(math.floor(value / step + 1e-9) for value in values)
    first = min(bins)
    return {"start": first * step, "step": step, "counts": [bins[index] for index in range(first, max(bins) + 1)]}


def sizes(rows: Iterable[CheckedRow], field: str) -> list[dict[str, Any]]:
    """{"name" (None if not given), "rows", "seconds"} of each value of a field, longest first."""
    seconds_by_name: dict[Any, list[float]] = defaultdict(list)
    for row in rows:
        seconds_by_name[row[field]].append(row["seconds"])
    found = [
        {"name": name, "rows": len(seconds), "seconds": sum(seconds)} for name, seconds in seconds_by_name.items()
    ]
    return sorted(found, key=lambda size: -size["seconds"])


def repeated(rows: Iterable[CheckedRow], key: Callable[[CheckedRow], Hashable]) -> list[list[str]]:
    """Ids of rows with the same key, in groups of two or more.

    >>> repeated([{"id": "a", "n": 1}, {"id": "b", "n": 2}, {"id": "c", "n": 1}], lambda row: row["n"])
    [['a', 'c']]
    """
    groups: dict[Hashable, list[str]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row["id"])
    return [group for group in groups.values() if len(group) > 1]


def same_words(row: CheckedRow) -> str:
    """Key of rows with the same words; case and punctuation are ignored."""
    return sentence(row["text"]) or row["text"]


def unusual_characters(texts: Sequence[str]) -> list[dict[str, Any]]:
    """{"code", "name", "kind", "rows"} of characters that are invisible, or in less than `RARE` of the texts.

    The tokenizer works on bytes and can represent all of them, but the model may not know how to speak them.

    >>> unusual_characters(["zero\\u200bwidth", "plain"])
    [{'code': 'U+200B', 'name': 'ZERO WIDTH SPACE', 'kind': 'format', 'rows': 1}]
    """
    num_rows = Counter(character for text in texts for character in set(text) - {"\n"})
    found = []
    for character, count in num_rows.items():
        kind = INVISIBLE.get(unicodedata.category(character))
        if character == "\ufffd":
            kind = "lost in decoding"
        elif kind is None and count < RARE * len(texts):
            kind = "rare"
        if kind:
            name = unicodedata.name(character, "no name")
            found.append({"code": f"U+{ord(character):04X}", "name": name, "kind": kind, "rows": count})
    return sorted(found, key=lambda entry: (entry["kind"] == "rare", entry["rows"], entry["code"]))


def speaking_rates(rows: Sequence[CheckedRow]) -> dict[str, Any]:
    """Characters per second, and the rows beyond `OUTLIER` robust deviations (1.4826 x the median deviation).

    Outliers are searched within each language: typical rates are 5 characters per second for Chinese and 15 for
    English.
    """
    by_language: dict[str | None, list[CheckedRow]] = defaultdict(list)
    for row in rows:
        by_language[row["language"]].append(row)
    languages, outliers, all_rates = [], [], []
    for language, own_rows in by_language.items():
        rates = [len(row["text"]) / row["seconds"] for row in own_rows]
        all_rates += rates
        median = statistics.median(rates)
        deviation = 1.4826 * statistics.median(abs(rate - median) for rate in rates)
        judged = len(own_rows) >= MIN_ROWS and deviation > 0
        languages.append({"language": language, "rows": len(own_rows), "median": median, "deviation": deviation})
        languages[-1]["judged"] = judged
        for row, rate in zip(own_rows, rates, strict=True):
            if judged and abs(rate - median) > OUTLIER * deviation:
                deviations = (rate - median) / deviation
                outliers.append({"id": row["id"], "rate": rate, "deviations": deviations, "seconds": row["seconds"]})
                outliers[-1]["text"] = row["text"][:200]
    outliers.sort(key=lambda row: -abs(row["deviations"]))
    return spread(all_rates) | {"languages": languages, "outliers": outliers}


def clipped(rows: Iterable[CheckedRow]) -> list[dict[str, Any]]:
    """{"id", "samples"} of rows with clipped samples, most first."""
    found = [{"id": row["id"], "samples": row["own"].levels.clipped} for row in rows if row["own"].levels.clipped]
    return sorted(found, key=lambda row: -row["samples"])


def silent_edged(rows: Iterable[CheckedRow]) -> list[dict[str, Any]]:
    """{"id", "start", "end"} of rows with more than `LONG_EDGE` seconds of silence at an end, longest first."""
    levels = [(row["id"], row["own"].levels) for row in rows]
    found = [
        {"id": row_id, "start": level.silent_start, "end": level.silent_end}
        for row_id, level in levels
        if max(level.silent_start, level.silent_end) > LONG_EDGE
    ]
    return sorted(found, key=lambda row: -(row["start"] + row["end"]))


def rejects_by_category(rejects: Iterable[Reject]) -> list[dict[str, Any]]:
    """{"reason" (the category), "rows", "first" (records)} of each category, most frequent first."""
    groups: dict[str, list[Reject]] = defaultdict(list)
    for reject in rejects:
        groups[reject.category].append(reject)
    counted = [
        {"reason": category, "rows": len(group), "first": [reject.record() for reject in group[:FIRST]]}
        for category, group in groups.items()
    ]
    return sorted(counted, key=lambda group: -group["rows"])


def dropped_by_filters(
    rejects: Sequence[Reject], not_sampled: Mapping[str, int], config: EncodeConfig
) -> list[dict[str, Any]]:
    """{"filter", "value", "rows"} of each field of the recipe that removes rows."""
    codes = Counter(reject.code for reject in rejects)
    counts = [
        ("min_seconds", config.min_seconds, codes[RejectCode.TOO_SHORT]),
        ("max_seconds", config.max_seconds, codes[RejectCode.TOO_LONG]),
        ("max_chars_per_second", config.max_chars_per_second, codes[RejectCode.TOO_MANY_CHARACTERS]),
    ]
    references = codes[RejectCode.NO_REFERENCE]
    if references or any("cloning" in task for task in config.tasks):
        span = f"{config.ref_min_seconds} to {config.ref_max_seconds}"
        counts.append(("ref_min_seconds, ref_max_seconds", span, references))
    if not_sampled:
        counts.append(("weights of sources", "", sum(not_sampled.values())))
    return [{"filter": name, "value": value, "rows": count} for name, value, count in counts]


def positions(row: TaskRow) -> dict[str, int]:
    """{"codes", "text", "text_at_most"}: positions of a row in training; the number of text tokens is an estimate.

    A clip of T steps takes T + C + 1 positions. Special tokens are counted; text is estimated at one token per
    `BYTES_PER_TOKEN` bytes, and at most one per byte.
    """
    codes = sum(num_steps(round(clip.seconds * SAMPLE_RATE)) + NUM_CODEBOOKS + 1 for clip in row["clips"])
    num_special, num_bytes = 1, 0
    for turn in json.loads(row["messages"]):
        num_special += 5  # the header of a turn and its end
        for item in turn["content"]:
            num_special += 2 * (item["type"] == "audio")
            num_bytes += len(item.get("text", "").encode("utf-8", "surrogatepass"))
    text = num_special + math.ceil(num_bytes / BYTES_PER_TOKEN)
    return {"codes": codes, "text": text, "text_at_most": num_special + num_bytes}


def epoch(num_positions: Sequence[int]) -> dict[str, Any]:
    """Steps and duration of an epoch over rows of these lengths, packed as in `VOICE_LORA`.

    The speed and the duration are None if the speed is not measured.
    """
    speed, total = find_speed(SETTINGS | VOICE_LORA), sum(num_positions)
    return {
        "pack_to": VOICE_LORA["pack_to"],
        "steps": math.ceil(total / VOICE_LORA["pack_to"]),
        "positions_per_second": None if speed is None else speed.positions_per_second,
        "seconds": None if speed is None else total / speed.positions_per_second,
        "hardware": None if speed is None else speed.hardware,
    }
