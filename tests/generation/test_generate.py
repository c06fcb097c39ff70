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
from higgs_recipes.generation.generate import Request, generate
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
    reversed_ = generate(*loaded, requests[::-1], sampling=SamplingConfig(max_seconds=0.8, batch_size=2))[::-1]

    assert [generation.seed for generation in together] == [3, 4, 5]
    for generations in zip(alone, together, reversed_, strict=True):
        assert all(torch.equal(generation.codes, generations[0].codes) for generation in generations)
    assert not torch.equal(alone[0].codes, alone[2].codes)


def test_without_requests_nothing_is_generated(loaded):
    assert generate(*loaded, [], sampling=SamplingConfig()) == []


def test_each_clip_is_given_as_it_ends(loaded):
    requests, ended = [smart_voice("Hello.", seed) for seed in range(3)], {}
    generations = generate(
        *loaded, requests, sampling=SamplingConfig(max_seconds=0.4, batch_size=2), on_clip=ended.__setitem__
    )
    assert sorted(ended) == [0, 1, 2] and all(ended[index] is generations[index] for index in ended)


def test_another_seed_gives_other_codes(loaded):
    sampling = SamplingConfig(max_seconds=0.4)
    one, two = generate(*loaded, [smart_voice("Hello.", 0), smart_voice("Hello.", 1)], sampling=sampling)
    assert not torch.equal(one.codes, two.codes)


@pytest.mark.parametrize("request_", [smart_voice("Hello.", 0), cloning("Hello.", 1)], ids=["smart voice", "cloning"])
def test_greedy_codes_are_the_argmax_of_one_forward_pass(loaded, request_):
    model, tokenizer = loaded
    (generation,) = generate(model, tokenizer, [request_], sampling=SamplingConfig(temperature=0, max_seconds=0.6))
    row = {"messages": request_.conversation, "codes": generation.codes, "ref_codes": request_.ref_codes}
    batch = HiggsCollator(model.config)([build_sample(row, tokenizer)])
    inputs = {name: batch[name] for name in ("input_ids", "audio_input_ids", "audio_input_ids_mask")}
    with torch.inference_mode():
        logits = model(**inputs).logits.view(1, -1, 8, 1026)[0]
    frames = delay_codes(generation.codes.long())
    is_audio = batch["input_ids"][0] == model.config.audio_token_id
    logits = logits[is_audio][-len(frames) :]  # (F, C, V), position i predicts frame i + 1
    logits[..., [BOS_CODE, EOS_CODE]] = -torch.inf
    num_steps = len(generation.codes)
    for k in range(8):  # after the last step the forward pass reads EOS, which the model, cut at the cap, did not
        expected = logits[k:num_steps, k].argmax(dim=-1)
        assert torch.equal(expected, generation.codes[: num_steps - k, k].long()), f"codebook {k}"


def test_the_repetition_aware_sampling_of_the_checkpoint_is_off():
    model, tokenizer = load_tiny()
    assert model.generation_config.ras_win_len == 7  # as in the published checkpoint
    model.audio_lm_head.weight.data.zero_()  # all codes are equally likely, so greedy decoding repeats code 0
    (generation,) = generate(
        model, tokenizer, [smart_voice("Hi.", 0)], sampling=SamplingConfig(temperature=0, max_seconds=1)
    )
    assert not generation.codes.any()


def test_a_clip_cut_at_max_seconds_did_not_stop(loaded):
    (generation,) = generate(*loaded, [smart_voice("Hello.", 0)], sampling=SamplingConfig(max_seconds=0.4))
    assert generation.codes.shape == (10, 8) and generation.codes.dtype == torch.int16
    assert not generation.stopped
    assert 0 <= int(generation.codes.min()) and int(generation.codes.max()) < 1024


def test_reference_clips_must_match_reference_turns(loaded):
    request = Request(cloning("Hello.", 0).conversation, [], seed=0)
    with pytest.raises(InputError, match="the conversation has 1 reference turns, but there are 0 reference clips"):
        generate(*loaded, [request], sampling=SamplingConfig())


def test_several_processes_are_refused(monkeypatch):
    assert single_device() == torch.device("cpu")
    monkeypatch.setitem(PartialState._shared_state, "num_processes", 2)
    with pytest.raises(InputError, match="generation runs in one process, 2 were launched: use --num_processes 1"):
        single_device()
