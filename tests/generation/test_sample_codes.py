"""Sampling of a frame: transformers' distribution, the delay pattern of training, repetition-aware sampling."""

import pytest
import torch
from transformers import LogitsProcessorList
from transformers.generation import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from higgs_recipes.configs.inference import SamplingConfig
from higgs_recipes.generation.sample_codes import FrameContext, _lowest_kept, sample_codes


BOS, EOS = 6, 7  # of 8 codes


def sample(
    sampling: SamplingConfig, scores: torch.Tensor, *, seed: int = 0, history=(), frame: int | None = None
) -> torch.Tensor:
    """Codes (B, C) of scores (B, C, V) after the frames of `history`; without any, a frame that no pattern forces."""
    num_streams, num_codebooks, _ = scores.shape
    generator = torch.Generator().manual_seed(seed)
    frames = torch.tensor(list(history) or [[BOS] * num_codebooks]).expand(num_streams, -1, -1)  # (B, F, C)
    window = torch.full((num_streams, sampling.ras_win_len, num_codebooks), BOS)
    context = FrameContext(
        frame=torch.full((num_streams,), frame or (len(history) if history else 100)),
        num_ended=(frames[:, :, 0] == EOS).sum(dim=1),
        recent=torch.cat([window, frames], dim=1)[:, frames.shape[1] :],
        uniforms=torch.rand(num_streams, 2, num_codebooks, generator=generator),
    )
    return sample_codes(scores.clone(), context, sampling, bos=BOS, eos=EOS)


def warp(scores: torch.Tensor, sampling: SamplingConfig) -> torch.Tensor:
    """The scores (B, C, V) with all that top-k and top-p remove at -inf."""
    return scores.masked_fill(scores < _lowest_kept(scores, sampling), -torch.inf)


def test_sampled_codes_follow_the_distribution():
    scores = torch.tensor([0.5, 0.25, 0.25, 0, 0, 0, 0, 0]).log().expand(4000, 1, 8)
    codes = sample(SamplingConfig(top_k=0, top_p=1.0, ras_win_len=0), scores)
    shares = torch.bincount(codes.flatten(), minlength=8) / 4000
    assert torch.allclose(shares[:3], torch.tensor([0.5, 0.25, 0.25]), atol=0.03)
    assert shares[3:].sum() == 0


def test_top_k_and_top_p_leave_out_unlikely_codes():
    scores = torch.tensor([0.6, 0.3, 0.1, 0, 0, 0, 0, 0]).log().expand(300, 1, 8)
    likely = sample(SamplingConfig(top_k=2, top_p=1.0, ras_win_len=0), scores)
    assert set(likely.flatten().tolist()) == {0, 1}
    likeliest = sample(SamplingConfig(top_k=0, top_p=0.5, ras_win_len=0), scores)
    assert set(likeliest.flatten().tolist()) == {0}


@pytest.mark.parametrize(
    "fields", [{}, {"temperature": 0.3}, {"top_k": 0, "top_p": 0.8}, {"top_k": 5, "top_p": 1.0}, {"top_p": 0.01}]
)
def test_what_is_left_is_what_transformers_leaves(fields):
    sampling = SamplingConfig(**fields)
    warpers = LogitsProcessorList([TemperatureLogitsWarper(sampling.temperature)])
    if sampling.top_k:
        warpers.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        warpers.append(TopPLogitsWarper(sampling.top_p))
    scores = 3 * torch.randn(200, 8, 1026, generator=torch.Generator().manual_seed(0))
    scores[..., 1024] = -torch.inf
    expected = warpers(None, scores.flatten(0, 1)).view(scores.shape)
    assert torch.equal(warp(scores / sampling.temperature, sampling), expected)


def test_equal_scores_at_the_edge_stay_together():
    scores = torch.tensor([2.0, 1.0, 1.0, 1.0, 0.0])[None, None]
    assert warp(scores, SamplingConfig(top_k=2, top_p=1.0)).isfinite().tolist() == [[[True] * 4 + [False]]]
    assert warp(scores, SamplingConfig(top_k=0, top_p=0.6)).isfinite().tolist() == [[[True] * 4 + [False]]]


def test_a_clip_begins_with_bos_down_the_codebooks():
    scores = torch.zeros(1, 4, 8)
    scores[..., 2] = 1.0
    greedy = SamplingConfig(temperature=0)
    for frame in (1, 2, 3, 4):
        assert sample(greedy, scores, frame=frame).tolist() == [[2] * frame + [BOS] * (4 - frame)]


def test_bos_and_eos_are_sampled_only_where_the_pattern_has_them():
    scores = torch.full((1, 3, 8), -5.0)
    scores[..., BOS] = scores[..., EOS] = 50.0  # the model prefers BOS and EOS everywhere
    greedy = SamplingConfig(temperature=0)
    assert (sample(greedy, scores, history=[[6, 6, 6]])[:, 0] < 6).all()  # no empty clip
    assert sample(greedy, scores, history=[[6, 6, 6], [1, 6, 6]]).tolist()[0][0] == EOS
    assert (sample(greedy, scores, history=[[6, 6, 6], [1, 6, 6], [1, 2, 6]])[:, 1:] < 6).all()


def test_codebook_k_ends_k_frames_after_the_first():
    scores = torch.zeros(1, 3, 8)
    scores[..., 0] = 1.0
    greedy = SamplingConfig(temperature=0)
    begun = [[6, 6, 6], [1, 6, 6], [7, 2, 6]]
    assert sample(greedy, scores, history=begun).tolist() == [[7, 7, 0]]
    assert sample(greedy, scores, history=[*begun, [7, 7, 3]]).tolist() == [[7, 7, 7]]


def test_a_repeated_code_is_sampled_again_from_all_codes():
    scores = torch.tensor([3.0, 2.9, 0, 0, 0, 0, 0, 0]).expand(400, 1, 8)
    only_first = {"top_k": 1, "top_p": 1.0, "ras_win_max_num_repeat": 2}
    repeated, fresh = [[0], [0]], [[0], [1]]
    aware = sample(SamplingConfig(ras_win_len=7, **only_first), scores, history=repeated)
    assert (aware == 1).any() and (aware > 1).any()
    assert (sample(SamplingConfig(ras_win_len=7, **only_first), scores, history=fresh) == 0).all()
    assert (sample(SamplingConfig(ras_win_len=1, **only_first), scores, history=repeated) == 0).all()
    assert (sample(SamplingConfig(ras_win_len=0, **only_first), scores, history=repeated) == 0).all()


def test_an_end_that_began_before_the_window_continues():
    scores = torch.zeros(1, 5, 8)
    scores[..., 0] = 1.0
    history = [[6] * 5, [1] * 5, [7, 2, 2, 2, 2], [7, 7, 2, 2, 2], [7, 7, 7, 2, 2]]
    for ras_win_len in (0, 1, 7):
        codes = sample(SamplingConfig(temperature=0, ras_win_len=ras_win_len), scores, history=history)
        assert codes.tolist() == [[7, 7, 7, 7, 0]]
