import torch

from higgs_recipes.configs.inference import SamplingConfig
from higgs_recipes.generation.sampler import SeededSampler


BOS, EOS = 6, 7


def sample(sampling: SamplingConfig, scores: torch.Tensor, *, seeds=(0,), history=()) -> torch.Tensor:
    """The codes (B, C) sampled from scores (B, C, V), after the frames (C,) of `history` in every clip."""
    batch, num_codebooks, codebook_size = scores.shape
    sampler = SeededSampler(sampling, seeds=seeds, num_codebooks=num_codebooks, bos=BOS, eos=EOS)
    for frame in history:
        sampler.append_frame(torch.tensor(frame).expand(batch, num_codebooks))
    processed = sampler(None, scores.view(-1, codebook_size).clone()).view(batch, num_codebooks, codebook_size)
    assert bool((processed.isfinite().sum(dim=-1) == 1).all())
    return processed.argmax(dim=-1)


def test_sampled_codes_follow_the_distribution():
    scores = torch.tensor([0.5, 0.25, 0.25, 0, 0, 0, 0, 0]).log().expand(4000, 1, 8)
    sampled = sample(SamplingConfig(top_k=0, top_p=1.0, ras_win_len=0), scores, seeds=range(4000))
    shares = torch.bincount(sampled.flatten(), minlength=8) / 4000
    assert torch.allclose(shares[:3], torch.tensor([0.5, 0.25, 0.25]), atol=0.03)
    assert shares[3:].sum() == 0


def test_the_codes_of_a_seed_do_not_depend_on_the_batch():
    scores = torch.randn(3, 4, 8, generator=torch.Generator().manual_seed(0))
    together = sample(SamplingConfig(), scores, seeds=(5, 6, 7))
    for index, seed in enumerate((5, 6, 7)):
        assert torch.equal(sample(SamplingConfig(), scores[index : index + 1], seeds=[seed])[0], together[index])


def test_top_k_and_top_p_leave_out_unlikely_codes():
    scores = torch.tensor([0.6, 0.3, 0.1, 0, 0, 0, 0, 0]).log().expand(300, 1, 8)
    top_2 = sample(SamplingConfig(top_k=2, top_p=1.0, ras_win_len=0), scores, seeds=range(300))
    top_half = sample(SamplingConfig(top_k=0, top_p=0.5, ras_win_len=0), scores, seeds=range(300))
    assert set(top_2.flatten().tolist()) == {0, 1} and set(top_half.flatten().tolist()) == {0}


def test_bos_is_never_sampled_and_eos_only_after_the_first_code():
    scores = torch.full((1, 3, 8), -5.0)
    scores[..., BOS] = scores[..., EOS] = 50.0  # only BOS and EOS are likely
    greedy = SamplingConfig(temperature=0)
    assert (sample(greedy, scores, history=[[6, 6, 6]]) < 6).all()  # no empty clip
    assert sample(greedy, scores, history=[[6, 6, 6], [1, 6, 6]]).tolist()[0][0] == 7
    assert (sample(greedy, scores, history=[[6, 6, 6], [1, 6, 6]])[:, 1:] < 6).all()


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
    aware = sample(SamplingConfig(ras_win_len=7, **only_first), scores, seeds=range(400), history=repeated)
    assert (aware == 1).any() and (aware > 1).any()
    assert (sample(SamplingConfig(ras_win_len=7, **only_first), scores, seeds=range(400), history=fresh) == 0).all()
    assert (sample(SamplingConfig(ras_win_len=1, **only_first), scores, seeds=range(400), history=repeated) == 0).all()
    assert (sample(SamplingConfig(ras_win_len=0, **only_first), scores, seeds=range(400), history=repeated) == 0).all()


def test_the_sampler_keeps_only_the_window():
    sampler = SeededSampler(SamplingConfig(ras_win_len=3), seeds=[0], num_codebooks=3, bos=BOS, eos=EOS)
    for frame in [[6, 6, 6], *[[step % 4, 1, 2] for step in range(50)], *[[7, 7, 7]] * 5]:
        sampler.append_frame(torch.tensor([frame]))
    assert len(sampler.recent) == 3
    processed = sampler(None, torch.zeros(3, 8))
    assert processed.argmax(dim=-1).tolist() == [7, 7, 7]


def test_an_end_that_began_before_the_window_continues():
    scores = torch.zeros(1, 5, 8)
    scores[..., 0] = 1.0
    history = [[6] * 5, [1] * 5, [7, 2, 2, 2, 2], [7, 7, 2, 2, 2], [7, 7, 7, 2, 2]]
    for ras_win_len in (0, 1, 7):
        sampled = sample(SamplingConfig(temperature=0, ras_win_len=ras_win_len), scores, history=history)
        assert sampled.tolist() == [[7, 7, 7, 7, 0]]
