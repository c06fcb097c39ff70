"""Clips, clips joined into dialogues, and the turns of a dialogue."""

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, count, groupby
from typing import Any

from torch import Tensor

from higgs_recipes.audio.clipping import Levels
from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.rejects import RejectCode, RejectedRow


@dataclass(frozen=True)
class Clip:
    """A recording that can be encoded, or several of them joined.

    Attributes:
        content_hash: identifies the audio.
        place: (index of the source, index of the row, column: "audio", "ref_audio", "ref_speakers.<index>" or
            "turns.<index>"); None for a joined clip.
        levels: for a joined clip, the clipped samples of all parts, and the silence at the outer ends.
        parts, gaps: for a joined clip, its clips and the seconds of silence between them (negative: they overlap).
    """

    seconds: float
    content_hash: str
    place: tuple[int, int, str] | None = None
    levels: Levels | None = None
    parts: tuple["Clip", ...] = ()
    gaps: tuple[float, ...] = ()


def content_hash(waveform: Tensor) -> str:
    """Identify audio by its samples (N,), whatever the container."""
    return hashlib.sha256(waveform.numpy().tobytes()).hexdigest()[:32]


def joined_clip(parts: Sequence[Clip], gaps: Sequence[float]) -> Clip:
    """Join clips, with a gap in seconds between each two.

    Gaps are rounded to whole samples, and an overlap is limited to half of the shorter clip, so that `seconds` is the
    length of the joined waveform.
    """
    gaps = [
        round(max(gap, -0.5 * min(one.seconds, two.seconds)) * SAMPLE_RATE) / SAMPLE_RATE
        for gap, one, two in zip(gaps, parts[:-1], parts[1:], strict=True)
    ]
    content = json.dumps([[part.content_hash for part in parts], gaps])
    first, last = parts[0].levels, parts[-1].levels
    return Clip(
        seconds=sum(part.seconds for part in parts) + sum(gaps),
        content_hash=hashlib.sha256(content.encode()).hexdigest()[:32],
        levels=Levels(first.rate, sum(part.levels.clipped for part in parts), first.silent_start, last.silent_end),
        parts=tuple(parts),
        gaps=tuple(gaps),
    )


def cut_at_turns(clip: Clip, max_seconds: float) -> list[tuple[slice, Clip]]:
    """Cut a joined clip in its gaps into as few pieces of at most `max_seconds` as possible.

    The pieces have about equal length, so that no single turn remains at the end. No part may be longer than
    `max_seconds`.

    Returns:
        The pieces, each with the slice of the parts in it.
    """
    spans = zip(clip.parts, (0.0, *clip.gaps), strict=True)
    ends = accumulate(gap + part.seconds for part, gap in spans)
    middles = [end - part.seconds / 2 for end, part in zip(ends, clip.parts, strict=True)]
    for num_pieces in count(1):
        piece_index = [int(middle / clip.seconds * num_pieces) for middle in middles]
        groups = [list(group) for _, group in groupby(range(len(middles)), key=piece_index.__getitem__)]
        slices = [slice(group[0], group[-1] + 1) for group in groups]
        pieces = [(held, joined_clip(clip.parts[held], clip.gaps[held.start : held.stop - 1])) for held in slices]
        if all(piece.seconds <= max_seconds for _, piece in pieces):
            return pieces


def check_turns(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Check the turns of a row; an empty list if it has none.

    Returns:
        {"speaker", "text", "gender" (or None), "audio" (the turn's recording; None in all turns if one recording has
        the whole dialogue)} for each turn.

    Raises:
        RejectedRow: a turn without speaker or text, a gender that is not text, recordings of only some turns (the
            message has the turn's index, from 0), or both turns and ref_speakers.
    """
    turns = [
        {field: turn.get(field) for field in ("speaker", "text", "gender", "audio")} for turn in row.get("turns") or []
    ]
    has_audio = [turn["audio"] is not None for turn in turns]
    for index, turn in enumerate(turns):
        for field in ("speaker", "text"):
            if not isinstance(turn[field], str) or not turn[field].strip():
                raise _invalid_turns(f"turn {index} has no {field}; every turn needs speaker and text")
        if not isinstance(turn["gender"], str | None):
            raise _invalid_turns(f"turn {index} has gender {turn['gender']!r}; give female or male, or leave it out")
        if has_audio[index] != has_audio[0]:
            raise _invalid_turns(
                f"turn {index} has {'a' if has_audio[index] else 'no'} recording, unlike turn 0: give a recording for "
                "every turn, or one for the whole dialogue"
            )
    if turns and row.get("ref_speakers"):
        raise _invalid_turns(
            "turns and ref_speakers cannot be combined, because the tags of turns are sampled; leave ref_speakers "
            "out: references are sampled from the speakers' other clips"
        )
    return turns


def _invalid_turns(detail: str) -> RejectedRow:
    return RejectedRow(RejectCode.INVALID_TURNS, "turns", detail)


def speaker_tags(turns: Sequence[Mapping[str, Any]], generator: random.Random) -> dict[str, str]:
    """Map each speaker of the turns to a tag. The numbers are shuffled, so that they carry no information."""
    speakers = list(dict.fromkeys(turn["speaker"] for turn in turns))
    numbers = generator.sample(range(len(speakers)), len(speakers))
    return {speaker: f"SPEAKER{number}" for speaker, number in zip(speakers, numbers, strict=True)}


def tagged_text(turns: Sequence[Mapping[str, Any]], tags: Mapping[str, str], *, column: str = "text") -> str:
    """The text of a dialogue: one line for each turn, starting with its speaker's tag.

    >>> tagged_text([{"speaker": "a", "text": "Hi."}, {"speaker": "b", "text": "Yes?"}], {"a": "S1", "b": "S0"})
    '[S1] Hi.\\n[S0] Yes?'
    """
    return "\n".join(f"[{tags[turn['speaker']]}] {turn[column]}" for turn in turns)
