"""Cut a recording into segments that begin and end in silence, by the speech probability of each frame."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from higgs_recipes.rejects import Reject, RejectCode


# Thresholds of silero-vad: speech starts above the first and ends below the second.
SPEECH_STARTS = 0.5
SPEECH_ENDS = 0.35
PAD_SECONDS = 0.1  # silence kept at each end: the model misses the soft start and end of consonants


@dataclass(frozen=True)
class Segment:
    """A part of a recording, in seconds.

    Attributes:
        start, end: including the silence kept around the speech.
        flaw: why it cannot be used, or None.
    """

    start: float
    end: float
    flaw: Reject | None = None


def speech_regions(probabilities: Tensor) -> list[tuple[int, int]]:
    """Return the runs of frames [first, last) with speech, from the speech probability (P,) of all frames.

    >>> import torch
    >>> speech_regions(torch.tensor([0.0, 0.4, 0.6, 0.4, 0.2, 0.0, 0.9]))
    [(2, 4), (6, 7)]
    """
    regions, first = [], None
    for index, probability in enumerate(probabilities.tolist()):
        if first is None and probability >= SPEECH_STARTS:
            first = index
        elif first is not None and probability < SPEECH_ENDS:
            regions.append((first, index))
            first = None
    return regions if first is None else [*regions, (first, len(probabilities))]


def cut_segments(
    probabilities: Tensor,
    *,
    frame_seconds: float,
    min_seconds: float,
    max_seconds: float,
    min_pause: float,
    max_pause: float,
) -> list[Segment]:
    """Return the segments of a recording in order; together, including those with a flaw, they contain all speech.

    The recording is cut at every pause longer than `max_pause`. Parts longer than `max_seconds` are cut at their
    longest pause of at least `min_pause`, preferably one that leaves `min_seconds` on both sides.

    Args:
        probabilities: speech probability (P,) of each frame.

    >>> import torch
    >>> speech = torch.tensor([0] * 5 + [1] * 20 + [0] * 4 + [1] * 10 + [0] * 2 + [1] * 15 + [0] * 30 + [1] * 3 + [0])
    >>> options = dict(min_seconds=1, max_seconds=3.2, min_pause=0.2, max_pause=1)
    >>> for segment in cut_segments(speech.float(), frame_seconds=0.1, **options):
    ...     print(segment.start, segment.end, segment.flaw and segment.flaw.reason)
    0.4 2.6 None
    2.8 5.7 None
    8.5 9.0 segment too short: 0.50 s, min_seconds is 1
    """
    regions = [(first * frame_seconds, last * frame_seconds) for first, last in speech_regions(probabilities)]
    total_seconds = len(probabilities) * frame_seconds
    segments = []
    parts = [regions] if regions else []
    while parts:  # a stack with the earliest part on top
        part = parts.pop()
        cut = _cut_index(
            part, min_seconds=min_seconds, max_seconds=max_seconds, min_pause=min_pause, max_pause=max_pause
        )
        if cut is not None:
            parts += [part[cut:], part[:cut]]
            continue
        previous_end, next_start = segments[-1].end if segments else 0.0, parts[-1][0][0] if parts else total_seconds
        start = max(part[0][0] - PAD_SECONDS, previous_end, 0.0)
        end = min(part[-1][1] + PAD_SECONDS, (part[-1][1] + next_start) / 2 if parts else total_seconds)
        flaw = None
        if part[0][0] == 0 or part[-1][1] == total_seconds:
            flaw = Reject(RejectCode.CUT_OFF, detail="speech at the start or end of the recording")
        elif end - start < min_seconds:
            detail = f"{end - start:.2f} s, min_seconds is {min_seconds:g}"
            flaw = Reject(RejectCode.TOO_SHORT, "segment", detail)
        elif end - start > max_seconds:
            detail = f"{end - start:.2f} s of speech without one of {min_pause:g} s"
            flaw = Reject(RejectCode.NO_PAUSE, detail=detail)
        segments.append(Segment(round(start, 3), round(end, 3), flaw))
    return segments


def _cut_index(
    part: Sequence[tuple[float, float]], *, min_seconds: float, max_seconds: float, min_pause: float, max_pause: float
) -> int | None:
    """Index of the region that starts a new part, or None."""
    pauses = [(part[index][0] - part[index - 1][1], index) for index in range(1, len(part))]
    longest = max(pauses, default=(0.0, 0), key=lambda pause: pause[0])
    if longest[0] > max_pause:
        return longest[1]
    if part[-1][1] - part[0][0] + 2 * PAD_SECONDS <= max_seconds:
        return None
    usable = [pause for pause in pauses if pause[0] >= min_pause]
    preferred = [
        pause
        for pause in usable
        if min(part[pause[1] - 1][1] - part[0][0], part[-1][1] - part[pause[1]][0]) + PAD_SECONDS >= min_seconds
    ]
    return max(preferred or usable, default=(0.0, None), key=lambda pause: pause[0])[1]
