"""Sample codes with temperature, top-k, top-p and repetition-aware sampling, from one random generator per clip."""

from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import LogitsProcessorList
from transformers.generation import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from higgs_recipes.configs.inference import SamplingConfig


class SeededSampler(TemperatureLogitsWarper):
    """Logits processor that samples a code for each codebook and leaves it as the only one with a finite score.

    It runs after the delay-pattern processor of transformers, which forces the codes before and after a clip. It
    samples from the distribution of `HiggsAudioV2GenerationMixin._sample`: temperature, top-k, top-p and
    repetition-aware sampling (arXiv 2406.05370), which samples again, from the distribution before temperature, top-k
    and top-p, if the code is frequent in the last frames. There are two differences:

    - Each clip has its own random generator.
    - BOS is never sampled. EOS is sampled only for the first codebook, after at least one code; codebook k then ends k
      frames later, as in training. The processor of transformers ends it one frame late and allows a code after the
      end.

    It is a `TemperatureLogitsWarper` because the mixin accepts only processors of known types.

    Args:
        sampling: temperature, top_k, top_p, ras_win_len and ras_win_max_num_repeat.
        seeds: one per clip of the batch.
        num_codebooks: C.
        bos, eos: codes of the audio stream.
    """

    def __init__(
        self, sampling: SamplingConfig, *, seeds: Sequence[int], num_codebooks: int, bos: int, eos: int
    ) -> None:
        super().__init__(temperature=sampling.temperature or 1.0)
        self.sampling = sampling
        self.num_codebooks = num_codebooks
        self.bos, self.eos = bos, eos
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        # The last sampled frames, (B, C) each: the window of repetition-aware sampling, but at least one frame.
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
        frame = self._sample_frame(scores)
        self.append_frame(frame)
        only_sampled = torch.full_like(scores, -torch.inf).scatter_(2, frame[..., None], 0.0)
        return only_sampled.view(-1, codebook_size)

    def append_frame(self, frame: Tensor) -> None:
        """Add a sampled frame (B, C) to the history."""
        self.recent.append(frame)
        self.num_ended = self.num_ended + (frame[:, :1] == self.eos)

    def _sample_frame(self, scores: Tensor) -> Tensor:
        """Sample a code for each codebook: (B, C, V) -> (B, C)."""
        if self.sampling.temperature == 0:
            return scores.argmax(dim=-1)
        # Both rows are used up in every frame, so the random numbers of a frame do not depend on earlier codes.
        uniforms = [torch.rand(2, self.num_codebooks, generator=generator) for generator in self.generators]
        first, second = torch.stack(uniforms, dim=1).to(scores.device)  # (B, C) each
        warped = super().__call__(None, scores).flatten(0, 1)
        frame = _inverse_cdf(self.warpers(None, warped).view(scores.shape), first)
        if not (self.sampling.ras_win_len and self.recent):
            return frame
        window = torch.stack(list(self.recent))  # (W, B, C)
        is_special = (window == self.bos) | (window == self.eos)
        repeats = ((window == frame) & ~is_special).sum(dim=0)
        return torch.where(repeats >= self.sampling.ras_win_max_num_repeat, _inverse_cdf(scores, second), frame)


def _inverse_cdf(scores: Tensor, uniform: Tensor) -> Tensor:
    """Sample by inverse transform: the first code whose cumulative probability exceeds a number in [0, 1).

    (B, C, V), (B, C) -> (B, C)
    """
    cumulative = scores.double().softmax(dim=-1).cumsum(dim=-1)
    # Scaled, because rounding can make the sum of all probabilities less than 1.
    threshold = uniform.double() * cumulative[..., -1]
    return (cumulative <= threshold[..., None]).sum(dim=-1)
