"""Generate codes for conversations with the `generate` of transformers, with one seed per clip."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, HiggsAudioV2Config, LogitsProcessorList, PreTrainedTokenizerBase

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
        conversation: the turns of `chatml.conversation`; the last turn, of the assistant, is generated.
        ref_codes: codes (T, C) of the reference clips, in the order of the turns.
        seed: of all random numbers of this clip.
    """

    conversation: list[dict]
    ref_codes: Sequence[Tensor]
    seed: int


@dataclass(frozen=True)
class Generation:
    """The result of a request.

    Attributes:
        codes: codes (T, C) int16 on CPU.
        stopped: whether the model ended the clip before `max_seconds`.
        seed: of the request.
    """

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

    Each clip has its own random generator, so its codes do not depend on the rest of the batch, apart from rounding:
    batch size can change the last digits of the logits, which in float32 rarely changes a sampled code.

    Raises:
        InputError: the number of reference clips of a request differs from the number in its conversation.
    """
    prompts = [_tokenize_prompt(request, tokenizer) for request in requests]
    for request, prompt in zip(requests, prompts, strict=True):
        num_placeholders = int((prompt == unwrap_model(model).config.audio_token_id).sum())
        if num_placeholders != len(request.ref_codes):
            raise InputError(
                f"the conversation has {num_placeholders} reference turns, but there are {len(request.ref_codes)} "
                "reference clips"
            )
    generations: list[Generation] = []
    for start in range(0, len(requests), sampling.batch_size):
        batch = slice(start, start + sampling.batch_size)
        generations += _generate_batch(unwrap_model(model), prompts[batch], requests[batch], sampling=sampling)
    return generations


def _tokenize_prompt(request: Request, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    return tokenize_prompt(request.conversation[:-1], tokenizer, add_generation_prompt=True)


@torch.inference_mode()
def _generate_batch(
    model: nn.Module, prompts: Sequence[Tensor], requests: Sequence[Request], *, sampling: SamplingConfig
) -> list[Generation]:
    config = model.config
    bos, eos, num_codebooks = config.audio_stream_bos_id, config.audio_stream_eos_id, config.num_codebooks
    inputs = _batch_inputs(prompts, [request.ref_codes for request in requests], config=config)
    num_ref_frames = inputs["audio_input_ids"].shape[1] if "audio_input_ids" in inputs else 0
    max_steps = round(sampling.max_seconds * FRAMES_PER_SECOND)
    sampler = SeededSampler(
        sampling, seeds=[request.seed for request in requests], num_codebooks=num_codebooks, bos=bos, eos=eos
    )
    frames = model.generate(
        **{name: tensor.to(model.device) for name, tensor in inputs.items()},
        logits_processor=LogitsProcessorList([sampler]),
        # The generation config of the checkpoint would warp the logits and sample again, from the global generator.
        # Here the sampler leaves a single code per codebook, and greedy decoding picks it.
        generation_config=GenerationConfig(
            do_sample=False,
            top_p=1.0,  # the checkpoint's value causes a warning
            # Fields that are not set are filled in from the checkpoint, whose repetition-aware sampling would replace
            # sampled codes. A window of one frame never has two repeats.
            ras_win_len=1,
            ras_win_max_num_repeat=2,
            max_new_tokens=max_steps + num_codebooks + 1,
            eos_token_id=config.eos_token_id,
            pad_token_id=config.pad_token_id,
        ),
    )[:, num_ref_frames:].cpu()  # (B, F, C)
    return [
        Generation(*_codes_of(clip, eos=eos), seed=request.seed)
        for clip, request in zip(frames, requests, strict=True)
    ]


def _batch_inputs(
    prompts: Sequence[Tensor], ref_codes: Sequence[Sequence[Tensor]], *, config: HiggsAudioV2Config
) -> dict[str, Tensor]:
    """The prompts (S_i,), expanded to one placeholder per reference frame, and the frames, as one padded batch."""
    batch_size, num_codebooks = len(prompts), config.num_codebooks
    no_frames = torch.empty((0, num_codebooks), dtype=torch.long)
    references = [
        torch.cat([no_frames] + [delay_codes(codes.long()) for codes in clips]) for clips in ref_codes
    ]  # (F_i, C)
    expanded = []
    for prompt, clips in zip(prompts, ref_codes, strict=True):
        repeats = torch.ones_like(prompt)
        num_frames = [len(codes) + num_codebooks + 1 for codes in clips]
        repeats[prompt == config.audio_token_id] = torch.tensor(num_frames, dtype=torch.long)
        expanded.append(prompt.repeat_interleave(repeats))

    num_positions = max(map(len, expanded))
    inputs = {
        "input_ids": torch.full((batch_size, num_positions), config.pad_token_id),  # (B, S), left-padded
        "attention_mask": torch.zeros((batch_size, num_positions), dtype=torch.long),
    }
    for index, input_ids in enumerate(expanded):
        inputs["input_ids"][index, -len(input_ids) :] = input_ids
        inputs["attention_mask"][index, -len(input_ids) :] = 1
    max_frames = max(map(len, references))
    if max_frames:
        eos = config.audio_stream_eos_id
        inputs["audio_input_ids"] = torch.full((batch_size, max_frames, num_codebooks), eos)  # (B, F, C)
        inputs["audio_input_ids_mask"] = torch.zeros((batch_size, max_frames), dtype=torch.bool)
        for index, frames in enumerate(references):
            inputs["audio_input_ids"][index, : len(frames)] = frames
            inputs["audio_input_ids_mask"][index, : len(frames)] = True
    return inputs


def _codes_of(frames: Tensor, *, eos: int) -> tuple[Tensor, bool]:
    """The codes (T, C) in generated frames (F, C), and whether all codebooks ended.

    A clip that was cut at the maximum length keeps the steps before its first EOS, if it has one.
    """
    all_ended = (frames == eos).all(dim=1).nonzero()
    if len(all_ended):
        return undelay_frames(frames[: int(all_ended[0]) + 1]).to(torch.int16), True
    codes = undelay_frames(frames)
    steps_with_eos = (codes == eos).any(dim=1).nonzero()
    return codes[: int(steps_with_eos[0]) if len(steps_with_eos) else len(codes)].to(torch.int16), False
