"""Sampling of codes: temperature, top-k, top-p and repetition-aware sampling, with a generator for each clip."""

from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import LogitsProcessorList
from transformers.generation import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from higgs_recipes.configs.inference import SamplingConfig


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
