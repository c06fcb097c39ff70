"""The engine's KV cache: one slot of fixed size for each stream, and how many slots fit into memory."""

import logging
from dataclasses import dataclass

import psutil
import torch
from torch import Tensor
from transformers import HiggsAudioV2Config, HiggsAudioV2ForConditionalGeneration

from higgs_recipes.errors import InputError


logger = logging.getLogger(__name__)

PREFILL_POSITIONS = 8192  # prompts are read in batches of at most this many positions, or one by one
_MARGIN_BYTES = 2**29  # CUDA graphs, workspaces of libraries, logits
_GIB = 2**30


@dataclass(frozen=True)
class KVCache:
    """Keys and values of L layers, N slots, KV heads, P positions and D numbers a head."""

    keys: Tensor  # (L, N, KV, P, D)
    values: Tensor  # (L, N, KV, P, D)

    @classmethod
    def allocate(
        cls, config: HiggsAudioV2Config, *, slots: int, positions: int, dtype: torch.dtype, device: torch.device
    ) -> "KVCache":
        """Zeros, since masked positions are multiplied by 0: they must be finite."""
        shape = (config.num_hidden_layers, slots, config.num_key_value_heads, positions, config.head_dim)
        return cls(*(torch.zeros(shape, dtype=dtype, device=device) for _ in range(2)))

    def write(self, layer: int, slots: Tensor, positions: Tensor, *, keys: Tensor, values: Tensor) -> None:
        """Store keys and values (P, KV, D) of one layer at (slot, position) of two index vectors (P,)."""
        self.keys[layer][slots, :, positions] = keys
        self.values[layer][slots, :, positions] = values

    def move(self, source: int, target: int, *, positions: int) -> None:
        """Copy the first positions of one slot to another."""
        for cached in (self.keys, self.values):
            cached[:, target, :, :positions] = cached[:, source, :, :positions]


def plan_slots(model: HiggsAudioV2ForConditionalGeneration, *, wanted: int, positions: int, dtype: torch.dtype) -> int:
    """How many of the wanted slots of `positions` positions fit beside the model; logs the plan.

    Raises:
        InputError: not even one slot fits.
    """
    config, device = model.config, model.device
    per_position = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * dtype.itemsize
    per_slot = positions * per_position
    # A layer's hidden states, their projections and the three products of its feed-forward network.
    prefill_row = (10 * config.hidden_size + 3 * config.intermediate_size) * dtype.itemsize
    reserved = min(max(PREFILL_POSITIONS, positions), wanted * positions) * prefill_row + _MARGIN_BYTES
    free = free_memory(device)
    slots = min(wanted, max(0, free - reserved) // per_slot)
    weights = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    plan = (
        f"weights {weights / _GIB:.1f} GiB, {slots} of {wanted} slots of {positions} positions with "
        f"{per_slot / 2**20:.1f} MiB each, {reserved / _GIB:.1f} GiB reserved, {free / _GIB:.1f} GiB free"
    )
    if slots == 0:
        raise InputError(f"generation does not fit into memory ({plan}): lower max_seconds, or shorten the prompt")
    logger.info("generation: %s", plan)
    return slots


def free_memory(device: torch.device) -> int:
    """Bytes that can still be allocated. On a CPU: what the operating system has available."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return psutil.virtual_memory().available
