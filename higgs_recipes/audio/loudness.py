"""The door to pyloudnorm: how loud a recording is to a listener (ITU-R BS.1770-4), and how to make it so."""

import math

from torch import Tensor

from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.errors import import_module


BLOCK_SECONDS = 0.4  # what the meter measures at once; a shorter recording has no loudness
PEAK = 10 ** (-1 / 20)  # -1 dB of full scale, so that no codec or player clips


class LoudnessMeter:
    def __init__(self) -> None:
        pyloudnorm = import_module("pyloudnorm", needed_by="segment", install="pip install 'pyloudnorm>=0.2,<1'")
        self.meter = pyloudnorm.Meter(SAMPLE_RATE)

    def lufs(self, waveform: Tensor) -> float | None:
        """Integrated loudness of a waveform (N,) at `SAMPLE_RATE`; None of one too quiet or too short to have one."""
        if len(waveform) < BLOCK_SECONDS * SAMPLE_RATE:
            return None
        loudness = float(self.meter.integrated_loudness(waveform.double().numpy()))
        return loudness if math.isfinite(loudness) else None


def gain_db(waveform: Tensor, *, loudness: float, target: float) -> float:
    """Decibels that bring a waveform (N,) from its loudness to the target, or as near as its peak allows."""
    headroom = 20 * math.log10(PEAK / float(waveform.abs().max()))
    return min(target - loudness, headroom)
