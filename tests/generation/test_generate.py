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
    turned = generate(*loaded, requests[::-1], sampling=SamplingConfig(max_seconds=0.8, batch_size=2))[::-1]

    assert [one.seed for one in together] == [3, 4, 5]
    for one, two, three in zip(alone, together, turned, strict=True):
        assert torch.equal(one.codes, two.codes) and torch.equal(one.codes, three.codes)
    assert not torch.equal(alone[0].codes, alone[2].codes)


def test_without_requests_nothing_is_generated(loaded):
    assert generate(*loaded, [], sampling=SamplingConfig()) == []


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


def test_clips_and_reference_turns_must_be_as_many(loaded):
    request = Request(cloning("Hello.", 0).conversation, [], seed=0)
    with pytest.raises(InputError, match="1 reference turns for 0 reference clips"):
        generate(*loaded, [request], sampling=SamplingConfig())


def test_several_processes_are_refused(monkeypatch):
    assert single_device() == torch.device("cpu")
    monkeypatch.setitem(PartialState._shared_state, "num_processes", 2)
    with pytest.raises(InputError, match="generation runs in one process, 2 were launched: use --num_processes 1"):
        single_device()
