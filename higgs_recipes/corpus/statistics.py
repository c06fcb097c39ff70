"""What is in a corpus, in numbers: pure measures of its checked rows, its rejects and of what its rows teach."""

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
LONG_EDGE = 0.5  # seconds of silence at an end of a clip that the model would learn to speak
RARE = 1 / 1000  # share of rows
OUTLIER = 3.0  # robust standard deviations
LEAST_JUDGED = 10  # rows of a language; of fewer the spread is not known
BYTES_PER_TOKEN = 4  # of UTF-8; what Llama 3's tokenizer makes of English, and an estimate for all else
# What of recipes/higgs-3b/voice_lora.yaml an epoch's steps and time hang on.
VOICE_LORA = {"pack_to": 8192, "gradient_checkpointing": True, "compile_layers": True}

UNSEEN = {"Cc": "control", "Cf": "format", "Co": "private use", "Cn": "unassigned", "Cs": "half of a surrogate pair"}


def spread(values: Sequence[float], *, least_step: float = 0.0) -> dict[str, Any]:
    """Least, most, mean, median, 5th and 95th percentile of some values, and their `histogram`."""
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
    """Counts in about `NUM_BINS` bins whose width is 1, 2 or 5 times a power of ten; count i begins at start + i step.

    >>> histogram([0.0, 1.0, 1.5, 30.0], least_step=10)
    {'start': 0, 'step': 10, 'counts': [3, 0, 0, 1]}
    """
    width = (max(values) - min(values)) / NUM_BINS
    scale = 10.0 ** math.floor(math.log10(width)) if width else 1.0
    step = max(least_step, next(scale * factor for factor in (1, 2, 5, 10) if scale * factor >= width))
    # 0.44 / 0.02 is not quite 22.
    bins = Counter(math.floor(value / step + 1e-9) for value in values)
    first = min(bins)
    return {"start": first * step, "step": step, "counts": [bins[each] for each in range(first, max(bins) + 1)]}


def sizes(rows: Iterable[CheckedRow], field: str) -> list[dict[str, Any]]:
    """{"name" (None: the rows have none), "rows", "seconds"} of each value of a field, the longest first."""
    found: dict[Any, list[float]] = defaultdict(list)
    for row in rows:
        found[row[field]].append(row["seconds"])
    named = [{"name": name, "rows": len(each), "seconds": sum(each)} for name, each in found.items()]
    return sorted(named, key=lambda size: -size["seconds"])


def repeated(rows: Iterable[CheckedRow], key: Callable[[CheckedRow], Hashable]) -> list[list[str]]:
    """The ids of rows that share a key, in groups of two or more.

    >>> repeated([{"id": "a", "n": 1}, {"id": "b", "n": 2}, {"id": "c", "n": 1}], lambda row: row["n"])
    [['a', 'c']]
    """
    groups: dict[Hashable, list[str]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row["id"])
    return [group for group in groups.values() if len(group) > 1]


def same_words(row: CheckedRow) -> str:
    """What rows of one sentence share, whatever its case and punctuation."""
    return sentence(row["text"]) or row["text"]


def unusual_characters(texts: Sequence[str]) -> list[dict[str, Any]]:
    """{"code", "name", "kind", "rows"} of characters that nobody sees, or that less than `RARE` of the texts have.

    None is out of a tokenizer's reach that works on bytes; these are those that the model may not know how to speak.

    >>> unusual_characters(["zero\\u200bwidth", "plain"])
    [{'code': 'U+200B', 'name': 'ZERO WIDTH SPACE', 'kind': 'format', 'rows': 1}]
    """
    num_rows = Counter(character for text in texts for character in set(text) - {"\n"})
    found = []
    for character, count in num_rows.items():
        kind = UNSEEN.get(unicodedata.category(character))
        if character == "\ufffd":
            kind = "lost in decoding"
        elif kind is None and count < RARE * len(texts):
            kind = "rare"
        if kind:
            name = unicodedata.name(character, "no name")
            found.append({"code": f"U+{ord(character):04X}", "name": name, "kind": kind, "rows": count})
    return sorted(found, key=lambda each: (each["kind"] == "rare", each["rows"], each["code"]))


def speaking_rates(rows: Sequence[CheckedRow]) -> dict[str, Any]:
    """Characters a second, and the rows beyond `OUTLIER` robust deviations (1.4826 x the median deviation).

    Each language is judged by itself: a second holds 5 characters of Chinese and 15 of English.
    """
    by_language: dict[str | None, list[CheckedRow]] = defaultdict(list)
    for row in rows:
        by_language[row["language"]].append(row)
    languages, outliers = [], []
    for language, mine in by_language.items():
        rates = [len(row["text"]) / row["seconds"] for row in mine]
        median = statistics.median(rates)
        deviation = 1.4826 * statistics.median(abs(rate - median) for rate in rates)
        judged = len(mine) >= LEAST_JUDGED and deviation > 0
        languages.append({"language": language, "rows": len(mine), "median": median, "deviation": deviation})
        languages[-1]["judged"] = judged
        for row, rate in zip(mine, rates, strict=True):
            if judged and abs(rate - median) > OUTLIER * deviation:
                off = (rate - median) / deviation
                outliers.append({"id": row["id"], "rate": rate, "deviations": off, "seconds": row["seconds"]})
                outliers[-1]["text"] = row["text"][:200]
    outliers.sort(key=lambda row: -abs(row["deviations"]))
    rates = [len(row["text"]) / row["seconds"] for row in rows]
    return spread(rates) | {"languages": languages, "outliers": outliers}


def clipped(rows: Iterable[CheckedRow]) -> list[dict[str, Any]]:
    """{"id", "samples"} of rows with flat tops, the worst first."""
    found = [{"id": row["id"], "samples": row["own"].levels.clipped} for row in rows if row["own"].levels.clipped]
    return sorted(found, key=lambda row: -row["samples"])


def silent_edged(rows: Iterable[CheckedRow]) -> list[dict[str, Any]]:
    """{"id", "start", "end"} of rows with more than `LONG_EDGE` seconds of silence at an end, the longest first."""
    levels = [(row["id"], row["own"].levels) for row in rows]
    found = [
        {"id": row_id, "start": each.silent_start, "end": each.silent_end}
        for row_id, each in levels
        if max(each.silent_start, each.silent_end) > LONG_EDGE
    ]
    return sorted(found, key=lambda row: -(row["start"] + row["end"]))


def rejects_by_category(rejects: Iterable[Reject]) -> list[dict[str, Any]]:
    """{"reason" (the category), "rows", "first"} of each category, the commonest first; `first` has records."""
    groups: dict[str, list[Reject]] = defaultdict(list)
    for reject in rejects:
        groups[reject.category].append(reject)
    counted = [
        {"reason": category, "rows": len(group), "first": [reject.record() for reject in group[:FIRST]]}
        for category, group in groups.items()
    ]
    return sorted(counted, key=lambda group: -group["rows"])


def dropped_by_filters(
    rejects: Sequence[Reject], not_drawn: Mapping[str, int], config: EncodeConfig
) -> list[dict[str, Any]]:
    """{"filter", "value", "rows"} of each field of the recipe that drops rows."""
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
    if not_drawn:
        counts.append(("weights of sources", "", sum(not_drawn.values())))
    return [{"filter": name, "value": value, "rows": count} for name, value, count in counts]


def positions(row: TaskRow) -> dict[str, int]:
    """{"codes", "text", "text_at_most"}: what a laid-out row takes in training; the text's tokens are an estimate.

    A clip of T steps takes T + C + 1. Marks are counted; the words are taken for a token in `BYTES_PER_TOKEN` bytes,
    and are at most a token a byte.
    """
    codes = sum(num_steps(round(clip.seconds * SAMPLE_RATE)) + NUM_CODEBOOKS + 1 for clip in row["clips"])
    num_marks, num_bytes = 1, 0
    for turn in json.loads(row["messages"]):
        num_marks += 5  # the head of a turn and its end
        for item in turn["content"]:
            num_marks += 2 * (item["type"] == "audio")
            num_bytes += len(item.get("text", "").encode("utf-8", "surrogatepass"))
    text = num_marks + math.ceil(num_bytes / BYTES_PER_TOKEN)
    return {"codes": codes, "text": text, "text_at_most": num_marks + num_bytes}


def epoch(num_positions: Sequence[int]) -> dict[str, Any]:
    """Steps and time of one pass over rows of these positions, packed as `VOICE_LORA` has it; times are None where the
    speed is not measured."""
    speed, total = find_speed(SETTINGS | VOICE_LORA), sum(num_positions)
    return {
        "pack_to": VOICE_LORA["pack_to"],
        "steps": math.ceil(total / VOICE_LORA["pack_to"]),
        "positions_per_second": None if speed is None else speed.positions_per_second,
        "seconds": None if speed is None else total / speed.positions_per_second,
        "hardware": None if speed is None else speed.hardware,
    }
