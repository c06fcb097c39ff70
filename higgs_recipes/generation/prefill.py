"""Prompts -> keys and values in the slots of a KV cache, many prompts at once, without padding or a dense mask."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import HiggsAudioV2Config, HiggsAudioV2ForConditionalGeneration

from higgs_recipes.delay import delay_codes
from higgs_recipes.generation.kv_cache import KVCache
from higgs_recipes.modeling.varlen_forward import keys_and_values
from higgs_recipes.varlen_batch import FlatPositions, flatten_positions


class Prompt(NamedTuple):
    """What the model reads before it generates a clip."""

    ids: np.ndarray  # (P,) int64 token ids, audio_token_id at each frame of a reference clip
    frames: np.ndarray  # (Na, C) int64, the delayed reference clips
    num_text: int  # positions without a frame
    seed: int  # of all random numbers of the clip
    max_frames: int | None = None  # of the clip, those of the delay included; None: as many as the engine allows


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


class PrefillBatch(FlatPositions):
    """The positions of some prompts, and where their keys and values are written."""

    slots: Tensor  # (P,)
    places: Tensor  # (P,) positions in the slot


class PrefillSize(NamedTuple):
    """The shapes of a `PrefillBatch` after padding."""

    num_text: int  # more than the prompts have
    num_audio: int
    num_prompts: int


def prefill(
    model: HiggsAudioV2ForConditionalGeneration, prompts: Sequence[Prompt], slots: Sequence[int], *, cache: KVCache
) -> None:
    """Write the keys and values of each prompt to its slot, from position 0."""
    batch = prefill_batch(prompts, slots, model.config)
    write_prompts(model, {name: to_device(value, model.device) for name, value in batch.items()}, cache)


def write_prompts(model: HiggsAudioV2ForConditionalGeneration, batch: PrefillBatch, cache: KVCache) -> None:
    """Write the keys and values of a batch that is on the model's device."""
    for layer, (keys, values) in enumerate(keys_and_values(model.model, batch)):
        cache.write(layer, batch["slots"], batch["places"], keys=keys, values=values)


def prefill_batch(
    prompts: Sequence[Prompt],
    slots: Sequence[int],
    config: HiggsAudioV2Config,
    *,
    size: PrefillSize | None = None,
) -> PrefillBatch:
    """Concatenate prompts, without padding or padded to a size.

    The padding is one more prompt and empty ones. It is written behind the first prompt, where the first decode step
    writes its own keys before it reads them.
    """
    ids = [prompt.ids for prompt in prompts]
    places = [np.arange(len(prompt)) for prompt in ids]
    rows = [np.full(len(prompt), slot) for prompt, slot in zip(ids, slots, strict=True)]
    frames = [prompt.frames for prompt in prompts]
    position_ids = list(places)
    if size is not None:
        num_audio = size.num_audio - sum(len(clip) for clip in frames)
        num_text = size.num_text - sum(prompt.num_text for prompt in prompts)
        padding = np.repeat([0, config.audio_token_id], [num_text, num_audio])  # (P,)
        frames.append(np.zeros((num_audio, config.num_codebooks), dtype=np.int64))
        position_ids.append(np.arange(len(padding)))
        places.append(np.full(len(padding), len(ids[0])))
        rows.append(np.full(len(padding), slots[0]))
        ids.append(padding)
    batch = flatten_positions(np.concatenate(ids), np.concatenate(position_ids), np.concatenate(frames), config)
    if size is not None:
        starts, length = batch["sample_starts"], len(batch["position_ids"])
        batch["sample_starts"] = F.pad(starts, (0, size.num_prompts + 2 - len(starts)), value=length)
        batch["max_length"] = length
    return batch | {
        "slots": torch.from_numpy(np.concatenate(rows)),
        "places": torch.from_numpy(np.concatenate(places)),
    }


def to_device(value: Tensor | int, device: torch.device) -> Tensor | int:
    """Copy a tensor without waiting for the device."""
    if not isinstance(value, Tensor) or device.type != "cuda":
        return value
    return value.pin_memory().to(device, non_blocking=True)
