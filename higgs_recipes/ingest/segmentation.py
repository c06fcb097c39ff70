"""Where a recording is cut: from the probability of speech in each frame to segments that begin and end in silence."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from higgs_recipes.rejects import Reject, RejectCode


# Of the voice activity model's authors: speech begins above the one and goes on until it falls below the other.
SPEECH_STARTS = 0.5
SPEECH_ENDS = 0.35
PAD_SECONDS = 0.1  # of silence kept at either end: consonants begin and end softer than the model hears


@dataclass(frozen=True)
class Segment:
    """Part of a recording, in seconds.

    Attributes:
        start, end: with the silence that is kept around the speech.
        flaw: why it is no clip, or None.
    """

    start: float
    end: float
    flaw: Reject | None = None


def speech_regions(probabilities: Tensor) -> list[tuple[int, int]]:
    """Runs of frames [first, last) with speech, of the probabilities (P,) of all frames.

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
    """The segments of a recording, in order; all its speech lies in one of them, those with a flaw included.

    It is cut at every pause longer than `max_pause`, then what is longer than `max_seconds` at its widest pause, as
    long as one of `min_pause` is there; of the pauses those come first that leave `min_seconds` on both sides.

    >>> import torch
    >>> speech = torch.tensor([0] * 5 + [1] * 20 + [0] * 4 + [1] * 10 + [0] * 2 + [1] * 15 + [0] * 30 + [1] * 3 + [0])
    >>> knobs = dict(min_seconds=1, max_seconds=3.2, min_pause=0.2, max_pause=1)
    >>> for segment in cut_segments(speech.float(), frame_seconds=0.1, **knobs):
    ...     print(segment.start, segment.end, segment.flaw and segment.flaw.reason)
    0.4 2.6 None
    2.8 5.7 None
    8.5 9.0 segment too short: 0.50 s, min_seconds is 1
    """
    regions = [(first * frame_seconds, last * frame_seconds) for first, last in speech_regions(probabilities)]
    whole = len(probabilities) * frame_seconds
    segments = []
    waiting = [regions] if regions else []
    while waiting:  # a stack whose top is the earliest part
        part = waiting.pop()
        at = _cut_at(part, min_seconds=min_seconds, max_seconds=max_seconds, min_pause=min_pause, max_pause=max_pause)
        if at is not None:
            waiting += [part[at:], part[:at]]
            continue
        earlier, later = segments[-1].end if segments else 0.0, waiting[-1][0][0] if waiting else whole
        start = max(part[0][0] - PAD_SECONDS, earlier, 0.0)
        end = min(part[-1][1] + PAD_SECONDS, (part[-1][1] + later) / 2 if waiting else whole)
        flaw = None
        if part[0][0] == 0 or part[-1][1] == whole:
            flaw = Reject(RejectCode.CUT_OFF, detail="the recording begins or ends while somebody speaks")
        elif end - start < min_seconds:
            detail = f"{end - start:.2f} s, min_seconds is {min_seconds:g}"
            flaw = Reject(RejectCode.TOO_SHORT, "segment", detail)
        elif end - start > max_seconds:
            detail = f"{end - start:.2f} s of speech without one of {min_pause:g} s"
            flaw = Reject(RejectCode.NO_PAUSE, detail=detail)
        segments.append(Segment(round(start, 3), round(end, 3), flaw))
    return segments


def _cut_at(
    part: Sequence[tuple[float, float]], *, min_seconds: float, max_seconds: float, min_pause: float, max_pause: float
) -> int | None:
    """Index of the region that begins a new part, or None."""
    pauses = [(part[index][0] - part[index - 1][1], index) for index in range(1, len(part))]
    widest = max(pauses, default=(0.0, 0), key=lambda pause: pause[0])
    if widest[0] > max_pause:
        return widest[1]
    if part[-1][1] - part[0][0] + 2 * PAD_SECONDS <= max_seconds:
        return None
    wide = [pause for pause in pauses if pause[0] >= min_pause]
    halves = [
        pause
        for pause in wide
        if min(part[pause[1] - 1][1] - part[0][0], part[-1][1] - part[pause[1]][0]) + PAD_SECONDS >= min_seconds
    ]
    return max(halves or wide, default=(0.0, None), key=lambda pause: pause[0])[1]
