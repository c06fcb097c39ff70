"""Loudness of a recording (ITU-R BS.1770-4, measured by pyloudnorm) and the gain that normalizes it."""

import math

from torch import Tensor

from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.errors import import_module


BLOCK_SECONDS = 0.4  # window of the meter; the loudness of a shorter recording is undefined
PEAK = 10 ** (-1 / 20)  # -1 dB of full scale, so that neither codec nor player clips


class LoudnessMeter:
    """Loudness meter for waveforms at `SAMPLE_RATE`.

    Raises:
        InputError: pyloudnorm is not installed.
    """

    def __init__(self) -> None:
        pyloudnorm = import_module("pyloudnorm", needed_by="segment", install="pip install 'pyloudnorm>=0.2,<1'")
        self.meter = pyloudnorm.Meter(SAMPLE_RATE)

    def lufs(self, waveform: Tensor) -> float | None:
        """Integrated loudness of a waveform (N,) in LUFS; None if it is too quiet or too short."""
        if len(waveform) < BLOCK_SECONDS * SAMPLE_RATE:
            return None
        loudness = float(self.meter.integrated_loudness(waveform.double().numpy()))
        return loudness if math.isfinite(loudness) else None


def gain_db(waveform: Tensor, *, loudness: float, target: float) -> float:
    """Gain in dB that brings a waveform (N,) from `loudness` to `target` (both LUFS), limited by its peak.

    >>> import torch
    >>> gain_db(torch.tensor([0.1, -0.1]), loudness=-30.0, target=-23.0)
    7.0
    """
    headroom = 20 * math.log10(PEAK / float(waveform.abs().max()))
    return min(target - loudness, headroom)
