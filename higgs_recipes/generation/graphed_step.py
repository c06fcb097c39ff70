"""Decode steps on a GPU: compiled by torch.compile, captured as one CUDA graph for each size of batch and cache."""

import time
from collections.abc import Callable
from functools import partial
from importlib import import_module

import torch
from torch import Tensor

from higgs_recipes.generation.decode_step import DecodeStep, StepFunctions, eager_functions
from higgs_recipes.generation.decode_weights import Projection


POSITIONS_BUCKET = 128  # attention reads the cache up to a multiple of this many positions
_EAGER_STEPS = 2  # before a capture: the first compiles, and libraries allocate their workspaces


def gpu_functions(*, compiled: bool) -> Callable[[int], StepFunctions]:
    """The parts of a step, by the number of streams: attention by Triton kernels, the rest compiled, or not.

    A single stream has its own kernels for the layers (`decode_linear.rows_linear`).
    """
    # Imported where they are needed: torch for CPUs comes without triton.
    kernel_attention = import_module("higgs_recipes.generation.decode_attention").kernel_attention
    kernels = import_module("higgs_recipes.generation.decode_linear")
    plain = eager_functions(1)._replace(attention=kernel_attention)
    if not compiled:
        return lambda num_slots: plain
    torch._dynamo.config.recompile_limit = 64  # numbers of streams, and samplings, in one process
    compile_part = partial(torch.compile, dynamic=False, fullgraph=True)
    shared_bytes = torch.cuda.get_device_properties().shared_memory_per_block_optin

    def linear(states: Tensor, weight: Projection) -> Tensor:
        return kernels.linear(states, weight, shared_bytes=shared_bytes)

    several = plain._replace(
        project=compile_part(partial(plain.project, linear=linear)),
        finish=compile_part(partial(plain.finish, linear=linear)),
        sample=compile_part(plain.sample),
    )
    single = several._replace(project=kernels.project_single, finish=kernels.finish_single)
    return lambda num_slots: single if num_slots == 1 else several


class GraphedStep:
    """A `DecodeStep` that is captured on its third call with a bucket (streams, positions), and then replayed.

    Attributes:
        preparation_seconds: time spent on compilation and capture so far.
    """

    def __init__(self, step: DecodeStep) -> None:
        self.step = step
        self.max_slots, self.max_positions = step.cache.keys.shape[1], step.cache.keys.shape[3]
        self.preparation_seconds = 0.0
        self._num_eager: dict[tuple[int, int], int] = {}
        self._graphs: dict[tuple[int, int], torch.cuda.CUDAGraph] = {}
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, num_slots: int, num_positions: int) -> None:
        bucket = self._bucket(num_slots, num_positions)
        if bucket in self._graphs:
            self._graphs[bucket].replay()
            return
        began = time.perf_counter()
        num_eager = self._num_eager[bucket] = self._num_eager.get(bucket, 0) + 1
        if num_eager <= _EAGER_STEPS:
            self.step(*bucket)
        else:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):  # others may decode
                self.step(*bucket)
            self._graphs[bucket] = graph
            graph.replay()
        torch.cuda.synchronize()
        self.preparation_seconds += time.perf_counter() - began

    def _bucket(self, num_slots: int, num_positions: int) -> tuple[int, int]:
        """The sizes that a step runs with: few of them, since each is compiled or captured."""
        positions = min(-(-num_positions // POSITIONS_BUCKET) * POSITIONS_BUCKET, self.max_positions)
        sizes = sorted({slots for slots, _ in self._num_eager if slots >= num_slots})
        slots = sizes[0] if sizes else min(1 << (num_slots - 1).bit_length(), self.max_slots)
        return slots, positions
