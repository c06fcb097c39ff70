"""Recordings as encoded bytes or files, in any container, sample format and rate."""

import io
from pathlib import Path

import numpy as np
import soundfile
from torch import Tensor

from higgs_recipes.constants import SAMPLE_RATE


def encode_audio(
    samples: Tensor, *, rate: int = SAMPLE_RATE, format: str = "WAV", subtype: str | None = None
) -> bytes:
    """Samples (N,) or (N, channels) as the bytes of an audio file."""
    encoded = io.BytesIO()
    soundfile.write(encoded, samples.numpy(), rate, format=format, subtype=subtype)
    return encoded.getvalue()


def write_noise(path: Path, *, seconds: float, rate: int, channels: int = 2, **kind: str) -> Path:
    """White noise of -20 dB of full scale as an audio file."""
    samples = 0.1 * np.random.default_rng(0).standard_normal((round(seconds * rate), channels))
    soundfile.write(path, samples, rate, **kind)
    return path
