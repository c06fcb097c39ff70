"""Summarize the record of a corpus check in a few lines."""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from higgs_recipes.constants import SAMPLE_RATE


Record = Mapping[str, Any]


def render_text(record: Record) -> str:
    """The summary for the terminal."""
    durations, lengths, rates = record["durations"], record["text_lengths"], record["speaking_rates"]
    lines = [
        lead(record),
        f"clips: {durations['least']:.1f} to {durations['most']:.1f} s, median {durations['median']:.1f} s; "
        + ", ".join(f"{size['rate']:,} Hz {size['rows']:,} rows" for size in record["sample_rates"]),
        f"lengths: [{bars(durations['histogram'])}] from {durations['least']:.1f} to {durations['most']:.1f} s",
        f"speakers: {_named(record['speakers'])}",
        f"languages: {_named(record['languages'])}",
        f"text: {lengths['least']:,} to {lengths['most']:,} characters, median {lengths['median']:,.0f}; "
        f"{rates['median']:.1f} characters per second",
    ]
    for name, split in record["splits"].items():
        tasks = ", ".join(f"{task} {count:,}" for task, count in split["tasks"].items())
        lines.append(f"{name}: {split['rows']:,} rows, {hours(split['seconds'])}: {tasks}")
        if split["cut_at_turn"]["dialogues"]:
            lines.append(f"{name}: {cuts(split)}")
    lines.append("epoch: " + epoch_cost(record))
    for effect in record["filters"]:
        value = f" ({effect['value']})" if effect["value"] else ""
        lines.append(f"filter: {effect['filter']}{value} removes {counted(effect['rows'], 'row')}")
    lines += [f"rejected: {counted(group['rows'], 'row')}, {group['reason']}" for group in record["rejects"]]
    lines += [f"check: {finding}" for finding in findings(record)]
    return "\n".join(visible(line) for line in lines)


def lead(record: Record) -> str:
    """The result in one sentence."""
    speakers = sum(size["name"] is not None for size in record["speakers"])
    voices = counted(speakers, "named speaker") if speakers else "no named speaker"
    read = counted(record["read"], "row")
    return f"{record['kept']:,} of {read} pass the checks: {hours(record['seconds'])}, {voices}."


def findings(record: Record) -> list[str]:
    """Possible problems, most important first, one line each."""
    edges, characters = record["silent_edges"], record["unusual_characters"]
    kinds = Counter(character["kind"] for character in characters)
    invisible = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()) if kind != "rare")
    low = sum(size["rows"] for size in record["sample_rates"] if size["rate"] < SAMPLE_RATE)
    recordings, texts = (
        sum(len(group) - 1 for group in record[name]) for name in ("same_sound", "same_text_and_speaker")
    )
    silence = hours(sum(row["start"] + row["end"] for row in edges))
    not_sampled = sum(record["not_drawn"].values())
    without_task = record["rejected"] - (record["read"] - record["kept"] - not_sampled)
    counts = [
        (record["rejected"] - without_task, "rejected by the checks"),
        (without_task, "rejected because they lack what their task needs"),
        (not_sampled, "left out by the weights of the sources"),
        (len(record["clipped"]), "clipped: several samples in a row at full scale"),
        (len(edges), f"more than 0.5 s of silence at an end, {silence} in total: the model learns to pause there"),
        (low, f"sample rate below {SAMPLE_RATE:,} Hz: high frequencies are missing"),
        (recordings, "same audio as an earlier row"),
        (texts, "same words as another row of the same speaker"),
        (len(record["speaking_rates"]["outliers"]), "unusual speaking rate: the transcript may not match the clip"),
        (len(record["not_composed"]), "text not in Unicode NFC: the tokenizer sees other bytes than usual"),
    ]
    lines = [f"{counted(count, 'row')}: {problem}" for count, problem in counts if count]
    return lines + ([f"invisible characters: {invisible}"] if invisible else [])


def hours(seconds: float) -> str:
    """A duration in seconds, minutes or hours.

    >>> hours(40), hours(300), hours(9000)
    ('40.0 s', '5.0 min', '2.50 h')
    """
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:,.2f} h"


def bars(histogram: Record) -> str:
    """A histogram as one line of text, one character for each bin.

    >>> bars({"start": 0, "step": 1, "counts": [1, 0, 4, 8]})
    '▁ ▄█'
    """
    top = max(histogram["counts"])
    return "".join(" ▁▂▃▄▅▆▇█"[-(-8 * count // top)] for count in histogram["counts"])


def cuts(split: Record) -> str:
    """How many long dialogues were cut."""
    cut = split["cut_at_turn"]
    return f"{counted(cut['dialogues'], 'dialogue')} cut at turns into {cut['pieces']:,}"


def visible(text: str) -> str:
    """Text on one line, with invisible and control characters as escapes.

    >>> print(visible("a\\nb\\x1b[2J\\u202e"))
    a / b\\u001b[2J\\u202e
    """
    one_line = re.sub(r"\s*\n\s*", " / ", text)
    return "".join(
        f"\\u{ord(character):04x}" if unicodedata.category(character)[0] == "C" else character
        for character in one_line
    )


def counted(number: int, noun: str) -> str:
    """A number with its noun, in the plural where needed.

    >>> counted(1, "row"), counted(1200, "row")
    ('1 row', '1,200 rows')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _named(sizes: Sequence[Record]) -> str:
    """Names with durations; of more than four, the largest and the smallest."""
    if len(sizes) <= 4:
        return ", ".join(f"{name_of(size)} {hours(size['seconds'])}" for size in sizes)
    ends = [f"{name_of(size)} {hours(size['seconds'])}" for size in (sizes[0], sizes[-1])]
    return f"{len(sizes):,}, from {ends[0]} to {ends[1]}"


def name_of(size: Record) -> str:
    """The name of a speaker or language."""
    return "not given" if size["name"] is None else size["name"]


def epoch_cost(record: Record) -> str:
    """Positions, steps and duration of one epoch."""
    train = record["splits"]["train"]
    counts, epoch = train["positions"], train["epoch"]
    duration = "its duration is not measured"
    if epoch["seconds"] is not None:
        duration = (
            f"{hours(epoch['seconds'])} at {epoch['positions_per_second']:,.0f} positions per second (measured on "
            f"{epoch['hardware']} with 10 s clips)"
        )
    return (
        f"{counts['codes'] + counts['text']:,} positions, {counts['codes']:,} of them codes; "
        f"{counted(epoch['steps'], 'step')} of {epoch['pack_to']:,} with voice_lora.yaml; {duration}"
    )
