"""The reference: transformers' own `generate`, with a logits processor that samples as the engine must."""

from collections import deque
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import GenerationConfig, HiggsAudioV2ForConditionalGeneration, LogitsProcessor, LogitsProcessorList
from transformers.generation import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from higgs_recipes.configs.inference import SamplingConfig
from higgs_recipes.constants import FRAMES_PER_SECOND
from higgs_recipes.generation.prefill import Prompt


class SeededSampler(TemperatureLogitsWarper):
    """Logits processor that samples a code for each codebook and leaves it as the only one with a finite score.

    It runs after the delay-pattern processor of transformers. It samples from the distribution of
    `HiggsAudioV2GenerationMixin._sample`, with one random generator per clip, and ends a clip as in training.
    It is a `TemperatureLogitsWarper` because the mixin accepts only processors of known types.
    """

    def __init__(
        self, sampling: SamplingConfig, *, seeds: Sequence[int], num_codebooks: int, bos: int, eos: int
    ) -> None:
        super().__init__(temperature=sampling.temperature or 1.0)
        self.sampling = sampling
        self.num_codebooks = num_codebooks
        self.bos, self.eos = bos, eos
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.recent: deque[Tensor] = deque(maxlen=max(1, sampling.ras_win_len))
        self.num_ended: Tensor | int = 0  # number of codebooks that have ended, (B, 1)
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
            codebooks = torch.arange(self.num_codebooks, device=scores.device)
            must_end = (codebooks <= self.num_ended) & (self.num_ended > 0)  # (B, C)
            may_end |= must_end
            is_not_eos = torch.arange(codebook_size, device=scores.device) != self.eos
            scores.masked_fill_(must_end[..., None] & is_not_eos, -torch.inf)
        scores[..., self.bos].masked_fill_(is_free, -torch.inf)
        scores[..., self.eos].masked_fill_(is_free & ~may_end, -torch.inf)
        codes = self._sample(scores)
        self.recent.append(codes)
        self.num_ended = self.num_ended + (codes[:, :1] == self.eos)
        only_sampled = torch.full_like(scores, -torch.inf).scatter_(2, codes[..., None], 0.0)
        return only_sampled.view(-1, codebook_size)

    def _sample(self, scores: Tensor) -> Tensor:
        """Sample a code for each codebook: (B, C, V) -> (B, C)."""
        if self.sampling.temperature == 0:
            return scores.argmax(dim=-1)
        uniforms = [torch.rand(2, self.num_codebooks, generator=generator) for generator in self.generators]
        first, second = torch.stack(uniforms, dim=1).to(scores.device)  # (B, C) each
        warped = super().__call__(None, scores).flatten(0, 1)
        codes = _inverse_cdf(self.warpers(None, warped).view(scores.shape), first)
        if not (self.sampling.ras_win_len and self.recent):
            return codes
        window = torch.stack(list(self.recent))  # (W, B, C)
        is_special = (window == self.bos) | (window == self.eos)
        repeats = ((window == codes) & ~is_special).sum(dim=0)
        return torch.where(repeats >= self.sampling.ras_win_max_num_repeat, _inverse_cdf(scores, second), codes)


def _inverse_cdf(scores: Tensor, uniform: Tensor) -> Tensor:
    cumulative = scores.double().softmax(dim=-1).cumsum(dim=-1)
    threshold = uniform.double() * cumulative[..., -1]
    return (cumulative <= threshold[..., None]).sum(dim=-1)


@torch.inference_mode()
def reference_frames(
    model: HiggsAudioV2ForConditionalGeneration,
    prompts: Sequence[Prompt],
    sampling: SamplingConfig,
    *,
    processors: Callable[[Prompt], list[LogitsProcessor]] | None = None,
) -> list[Tensor]:
    """The frames (F, C) of each prompt, generated one by one up to the frame that is all EOS.

    Args:
        processors: of the logits of a prompt; by default the `SeededSampler`. Without any, transformers is greedy.
    """
    config = model.config
    bos, eos, num_codebooks = config.audio_stream_bos_id, config.audio_stream_eos_id, config.num_codebooks
    generation_config = GenerationConfig(
        do_sample=False,
        top_p=1.0,
        ras_win_len=1,  # transformers' own repetition-aware sampling never finds two repeats in one frame
        ras_win_max_num_repeat=2,
        max_new_tokens=round(sampling.max_seconds * FRAMES_PER_SECOND) + num_codebooks + 1,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
    )
    generated = []
    for prompt in prompts:
        ids, frames = torch.from_numpy(prompt.ids)[None], torch.from_numpy(prompt.frames)[None]
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if frames.shape[1]:
            inputs |= {"audio_input_ids": frames, "audio_input_ids_mask": torch.ones(frames.shape[:2]).bool()}
        if processors is None:
            chosen = [SeededSampler(sampling, seeds=[prompt.seed], num_codebooks=num_codebooks, bos=bos, eos=eos)]
        else:
            chosen = processors(prompt)
        clip = model.generate(
            **inputs, logits_processor=LogitsProcessorList(chosen), generation_config=generation_config
        )[0, frames.shape[1] :]
        ends = (clip == eos).all(dim=1).nonzero()
        generated.append(clip[: int(ends[0]) + 1] if len(ends) else clip)
    return generated
