"""The arithmetic of convolutions on a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Literal

import torch


Arithmetic = Literal["float32", "tf32"]

_LOCK = Lock()


@contextmanager
def convolution_arithmetic(arithmetic: Arithmetic, device: torch.device) -> Iterator[None]:
    """Compute convolutions in exact float32 or in TF32; on a CPU they always are in float32.

    TF32 is torch's default on recent GPUs. Its 10-bit mantissa moves some codes to neighboring ones, and the cosine of
    speaker embeddings by up to 0.005. One thread at a time: torch's setting is that of the process.
    """
    if device.type == "cpu":
        yield
        return
    is_tf32 = arithmetic == "tf32"
    flags = {"deterministic": True, "allow_tf32": is_tf32, "fp32_precision": "tf32" if is_tf32 else "ieee"}
    with _LOCK, torch.backends.cudnn.flags(enabled=True, **flags):
        yield
