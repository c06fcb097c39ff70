"""torchao's low-bit optimizers without the overhead of their step on the host."""

from functools import cache
from typing import Any
from unittest.mock import patch

import torch
from torch.optim import Optimizer


def compiled_once(optimizer_class: type[Optimizer]) -> type[Optimizer]:
    """A subclass of a torchao optimizer whose steps share one compiled function; another class is returned as it is.

    torchao (0.18) calls torch.compile again for every weight in every step. The compiled code is cached, but each call
    takes 0.6 ms on the CPU, and the published model has 400 weights.
    """
    if not optimizer_class.__module__.startswith("torchao."):
        return optimizer_class
    return type(optimizer_class.__name__, (_CompiledOnce, optimizer_class), {})


_compile = cache(torch.compile)


class _CompiledOnce:
    def step(self, *args: Any, **kwargs: Any) -> float | None:
        with patch.object(torch, "compile", _compile):
            return super().step(*args, **kwargs)
