"""Nearly float32 on tensor cores: products of TF32 parts. What it is worth for encoding, benchmark encode measures.

A GPU multiplies TF32, 10 bits of mantissa, some eight times as fast as float32, but other codes come of it. A float32
is nearly the sum of two TF32, x = hi + lo, and x * w is hi * hi + hi * lo + lo * hi but for 2^-22 of it; a convolution
or linear layer does the three at once over inputs that stand beside each other. (The split of Markidis et al. 2018,
arXiv:1803.04014, which cuBLAS and CUTLASS call 3xTF32.)
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def use_split_products(model: nn.Module) -> None:
    """Exchange the forward of convolutions (not in groups) and linear layers, in place.

    Args:
        model: a frozen model in float32, on the GPU where it will run.
    """
    for module in model.modules():
        if type(module) is nn.Conv1d and module.groups == 1 and module.padding_mode == "zeros":
            module.__class__, axis = SplitConv1d, 1
        elif type(module) is nn.Linear:
            module.__class__, axis = SplitLinear, -1
        else:
            continue
        high, low = split(module.weight.detach())
        module.register_buffer("parts", torch.cat([high, low, high], dim=axis), persistent=False)


def split(values: Tensor) -> tuple[Tensor, Tensor]:
    """float32 -> its nearest TF32, and what is left of it.

    >>> high, low = split(torch.tensor([1.0 + 2**-10 + 2**-12]))
    >>> (high - 1).item() == 2**-10, low.item() == 2**-12
    (True, True)
    """
    bits = values.view(torch.int32)
    high = ((bits + 0x1000) & -0x2000).view(torch.float32)  # 13 bits of 23 go, rounded
    return high, values - high


class SplitConv1d(nn.Conv1d):
    def forward(self, states: Tensor) -> Tensor:
        high, low = split(states)
        with float32_products(convolutions="tf32", matmuls="tf32"):
            return F.conv1d(
                torch.cat([high, high, low], dim=1), self.parts, self.bias, self.stride, self.padding, self.dilation
            )


class SplitLinear(nn.Linear):
    def forward(self, states: Tensor) -> Tensor:
        high, low = split(states)
        with float32_products(convolutions="tf32", matmuls="tf32"):
            return F.linear(torch.cat([high, high, low], dim=-1), self.parts, self.bias)


@contextmanager
def float32_products(*, convolutions: str, matmuls: str) -> Iterator[None]:
    """Float32 convolutions and matrix products as "ieee" (exact) or "tf32" while the block lasts."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if matmuls == "tf32" else "highest")
    flags = {"deterministic": True, "allow_tf32": convolutions == "tf32", "fp32_precision": convolutions}
    try:
        with torch.backends.cudnn.flags(enabled=True, **flags):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
