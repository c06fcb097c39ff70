"""Write a wav file part by part, for recordings of any length."""

import wave
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.errors import InputError


MAX_SAMPLES = (2**32 - 2**10) // 2  # the header of a wav file counts 4 GiB: 24 hours and 51 minutes


def pcm16(waveform: Tensor) -> Tensor:
    """A waveform (N,) as samples (N,) of 16 bits, int16 on the CPU, clipped to [-1, 1].

    These are the samples that libsndfile writes: rounded to 32 bits, of which the upper 16 are kept.

    >>> pcm16(torch.tensor([0.5, -1.0, 1.0, -1e-12])).tolist()
    [16384, -32768, 32767, 0]
    """
    rounded = (waveform.detach().cpu().double() * 2**31).round()
    return (rounded / 2**16).floor().clamp(-(2**15), 2**15 - 1).to(torch.int16)


def write_wav_parts(path: str | Path, parts: Iterable[Tensor]) -> int:
    """Write waveforms (N_i,) one after the other into a wav file: 16-bit PCM at `SAMPLE_RATE`, clipped to [-1, 1].

    Returns:
        The number of samples.

    Raises:
        InputError: the recording is longer than a wav file can be.
    """
    num_samples = 0
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        for part in parts:
            samples = pcm16(part)
            num_samples += len(samples)
            if num_samples > MAX_SAMPLES:
                raise InputError(
                    f"{path}: a wav file has at most {MAX_SAMPLES / SAMPLE_RATE / 3600:.1f} hours: split the text"
                )
            file.writeframesraw(samples.numpy().astype("<i2").tobytes())
    return num_samples
