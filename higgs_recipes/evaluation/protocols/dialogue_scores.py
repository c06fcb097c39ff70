"""The voices of a dialogue: each speaker should sound like themselves, and not like the others.

The README of Higgs Audio v2 reports a "geometric mean of intra-speaker similarity and inter-speaker dissimilarity" on
dialogues. No code of it is published; this is our definition.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch.nn.functional as F
from torch import Tensor


DEFINITION = (
    "voices of a dialogue: the geometric mean of intra-speaker similarity and inter-speaker dissimilarity, which the "
    "README of Higgs Audio v2 reports. No code of it is published; this is our definition: turns are cut from the "
    "clip by the word times of the ASR model, and each is embedded; intra-speaker similarity is the mean cosine of "
    "two turns of one speaker, and of a turn and its speaker's reference clip, if there is one; inter-speaker "
    "dissimilarity is 1 minus the mean cosine of two turns of different speakers; both are clipped to 0 .. 1; the "
    "score is the square root of their product, times 100, mean over dialogues. A dialogue in which no two turns can "
    "be compared in this way has no score"
)


@dataclass(frozen=True)
class DialogueVoices:
    """The scores of one dialogue; None where no pair of turns can be compared."""

    intra: float | None
    dissimilarity: float | None

    @property
    def score(self) -> float | None:
        if self.intra is None or self.dissimilarity is None:
            return None
        return math.sqrt(self.intra * self.dissimilarity)


def dialogue_voices(
    turns: Sequence[tuple[str | None, Tensor | None]], references: Mapping[str, Tensor | None]
) -> DialogueVoices:
    """Compare the turns of one dialogue.

    Args:
        turns: speaker and embedding (D,) of each turn; without embedding if the turn was not found or is too short.
        references: embedding of each speaker's reference clip.
    """
    known = [(speaker, voice) for speaker, voice in turns if speaker is not None and voice is not None]
    same = [_cosine(one, other) for (a, one), (b, other) in combinations(known, 2) if a == b]
    same += [
        _cosine(voice, reference) for speaker, voice in known if (reference := references.get(speaker)) is not None
    ]
    cross = [_cosine(one, other) for (a, one), (b, other) in combinations(known, 2) if a != b]
    return DialogueVoices(
        intra=_clipped(sum(same) / len(same)) if same else None,
        dissimilarity=_clipped(1 - sum(cross) / len(cross)) if cross else None,
    )


def _cosine(one: Tensor, other: Tensor) -> float:
    return float(F.cosine_similarity(one, other, dim=0))


def _clipped(value: float) -> float:
    return min(max(value, 0.0), 1.0)
