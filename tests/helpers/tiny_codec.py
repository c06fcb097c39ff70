"""The codec of tests/data/random_tiny, and audio to encode."""

from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from higgs_recipes.audio.codec import Codec, load_codec
from higgs_recipes.constants import SAMPLE_RATE
from tests.helpers.checkpoints import tiny_folder
from tests.helpers.paths import ROOT


CORPUS = ROOT / "tests/data/two_voices"


def tiny_codec_folder() -> Path:
    return tiny_folder() / "codec"


@cache
def tiny_codec() -> Codec:
    return load_codec(tiny_codec_folder(), revision=None, device="cpu")


def tone(seconds: float, *, hertz: float = 220.0, loudness: float = 0.3, rate: int = SAMPLE_RATE) -> Tensor:
    """A sine wave (N,), float32."""
    time = torch.arange(round(seconds * rate)) / rate
    return loudness * torch.sin(2 * torch.pi * hertz * time)
