"""Sample the codes of a frame: delay pattern, temperature, top-k, top-p and repetition-aware sampling.

Everything is a tensor operation without data-dependent shapes, so that a step of the engine can be captured as a CUDA
graph. The distribution is that of `HiggsAudioV2GenerationMixin._sample` of transformers, with two differences:

- Codebook k ends k frames after the first, as in training. transformers ends it one frame late.
- The random numbers are given, two for each codebook and frame.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from higgs_recipes.configs.inference import SamplingConfig


class FrameContext(NamedTuple):
    """What sampling one frame of B streams depends on, besides the logits."""

    frame: Tensor  # (B,) index of the frame in its clip; frame 0 is all BOS and is not sampled
    num_ended: Tensor  # (B,) number of codebooks that have ended
    recent: Tensor  # (B, W, C) the last W frames, BOS before the clip; W is 0 without repetition-aware sampling
    uniforms: Tensor  # (B, 2, C) random numbers in [0, 1): first draw, second draw of repeated codes


def sample_codes(logits: Tensor, context: FrameContext, sampling: SamplingConfig, *, bos: int, eos: int) -> Tensor:
    """Sample the next frame of each stream: logits (B, C, V) in float32 -> codes (B, C).

    Codebook k is BOS up to frame k and EOS from the k-th frame after the first codebook's EOS. In between, BOS is
    never sampled, and EOS only for the first codebook after at least one code. `logits` is overwritten.
    """
    codebooks = torch.arange(logits.shape[1], device=logits.device)  # (C,)
    logits[..., bos] = -torch.inf
    logits[:, 1:, eos] = -torch.inf
    logits[:, 0, eos] = torch.where(context.frame >= 2, logits[:, 0, eos], -torch.inf)
    if sampling.temperature == 0:
        codes = logits.argmax(dim=-1)
    else:
        codes = _sample_free(logits, context, sampling)
    num_ended = context.num_ended[:, None]
    codes = torch.where((codebooks <= num_ended) & (num_ended > 0), eos, codes)
    return torch.where(codebooks >= context.frame[:, None], bos, codes)


def _sample_free(logits: Tensor, context: FrameContext, sampling: SamplingConfig) -> Tensor:
    """Codes (B, C) as if no codebook were forced to BOS or EOS."""
    first, second = context.uniforms.unbind(dim=1)  # (B, C) each
    scores = logits / sampling.temperature
    weights = scores.softmax(dim=-1)
    lowest = _lowest_kept(scores, sampling)
    codes = _inverse_cdf(weights if lowest is None else weights * (scores >= lowest), first)
    if not sampling.ras_win_len:
        return codes
    # Repetition-aware sampling (arXiv 2406.05370): a code that is frequent in the window is sampled again, from the
    # distribution without temperature, top-k and top-p. The window's BOS and EOS never equal a free code.
    repeats = (context.recent == codes[:, None]).sum(dim=1)  # (B, C)
    again = _inverse_cdf(logits.softmax(dim=-1), second)
    return torch.where(repeats >= sampling.ras_win_max_num_repeat, again, codes)


def _lowest_kept(scores: Tensor, sampling: SamplingConfig) -> Tensor | None:
    """The lowest score (B, C, 1) that top-k and top-p keep of scores (B, C, V); None: they keep all codes.

    Equal scores are kept or removed together.
    """
    num_codes = scores.shape[-1]
    top_k = min(sampling.top_k or num_codes, num_codes)
    if top_k == num_codes and sampling.top_p == 1:
        return None
    rising = scores.topk(top_k, dim=-1).values.flip(-1)  # (B, C, top_k)
    if sampling.top_p == 1:
        return rising[..., :1]
    # As TopPLogitsWarper: what has at most 1 - top_p at and below it goes, but never the highest.
    cumulative = rising.softmax(dim=-1).cumsum(dim=-1)
    num_removed = (cumulative[..., :-1] <= 1 - sampling.top_p).sum(dim=-1, keepdim=True)
    return rising.gather(-1, num_removed)


def _inverse_cdf(weights: Tensor, uniform: Tensor) -> Tensor:
    """Sample by inverse transform: the first code whose cumulative weight exceeds a share in [0, 1) of the whole.

    (B, C, V), (B, C) -> (B, C)
    """
    cumulative = weights.double().cumsum(dim=-1)
    return (cumulative <= (uniform * cumulative[..., -1])[..., None]).sum(dim=-1)
