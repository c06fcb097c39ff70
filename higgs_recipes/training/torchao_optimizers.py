"""torchao's optimizers of few bits without the wait that their step makes on the host."""

from functools import cache
from typing import Any
from unittest.mock import patch

import torch
from torch.optim import Optimizer


def compiled_once(optimizer_class: type[Optimizer]) -> type[Optimizer]:
    """The class itself; of one of torchao's, a subclass whose steps share one compiled function.

    torchao (0.18) calls torch.compile anew for every weight in every step. What it gives is compiled once, but to set
    it up took a CPU 0.6 ms, and the published model has 400 weights.
    """
    if not optimizer_class.__module__.startswith("torchao."):
        return optimizer_class
    return type(optimizer_class.__name__, (_CompiledOnce, optimizer_class), {})


_compile = cache(torch.compile)


class _CompiledOnce:
    def step(self, *args: Any, **kwargs: Any) -> float | None:
        with patch.object(torch, "compile", _compile):
            return super().step(*args, **kwargs)
