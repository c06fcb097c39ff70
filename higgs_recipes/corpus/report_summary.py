"""The record of a corpus's check in a few lines: what is there, what to look at first."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from higgs_recipes.constants import SAMPLE_RATE


Record = Mapping[str, Any]


def render_text(record: Record) -> str:
    """What the terminal shows."""
    durations, lengths, rates = record["durations"], record["text_lengths"], record["speaking_rates"]
    lines = [
        lead(record),
        f"clips: {durations['least']:.1f} to {durations['most']:.1f} s, median {durations['median']:.1f} s; "
        + ", ".join(f"{each['rate']:,} Hz {each['rows']:,} rows" for each in record["sample_rates"]),
        f"lengths: [{bars(durations['histogram'])}] from {durations['least']:.1f} to {durations['most']:.1f} s",
        f"speakers: {_named(record['speakers'])}",
        f"languages: {_named(record['languages'])}",
        f"text: {lengths['least']:,} to {lengths['most']:,} characters, median {lengths['median']:,.0f}; "
        f"{rates['median']:.1f} characters a second",
    ]
    for split, taught in record["splits"].items():
        tasks = ", ".join(f"{task} {count:,}" for task, count in taught["tasks"].items())
        lines.append(f"{split}: {taught['rows']:,} rows, {hours(taught['seconds'])}: {tasks}")
        if taught["cut_at_turn"]["dialogues"]:
            lines.append(f"{split}: {cuts(taught)}")
    lines.append("epoch: " + epoch_cost(record))
    for each in record["filters"]:
        value = f" ({each['value']})" if each["value"] else ""
        lines.append(f"filter: {each['filter']}{value} drops {counted(each['rows'], 'row')}")
    lines += [f"rejected: {counted(group['rows'], 'row')}, {group['reason']}" for group in record["rejects"]]
    lines += [f"look at: {finding}" for finding in findings(record)]
    return "\n".join(visible(line) for line in lines)


def lead(record: Record) -> str:
    """The whole in one sentence."""
    speakers = sum(size["name"] is not None for size in record["speakers"])
    voices = counted(speakers, "named speaker") if speakers else "no named speaker"
    read = counted(record["read"], "row")
    return f"{record['kept']:,} of {read} pass the checks: {hours(record['seconds'])}, {voices}."


def findings(record: Record) -> list[str]:
    """What a person should look at first, a line each."""
    edges, characters = record["silent_edges"], record["unusual_characters"]
    kinds = {kind: sum(each["kind"] == kind for each in characters) for kind in {each["kind"] for each in characters}}
    unseen = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()) if kind != "rare")
    low = sum(each["rows"] for each in record["sample_rates"] if each["rate"] < SAMPLE_RATE)
    sounds, texts = (sum(len(group) - 1 for group in record[name]) for name in ("same_sound", "same_text_and_speaker"))
    silence = hours(sum(row["start"] + row["end"] for row in edges))
    not_drawn = sum(record["not_drawn"].values())
    untaught = record["rejected"] - (record["read"] - record["kept"] - not_drawn)
    found = [
        (record["rejected"] - untaught, "rejected by the checks"),
        (untaught, "rejected by their task: they lack what it needs"),
        (not_drawn, "left out by the weights of the sources"),
        (len(record["clipped"]), "clipped: samples in a row at full scale"),
        (len(edges), f"silent for more than 0.5 s at an end, {silence} in all: the model learns to pause there"),
        (low, f"recorded below {SAMPLE_RATE:,} Hz: they teach a dull sound"),
        (sounds, "the same sound as a row before"),
        (texts, "the same words as another row of the same speaker"),
        (
            len(record["speaking_rates"]["outliers"]),
            "far faster or slower than the rest: is the transcript the clip's?",
        ),
        (
            len(record["not_composed"]),
            "letters and their accents are apart (not NFC): the tokenizer reads other bytes",
        ),
    ]
    lines = [f"{counted(count, 'row')}: {what}" for count, what in found if count]
    return lines + ([f"characters that nobody sees: {unseen}"] if unseen else [])


def hours(seconds: float) -> str:
    """A time in the unit that fits it.

    >>> hours(40), hours(300), hours(9000)
    ('40.0 s', '5.0 min', '2.50 h')
    """
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:,.2f} h"


def bars(histogram: Record) -> str:
    """A histogram as a line of text, a character for each bin.

    >>> bars({"start": 0, "step": 1, "counts": [1, 0, 4, 8]})
    '▁ ▄█'
    """
    top = max(histogram["counts"])
    return "".join(" ▁▂▃▄▅▆▇█"[-(-8 * count // top)] for count in histogram["counts"])


def cuts(taught: Record) -> str:
    """What became of dialogues that were too long."""
    cut = taught["cut_at_turn"]
    return f"{counted(cut['dialogues'], 'dialogue')} cut at turns into {cut['pieces']:,}"


def visible(text: str) -> str:
    """Text on one line, what is unseen or steers a terminal or the direction as its code.

    >>> print(visible("a\\nb\\x1b[2J\\u202e"))
    a / b\\u001b[2J\\u202e
    """
    one_line = re.sub(r"\s*\n\s*", " / ", text)
    return "".join(f"\\u{ord(each):04x}" if unicodedata.category(each)[0] == "C" else each for each in one_line)


def counted(number: int, noun: str) -> str:
    """
    >>> counted(1, "row"), counted(1200, "row")
    ('1 row', '1,200 rows')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _named(sizes: Sequence[Record]) -> str:
    """The largest of them and the smallest, with their time."""
    if len(sizes) <= 4:
        return ", ".join(f"{name_of(size)} {hours(size['seconds'])}" for size in sizes)
    ends = [f"{name_of(size)} {hours(size['seconds'])}" for size in (sizes[0], sizes[-1])]
    return f"{len(sizes):,}, from {ends[0]} to {ends[1]}"


def name_of(size: Record) -> str:
    """Of a speaker or a language."""
    return "not given" if size["name"] is None else size["name"]


def epoch_cost(record: Record) -> str:
    """Positions, steps and time of one pass over the training rows."""
    taught = record["splits"]["train"]
    counts, epoch = taught["positions"], taught["epoch"]
    took = "its time is not measured"
    if epoch["seconds"] is not None:
        took = (
            f"{hours(epoch['seconds'])} at {epoch['positions_per_second']:,.0f} positions a second (measured on "
            f"{epoch['hardware']} with 10 s clips)"
        )
    return (
        f"{counts['codes'] + counts['text']:,} positions, of which {counts['codes']:,} are codes; "
        f"{counted(epoch['steps'], 'step')} of {epoch['pack_to']:,} with voice_lora.yaml; {took}"
    )
