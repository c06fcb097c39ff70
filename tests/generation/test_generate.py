import pytest
import torch
from accelerate import PartialState

from higgs_recipes.chatml import conversation
from higgs_recipes.collator import HiggsCollator
from higgs_recipes.configs.inference import SamplingConfig
from higgs_recipes.constants import BOS_CODE, EOS_CODE
from higgs_recipes.delay import delay_codes
from higgs_recipes.devices import single_device
from higgs_recipes.errors import InputError
from higgs_recipes.generation.generate import Request, _codes_of, generate
from higgs_recipes.generation.sampler import SeededSampler
from higgs_recipes.samples import build_sample
from tests.helpers.checkpoints import load_tiny


CLONING = {"ref_audio": "ref.wav", "ref_text": "Reference words."}


def smart_voice(text: str, seed: int) -> Request:
    return Request(conversation({"text": text}, task="single_speaker_smart_voice"), [], seed)


def cloning(text: str, seed: int, *, num_steps: int = 9) -> Request:
    codes = torch.randint(0, 1024, (num_steps, 8), generator=torch.Generator().manual_seed(seed))
    return Request(conversation({"text": text} | CLONING, task="zero_shot_voice_cloning"), [codes], seed)


@pytest.fixture(scope="module")
def loaded():
    return load_tiny()


def test_a_seed_gives_the_same_codes_in_any_batch(loaded):
    requests = [smart_voice("Hello.", 3), cloning("A longer text.", 4), smart_voice("Well, well, well.", 5)]
    alone = generate(*loaded, requests, sampling=SamplingConfig(max_seconds=0.8, batch_size=1))
    together = generate(*loaded, requests, sampling=SamplingConfig(max_seconds=0.8, batch_size=3))
    turned = generate(*loaded, requests[::-1], sampling=SamplingConfig(max_seconds=0.8, batch_size=2))[::-1]

    assert [one.seed for one in together] == [3, 4, 5]
    for one, two, three in zip(alone, together, turned, strict=True):
        assert torch.equal(one.codes, two.codes) and torch.equal(one.codes, three.codes)
    assert not torch.equal(alone[0].codes, alone[2].codes)


def test_another_seed_gives_other_codes(loaded):
    sampling = SamplingConfig(max_seconds=0.4)
    one, two = generate(*loaded, [smart_voice("Hello.", 0), smart_voice("Hello.", 1)], sampling=sampling)
    assert not torch.equal(one.codes, two.codes)


@pytest.mark.parametrize("request_", [smart_voice("Hello.", 0), cloning("Hello.", 1)], ids=["smart voice", "cloning"])
def test_greedy_codes_are_the_likeliest_of_a_whole_forward_pass(loaded, request_):
    model, tokenizer = loaded
    (made,) = generate(model, tokenizer, [request_], sampling=SamplingConfig(temperature=0, max_seconds=0.6))
    row = {"messages": request_.conversation, "codes": made.codes, "ref_codes": request_.ref_codes}
    batch = HiggsCollator(model.config)([build_sample(row, tokenizer)])
    inputs = {name: batch[name] for name in ("input_ids", "audio_input_ids", "audio_input_ids_mask")}
    with torch.inference_mode():
        logits = model(**inputs).logits.view(1, -1, 8, 1026)[0]
    frames = delay_codes(made.codes.long())
    is_audio = batch["input_ids"][0] == model.config.audio_token_id
    logits = logits[is_audio][-len(frames) :]  # (F, C, V), one ahead of the frame that it predicts
    logits[..., [BOS_CODE, EOS_CODE]] = -torch.inf
    num_steps = len(made.codes)
    for k in range(8):  # behind the last step the pass reads EOS where the model, cut by the cap, went on
        likeliest = logits[k:num_steps, k].argmax(dim=-1)
        assert torch.equal(likeliest, made.codes[: num_steps - k, k].long()), f"codebook {k}"


def test_the_checkpoint_s_own_repetition_aware_sampling_draws_nothing():
    model, tokenizer = load_tiny()
    assert model.generation_config.ras_win_len == 7  # as the published checkpoint has it
    model.audio_lm_head.weight.data.zero_()  # all codes are equally likely: the greedy choice is code 0, over and over
    (made,) = generate(
        model, tokenizer, [smart_voice("Hi.", 0)], sampling=SamplingConfig(temperature=0, max_seconds=1)
    )
    assert not made.codes.any()


def test_the_cap_cuts_the_clip_and_says_so(loaded):
    (made,) = generate(*loaded, [smart_voice("Hello.", 0)], sampling=SamplingConfig(max_seconds=0.4))
    assert made.codes.shape == (10, 8) and made.codes.dtype == torch.int16
    assert not made.stopped
    assert 0 <= int(made.codes.min()) and int(made.codes.max()) < 1024


def test_a_whole_pattern_is_a_clip_that_stopped():
    codes = torch.arange(24).view(3, 8)
    made, stopped = _codes_of(torch.cat([delay_codes(codes), torch.full((4, 8), EOS_CODE)]), eos=EOS_CODE)
    assert stopped and torch.equal(made, codes.to(torch.int16))


def test_a_clip_cut_within_its_end_keeps_the_steps_before_it():
    codes = torch.arange(40).view(5, 8)
    frames = delay_codes(codes)[:-2]  # (12, C): the end has begun, and not ended
    made, stopped = _codes_of(frames, eos=EOS_CODE)
    assert not stopped and torch.equal(made, codes[:3].to(torch.int16))


def test_clips_and_reference_turns_must_be_as_many(loaded):
    request = Request(cloning("Hello.", 0).conversation, [], seed=0)
    with pytest.raises(InputError, match="1 reference turns for 0 reference clips"):
        generate(*loaded, [request], sampling=SamplingConfig())


def draw(sampling: SamplingConfig, scores: torch.Tensor, *, seeds=(0,), history=()) -> torch.Tensor:
    """The codes (B, C) that a sampler leaves of scores (B, C, V) with BOS 6 and EOS 7."""
    batch, num_codebooks, codebook_size = scores.shape
    sampler = SeededSampler(sampling, seeds=seeds, num_codebooks=num_codebooks, bos=6, eos=7)
    for frame in history:
        sampler.remember(torch.tensor(frame).expand(batch, num_codebooks))
    left = sampler(None, scores.view(-1, codebook_size).clone()).view(batch, num_codebooks, codebook_size)
    assert bool((left.isfinite().sum(dim=-1) == 1).all())
    return left.argmax(dim=-1)


def test_draws_follow_the_distribution():
    scores = torch.tensor([0.5, 0.25, 0.25, 0, 0, 0, 0, 0]).log().expand(4000, 1, 8)
    drawn = draw(SamplingConfig(top_k=0, top_p=1.0, ras_win_len=0), scores, seeds=range(4000))
    shares = torch.bincount(drawn.flatten(), minlength=8) / 4000
    assert torch.allclose(shares[:3], torch.tensor([0.5, 0.25, 0.25]), atol=0.03)
    assert shares[3:].sum() == 0


def test_top_k_and_top_p_leave_out_the_unlikely():
    scores = torch.tensor([0.6, 0.3, 0.1, 0, 0, 0, 0, 0]).log().expand(300, 1, 8)
    plain = {"ras_win_len": 0}
    assert set(draw(SamplingConfig(top_k=2, top_p=1.0, **plain), scores, seeds=range(300)).flatten().tolist()) == {
        0,
        1,
    }
    assert set(draw(SamplingConfig(top_k=0, top_p=0.5, **plain), scores, seeds=range(300)).flatten().tolist()) == {0}


def test_marks_are_drawn_only_where_they_may_stand():
    scores = torch.full((1, 3, 8), -5.0)
    scores[..., 6] = scores[..., 7] = 50.0  # the model wants nothing but BOS and EOS
    greedy = SamplingConfig(temperature=0)
    assert (draw(greedy, scores, history=[[6, 6, 6]]) < 6).all()  # no empty clip
    assert draw(greedy, scores, history=[[6, 6, 6], [1, 6, 6]]).tolist()[0][0] == 7
    assert (draw(greedy, scores, history=[[6, 6, 6], [1, 6, 6]])[:, 1:] < 6).all()


def test_an_end_goes_down_the_codebooks_a_frame_each():
    scores = torch.zeros(1, 3, 8)
    scores[..., 0] = 1.0
    greedy = SamplingConfig(temperature=0)
    begun = [[6, 6, 6], [1, 6, 6], [7, 2, 6]]
    assert draw(greedy, scores, history=begun).tolist() == [[7, 7, 0]]
    assert draw(greedy, scores, history=[*begun, [7, 7, 3]]).tolist() == [[7, 7, 7]]


def test_a_code_that_repeats_is_drawn_again_from_all_codes():
    scores = torch.tensor([3.0, 2.9, 0, 0, 0, 0, 0, 0]).expand(400, 1, 8)
    only_first = {"top_k": 1, "top_p": 1.0, "ras_win_max_num_repeat": 2}
    repeated, fresh = [[0], [0]], [[0], [1]]
    aware = draw(SamplingConfig(ras_win_len=7, **only_first), scores, seeds=range(400), history=repeated)
    assert (aware == 1).any() and (aware > 1).any()
    assert (draw(SamplingConfig(ras_win_len=7, **only_first), scores, seeds=range(400), history=fresh) == 0).all()
    assert (draw(SamplingConfig(ras_win_len=1, **only_first), scores, seeds=range(400), history=repeated) == 0).all()
    assert (draw(SamplingConfig(ras_win_len=0, **only_first), scores, seeds=range(400), history=repeated) == 0).all()


def test_a_sampler_keeps_the_window_and_not_the_whole_clip():
    sampler = SeededSampler(SamplingConfig(ras_win_len=3), seeds=[0], num_codebooks=3, bos=6, eos=7)
    for frame in [[6, 6, 6], *[[step % 4, 1, 2] for step in range(50)], *[[7, 7, 7]] * 5]:
        sampler.remember(torch.tensor([frame]))
    assert len(sampler.recent) == 3
    left = sampler(None, torch.zeros(3, 8))
    assert left.argmax(dim=-1).tolist() == [7, 7, 7]


def test_an_end_that_began_outside_the_window_still_goes_down_the_codebooks():
    scores = torch.zeros(1, 5, 8)
    scores[..., 0] = 1.0
    history = [[6] * 5, [1] * 5, [7, 2, 2, 2, 2], [7, 7, 2, 2, 2], [7, 7, 7, 2, 2]]
    for ras_win_len in (0, 1, 7):
        drawn = draw(SamplingConfig(temperature=0, ras_win_len=ras_win_len), scores, history=history)
        assert drawn.tolist() == [[7, 7, 7, 7, 0]]


def test_several_processes_are_refused(monkeypatch):
    assert single_device() == torch.device("cpu")
    monkeypatch.setitem(PartialState._shared_state, "num_processes", 2)
    with pytest.raises(InputError, match="generation runs in one process, 2 were launched: use --num_processes 1"):
        single_device()
