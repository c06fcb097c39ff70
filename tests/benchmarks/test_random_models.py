from higgs_recipes.benchmarks.random_models import disable_eos
from higgs_recipes.chatml import conversation
from higgs_recipes.configs.inference import SamplingConfig
from higgs_recipes.generation.generate import Request, generate
from tests.helpers.checkpoints import load_tiny


def test_model_without_eos_never_ends_a_clip():
    model, tokenizer = load_tiny()
    turns = conversation({"text": "Words."}, task="single_speaker_smart_voice")
    requests = [Request(turns, [], seed) for seed in range(8)]
    sampling = SamplingConfig(max_seconds=4.0)
    before = model.audio_lm_head.weight.clone()
    disable_eos(model)
    changed = (before != model.audio_lm_head.weight).any(dim=1).nonzero().flatten()
    assert changed.tolist() == [model.config.audio_stream_eos_id]  # in the first codebook, which ends a clip
    clips = generate(model, tokenizer, requests, sampling=sampling)
    assert [len(clip.codes) for clip in clips] == [100] * 8 and not any(clip.stopped for clip in clips)
