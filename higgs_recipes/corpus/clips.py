"""Clips of sound by name and place, several of them laid end to end, and what is said in turns."""

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, count, groupby
from typing import Any

from higgs_recipes.audio.clipping import Levels
from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.rejects import RejectCode, RejectedRow


@dataclass(frozen=True)
class Clip:
    """A recording that can be encoded, or several laid end to end.

    Attributes:
        content_hash: name of the sound.
        place: (index of the source, index of the row, column: "audio", "ref_audio", "ref_speakers.<index>" or
            "turns.<index>"); None of a joined clip.
        levels: of a joined clip those of its parts: all clipped samples, the edges of the first and the last.
        parts, gaps: of a joined clip, the clips and the seconds of silence between them (below 0 they overlap).
    """

    seconds: float
    content_hash: str
    place: tuple[int, int, str] | None = None
    levels: Levels | None = None
    parts: tuple["Clip", ...] = ()
    gaps: tuple[float, ...] = ()


def joined_clip(parts: Sequence[Clip], gaps: Sequence[float]) -> Clip:
    """The clips one after the other, with a gap in seconds between each two: of whole samples, and never an overlap of
    more than half a clip, so that the seconds are those of the joined waveform."""
    gaps = [
        round(max(gap, -0.5 * min(one.seconds, two.seconds)) * SAMPLE_RATE) / SAMPLE_RATE
        for gap, one, two in zip(gaps, parts[:-1], parts[1:], strict=True)
    ]
    sound = json.dumps([[part.content_hash for part in parts], gaps])
    first, last = parts[0].levels, parts[-1].levels
    return Clip(
        seconds=sum(part.seconds for part in parts) + sum(gaps),
        content_hash=hashlib.sha256(sound.encode()).hexdigest()[:32],
        levels=Levels(first.rate, sum(part.levels.clipped for part in parts), first.silent_start, last.silent_end),
        parts=tuple(parts),
        gaps=tuple(gaps),
    )


def cut_at_turns(clip: Clip, max_seconds: float) -> list[tuple[slice, Clip]]:
    """A joined clip in as few pieces as keep within `max_seconds`, cut in its gaps and of even length, so that no lone
    turn is left over; each with the slice of the parts that it holds. No part may be longer than `max_seconds`."""
    spans = zip(clip.parts, (0.0, *clip.gaps), strict=True)
    ends = accumulate(gap + part.seconds for part, gap in spans)
    middles = [end - part.seconds / 2 for end, part in zip(ends, clip.parts, strict=True)]
    for num_pieces in count(1):
        index_of = [int(middle / clip.seconds * num_pieces) for middle in middles]
        groups = [list(group) for _, group in groupby(range(len(middles)), key=index_of.__getitem__)]
        held = [slice(group[0], group[-1] + 1) for group in groups]
        pieces = [(each, joined_clip(clip.parts[each], clip.gaps[each.start : each.stop - 1])) for each in held]
        if all(piece.seconds <= max_seconds for _, piece in pieces):
            return pieces


def check_turns(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The turns of a row, each {"speaker", "text", "gender" (or None), "audio" (its recording, or None in all)}; none
    where the row has no "turns".

    Raises:
        RejectedRow: a turn without speaker or words or whose gender is no word, recordings of some turns only (names
            the turn from 0), or ref_speakers beside the turns.
    """
    turns = [
        {field: turn.get(field) for field in ("speaker", "text", "gender", "audio")} for turn in row.get("turns") or []
    ]
    recorded = [turn["audio"] is not None for turn in turns]
    for index, turn in enumerate(turns):
        for field in ("speaker", "text"):
            if not isinstance(turn[field], str) or not turn[field].strip():
                raise _invalid_turns(f"turn {index} has no {field}; give each turn its speaker and its words")
        if not isinstance(turn["gender"], str | None):
            raise _invalid_turns(
                f"turn {index} has gender {turn['gender']!r}; give a word, as female or male, or none"
            )
        if recorded[index] != recorded[0]:
            raise _invalid_turns(
                f"turn {index} has {'a' if recorded[index] else 'no'} recording, unlike the first: give one to every "
                "turn, or to none of them and to the dialogue"
            )
    if turns and row.get("ref_speakers"):
        raise _invalid_turns(
            "turns and ref_speakers do not go together: the tags of turns are drawn; leave ref_speakers out, and the "
            "speakers' other clips are the references"
        )
    return turns


def _invalid_turns(detail: str) -> RejectedRow:
    return RejectedRow(RejectCode.INVALID_TURNS, "turns", detail)


def speaker_tags(turns: Sequence[Mapping[str, Any]], draw: random.Random) -> dict[str, str]:
    """The tag of each speaker of the turns; the numbers are shuffled, so that one means nothing."""
    speakers = list(dict.fromkeys(turn["speaker"] for turn in turns))
    numbers = draw.sample(range(len(speakers)), len(speakers))
    return {speaker: f"SPEAKER{number}" for speaker, number in zip(speakers, numbers, strict=True)}


def tagged_text(turns: Sequence[Mapping[str, Any]], tags: Mapping[str, str], *, column: str = "text") -> str:
    """A line for each turn, behind its speaker's tag.

    >>> tagged_text([{"speaker": "a", "text": "Hi."}, {"speaker": "b", "text": "Yes?"}], {"a": "S1", "b": "S0"})
    '[S1] Hi.\\n[S0] Yes?'
    """
    return "\n".join(f"[{tags[turn['speaker']]}] {turn[column]}" for turn in turns)
