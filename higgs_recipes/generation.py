"""Conversations -> codes with transformers' own `generate`: a seed for each clip, and a word on whether it stopped."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from accelerate import PartialState
from torch import Tensor, nn
from transformers import GenerationConfig, LogitsProcessorList, PreTrainedTokenizerBase
from transformers.generation import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from higgs_recipes.configs import SamplingConfig
from higgs_recipes.delay import FRAMES_PER_SECOND, delay_codes, undelay_frames
from higgs_recipes.errors import InputError
from higgs_recipes.modeling import innermost
from higgs_recipes.samples import tokenize_prompt


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


def single_device() -> torch.device:
    """The device of a script that speaks; it does so in one process.

    Raises:
        InputError: several were launched; each would generate everything and write the same folder.
    """
    state = PartialState()
    if state.num_processes > 1:
        raise InputError(f"generation runs in one process, {state.num_processes} were launched: use --num_processes 1")
    return state.device


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
        num_placeholders = int((prompt == innermost(model).config.audio_token_id).sum())
        if num_placeholders != len(request.ref_codes):
            raise InputError(f"{num_placeholders} reference turns for {len(request.ref_codes)} reference clips")
    generations: list[Generation] = []
    for start in range(0, len(requests), sampling.batch_size):
        chosen = slice(start, start + sampling.batch_size)
        generations += _generate_batch(innermost(model), prompts[chosen], requests[chosen], sampling=sampling)
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


class SeededSampler(TemperatureLogitsWarper):
    """Draws a code for each codebook and leaves it as the only one with a finite score.

    It runs after transformers' own processor of the delay pattern, which forces the codes around a clip, and replaces
    what `HiggsAudioV2GenerationMixin._sample` draws: the same distribution (temperature, top-k, top-p, and repetition-
    aware sampling, arXiv 2406.05370, which draws a code that is frequent in the last frames again from the plain
    distribution), but from a generator for each clip. BOS is never drawn, EOS only for the first codebook and after a
    code or more; it then ends codebook k k frames later, as in training, where transformers' processor is a frame late
    and would let a code be drawn behind the end. (A `TemperatureLogitsWarper`: the mixin refuses other types.)

    Args:
        seeds: one for each clip of the batch.
    """

    def __init__(
        self, sampling: SamplingConfig, *, seeds: Sequence[int], num_codebooks: int, bos: int, eos: int
    ) -> None:
        super().__init__(temperature=sampling.temperature or 1.0)
        self.sampling = sampling
        self.num_codebooks = num_codebooks
        self.bos, self.eos = bos, eos
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        # The frames drawn last, (B, C) each: the window of repetition-aware sampling, and at least one.
        self.recent: deque[Tensor] = deque(maxlen=max(1, sampling.ras_win_len))
        self.num_ended: Tensor | int = 0  # frames since the end began, (B, 1)
        self.warpers = LogitsProcessorList()
        if sampling.top_k:
            self.warpers.append(TopKLogitsWarper(sampling.top_k))
        if sampling.top_p < 1:
            self.warpers.append(TopPLogitsWarper(sampling.top_p))

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        codebook_size = scores.shape[-1]
        scores = scores.view(-1, self.num_codebooks, codebook_size).clone()  # (B, C, V)
        is_free = scores.isfinite().sum(dim=-1) > 1  # (B, C)
        may_end = torch.zeros_like(is_free)
        if self.recent:
            may_end[:, 0] = self.recent[-1][:, 0] != self.bos
            ends = (torch.arange(self.num_codebooks, device=scores.device) <= self.num_ended) & (self.num_ended > 0)
            may_end |= ends
            others = torch.arange(codebook_size, device=scores.device) != self.eos
            scores.masked_fill_(ends[..., None] & others, -torch.inf)
        scores[..., self.bos].masked_fill_(is_free, -torch.inf)
        scores[..., self.eos].masked_fill_(is_free & ~may_end, -torch.inf)
        drawn = self._draw(scores)
        self.remember(drawn)
        only = torch.full_like(scores, -torch.inf).scatter_(2, drawn[..., None], 0.0)
        return only.view(-1, codebook_size)

    def remember(self, drawn: Tensor) -> None:
        """Take note of a frame (B, C): the next ones hang on it."""
        self.recent.append(drawn)
        self.num_ended = self.num_ended + (drawn[:, :1] == self.eos)

    def _draw(self, scores: Tensor) -> Tensor:
        """A code for each codebook: (B, C, V) -> (B, C)."""
        if self.sampling.temperature == 0:
            return scores.argmax(dim=-1)
        # As many draws a frame whatever comes, so that a clip's later draws do not hang on its earlier ones.
        draws = [torch.rand(2, self.num_codebooks, generator=generator) for generator in self.generators]
        first, again = torch.stack(draws, dim=1).to(scores.device)  # (B, C) each
        warped = super().__call__(None, scores).flatten(0, 1)
        drawn = _inverse_cdf(self.warpers(None, warped).view(scores.shape), first)
        if not (self.sampling.ras_win_len and self.recent):
            return drawn
        window = torch.stack(list(self.recent))  # (W, B, C)
        is_mark = (window == self.bos) | (window == self.eos)
        repeats = ((window == drawn) & ~is_mark).sum(dim=0)
        return torch.where(repeats >= self.sampling.ras_win_max_num_repeat, _inverse_cdf(scores, again), drawn)


def _inverse_cdf(scores: Tensor, uniform: Tensor) -> Tensor:
    """The code at which the cumulated probability passes a number in [0, 1): (B, C, V), (B, C) -> (B, C)."""
    cumulated = scores.double().softmax(dim=-1).cumsum(dim=-1)
    # The sum of all probabilities may round to just below 1.
    threshold = uniform.double() * cumulated[..., -1]
    return (cumulated <= threshold[..., None]).sum(dim=-1)
