"""The codec of tests/random_tiny, made once in a test process, and a few sounds to encode."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from higgs_recipes.codec import Codec, load_codec
from higgs_recipes.codec_init import init_codec
from higgs_recipes.delay import SAMPLE_RATE


REPO = Path(__file__).parent.parent
CORPUS = REPO / "tests/two_voices"


@cache
def tiny_codec_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="tiny_codec"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    init_codec(REPO / "tests/random_tiny/codec.json", seed=0, output_dir=folder)
    return folder


@cache
def tiny_codec() -> Codec:
    return load_codec(tiny_codec_folder(), revision=None, device="cpu")


def tone(seconds: float, *, hertz: float = 220.0, loudness: float = 0.3, rate: int = SAMPLE_RATE) -> Tensor:
    """A steady hum (N,), float32."""
    time = torch.arange(round(seconds * rate)) / rate
    return loudness * torch.sin(2 * torch.pi * hertz * time)
