"""Conversations -> codes with transformers' own `generate`: a seed for each clip, and a word on whether it stopped."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, LogitsProcessorList, PreTrainedTokenizerBase

from higgs_recipes.configs.inference import SamplingConfig
from higgs_recipes.constants import FRAMES_PER_SECOND
from higgs_recipes.delay import delay_codes, undelay_frames
from higgs_recipes.errors import InputError
from higgs_recipes.generation.sampler import SeededSampler
from higgs_recipes.samples import tokenize_prompt
from higgs_recipes.unwrap import unwrap_model


@dataclass(frozen=True)
class Request:
    """One clip to generate.

    Attributes:
        conversation: the turns of `chatml.conversation`; the last one, the assistant's, is what is generated.
        ref_codes: codes (T, C) of the reference clips, in the order of the turns.
        seed: of every draw of this clip.
    """

    conversation: list[dict]
    ref_codes: Sequence[Tensor]
    seed: int


@dataclass(frozen=True)
class Generation:
    """What came of a request: codes (T, C) int16 on CPU, and whether the model ended the clip before the cap."""

    codes: Tensor
    stopped: bool
    seed: int


def generate(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[Request],
    *,
    sampling: SamplingConfig,
) -> list[Generation]:
    """Generate a clip for each request, `sampling.batch_size` at a time.

    Each clip draws from a generator of its own, so that a seed gives the same codes in any batch, as long as the
    arithmetic of the batch rounds alike (in float32 it does but for draws that fall on the very edge of a code).

    Raises:
        InputError: a request has more or fewer reference clips than its conversation.
    """
    prompts = [_prompt(request, tokenizer) for request in requests]
    for request, prompt in zip(requests, prompts, strict=True):
        num_placeholders = int((prompt == unwrap_model(model).config.audio_token_id).sum())
        if num_placeholders != len(request.ref_codes):
            raise InputError(f"{num_placeholders} reference turns for {len(request.ref_codes)} reference clips")
    generations: list[Generation] = []
    for start in range(0, len(requests), sampling.batch_size):
        chosen = slice(start, start + sampling.batch_size)
        generations += _generate_batch(unwrap_model(model), prompts[chosen], requests[chosen], sampling=sampling)
    return generations


def _prompt(request: Request, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    return tokenize_prompt(request.conversation[:-1], tokenizer, add_generation_prompt=True)


@torch.inference_mode()
def _generate_batch(
    model: nn.Module, prompts: Sequence[Tensor], requests: Sequence[Request], *, sampling: SamplingConfig
) -> list[Generation]:
    config = model.config
    bos, eos, num_codebooks = config.audio_stream_bos_id, config.audio_stream_eos_id, config.num_codebooks
    references = [
        torch.cat([torch.empty((0, num_codebooks), dtype=torch.long)] + [delay_codes(clip.long()) for clip in clips])
        for clips in (request.ref_codes for request in requests)
    ]  # (F_i, C)
    expanded = []
    for prompt, request in zip(prompts, requests, strict=True):
        repeats = torch.ones_like(prompt)
        lengths = [len(clip) + num_codebooks + 1 for clip in request.ref_codes]
        repeats[prompt == config.audio_token_id] = torch.tensor(lengths, dtype=torch.long)
        expanded.append(prompt.repeat_interleave(repeats))

    num_positions = max(map(len, expanded))
    inputs = {
        "input_ids": torch.full((len(requests), num_positions), config.pad_token_id),  # (B, S), padded on the left
        "attention_mask": torch.zeros((len(requests), num_positions), dtype=torch.long),
    }
    for index, ids in enumerate(expanded):
        inputs["input_ids"][index, -len(ids) :] = ids
        inputs["attention_mask"][index, -len(ids) :] = 1
    num_frames = max(map(len, references))
    if num_frames:
        inputs["audio_input_ids"] = torch.full((len(requests), num_frames, num_codebooks), eos)  # (B, F, C)
        inputs["audio_input_ids_mask"] = torch.zeros((len(requests), num_frames), dtype=torch.bool)
        for index, frames in enumerate(references):
            inputs["audio_input_ids"][index, : len(frames)] = frames
            inputs["audio_input_ids_mask"][index, : len(frames)] = True

    max_steps = round(sampling.max_seconds * FRAMES_PER_SECOND)
    sampler = SeededSampler(
        sampling, seeds=[request.seed for request in requests], num_codebooks=num_codebooks, bos=bos, eos=eos
    )
    frames = model.generate(
        **{name: tensor.to(model.device) for name, tensor in inputs.items()},
        logits_processor=LogitsProcessorList([sampler]),
        # A config of our own: the checkpoint's would warm the logits and draw again, from the global generator. The
        # sampler has drawn; it leaves one code, which is the likeliest.
        generation_config=GenerationConfig(
            do_sample=False,
            top_p=1.0,  # the checkpoint's would be warned of
            # What is left out here is filled in from the checkpoint, and its repetition-aware sampling would replace
            # codes behind the sampler's back: a window of one frame never holds two repeats.
            ras_win_len=1,
            ras_win_max_num_repeat=2,
            max_new_tokens=max_steps + num_codebooks + 1,
            eos_token_id=config.eos_token_id,
            pad_token_id=config.pad_token_id,
        ),
    )[:, num_frames:].cpu()  # (B, F, C)
    return [
        Generation(*_codes_of(clip, eos=eos), seed=request.seed)
        for clip, request in zip(frames, requests, strict=True)
    ]


def _codes_of(frames: Tensor, *, eos: int) -> tuple[Tensor, bool]:
    """Codes (T, C) of generated frames (F, C), and whether every codebook ended.

    A clip that the cap cut keeps the steps before its first end mark, if it has one.
    """
    all_ended = (frames == eos).all(dim=1).nonzero()
    if len(all_ended):
        return undelay_frames(frames[: int(all_ended[0]) + 1]).to(torch.int16), True
    codes = undelay_frames(frames)
    ended = (codes == eos).any(dim=1).nonzero()
    return codes[: int(ended[0]) if len(ended) else len(codes)].to(torch.int16), False
