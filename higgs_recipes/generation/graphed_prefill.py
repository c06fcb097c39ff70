"""Prefill of a few positions as a CUDA graph: launching its kernels one by one would take longer than they do."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import HiggsAudioV2ForConditionalGeneration

from higgs_recipes.generation.kv_cache import KVCache
from higgs_recipes.generation.prefill import (
    PrefillBatch,
    PrefillSize,
    Prompt,
    prefill,
    prefill_batch,
    to_device,
    write_prompts,
)


_MAX_POSITIONS = 2048  # with more, the kernels take longer than their launches


class GraphedPrefill:
    """`prefill` for one model and cache. Prompts are padded to sizes of which there are few.

    Attention must be the variable-length kernel (`varlen_forward.has_varlen_kernel`).
    """

    def __init__(self, model: HiggsAudioV2ForConditionalGeneration, cache: KVCache) -> None:
        self.model, self.cache = model, cache
        self._graphs: dict[PrefillSize, tuple[torch.cuda.CUDAGraph, PrefillBatch]] = {}
        self._pool = torch.cuda.graph_pool_handle()

    @property
    def num_captured(self) -> int:
        return len(self._graphs)

    def __call__(self, prompts: Sequence[Prompt], slots: Sequence[int]) -> None:
        """Write the keys and values of each prompt to its slot, from position 0."""
        num_audio = sum(len(prompt.frames) for prompt in prompts)
        size = PrefillSize(
            num_text=rounded_up(sum(prompt.num_text for prompt in prompts) + 1),
            num_audio=rounded_up(num_audio) if num_audio else 0,
            num_prompts=1 << (len(prompts) - 1).bit_length(),
        )
        # The first one of all also runs eagerly: libraries allocate their workspaces.
        if size.num_text + size.num_audio > _MAX_POSITIONS or not self._graphs:
            prefill(self.model, prompts, slots, cache=self.cache)
        if size.num_text + size.num_audio > _MAX_POSITIONS:
            return
        batch = prefill_batch(prompts, slots, self.model.config, size=size)
        if size in self._graphs:
            graph, inputs = self._graphs[size]
            for name, value in batch.items():
                if isinstance(value, Tensor):
                    inputs[name].copy_(value.pin_memory(), non_blocking=True)
        else:
            inputs = {name: to_device(value, self.model.device) for name, value in batch.items()}
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):  # others may decode
                write_prompts(self.model, inputs, self.cache)
            self._graphs[size] = graph, inputs
        graph.replay()


def rounded_up(count: int) -> int:
    """The next number of 64, 96, 128, 192, 256, 384, ...

    >>> [rounded_up(count) for count in (1, 65, 100, 129, 200)]
    [64, 96, 128, 192, 256]
    """
    power = max(64, 1 << (count - 1).bit_length())
    return power * 3 // 4 if power > 64 and count <= power * 3 // 4 else power
