"""Prompts -> keys and values in the slots of a KV cache, many prompts at once, without padding or a dense mask."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import HiggsAudioV2Config, HiggsAudioV2ForConditionalGeneration

from higgs_recipes.delay import delay_codes
from higgs_recipes.generation.kv_cache import KVCache
from higgs_recipes.modeling.varlen_forward import keys_and_values
from higgs_recipes.varlen_batch import flatten_positions


class Prompt(NamedTuple):
    """What the model reads before it generates a clip."""

    ids: np.ndarray  # (P,) int64 token ids, audio_token_id at each frame of a reference clip
    frames: np.ndarray  # (Na, C) int64, the delayed reference clips
    num_text: int  # positions without a frame
    seed: int  # of all random numbers of the clip


def build_prompt(ids: Tensor, ref_codes: Sequence[Tensor], *, seed: int, config: HiggsAudioV2Config) -> Prompt:
    """Replace each placeholder of a tokenized conversation by the frames of its reference clip.

    Args:
        ids: token ids (S0,) with one audio_token_id for each reference clip.
        ref_codes: codes (T_i, C) of the clips in their order.
    """
    clips = [delay_codes(codes.long()) for codes in ref_codes]  # (T_i + C + 1, C) each
    lengths = torch.ones_like(ids)
    lengths[ids == config.audio_token_id] = torch.tensor([len(clip) for clip in clips], dtype=torch.long)
    frames = torch.cat([torch.empty((0, config.num_codebooks), dtype=torch.long), *clips])
    expanded = ids.repeat_interleave(lengths)
    return Prompt(expanded.numpy(), frames.numpy(), num_text=len(expanded) - len(frames), seed=seed)


def prefill(
    model: HiggsAudioV2ForConditionalGeneration, prompts: Sequence[Prompt], cache: KVCache, slots: Sequence[int]
) -> None:
    """Write the keys and values of each prompt to its slot, from position 0."""
    lengths = [len(prompt.ids) for prompt in prompts]
    position_ids = np.concatenate([np.arange(length) for length in lengths])  # (P,)
    batch = flatten_positions(
        np.concatenate([prompt.ids for prompt in prompts]),
        position_ids,
        np.concatenate([prompt.frames for prompt in prompts]),
        model.config,
    )
    batch["slots"] = torch.from_numpy(np.repeat(np.array(slots), lengths))  # (P,)
    batch = {name: to_device(value, model.device) for name, value in batch.items()}
    for layer, (keys, values) in enumerate(keys_and_values(model.model, batch)):
        cache.write(layer, batch["slots"], batch["position_ids"], keys=keys, values=values)


def to_device(value: Tensor | int, device: torch.device) -> Tensor | int:
    """Copy a tensor without waiting for the device."""
    if not isinstance(value, Tensor) or device.type != "cuda":
        return value
    return value.pin_memory().to(device, non_blocking=True)
