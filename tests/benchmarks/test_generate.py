"""Generated clips go to the cap, so that a second of audio is the same work in every measurement."""

import pytest
import torch

from higgs_recipes.benchmarks.generate import disable_eos, measure_generation
from higgs_recipes.chatml import conversation
from higgs_recipes.configs.benchmark import BenchmarkGenerateConfig
from higgs_recipes.configs.inference import SamplingConfig
from higgs_recipes.errors import InputError
from higgs_recipes.generation.generate import Request, generate
from tests.helpers.checkpoints import load_tiny, tiny_folder


def fields(folder, **changed) -> dict:
    return {
        "model_config": str(tiny_folder() / "model.json"),
        "checkpoint_dir": str(folder / "model"),
        "dtype": "float32",
        "streams": [1, 3],
        "clip_seconds": 0.4,
        "text_characters": 20,
        "variants": {"drawn": {}, "greedy": {"temperature": 0.0}},
        "output": str(folder / "numbers" / "generate.json"),
    } | changed


def test_a_model_whose_end_mark_is_silenced_disable_eoss_a_clip():
    model, tokenizer = load_tiny()
    turns = conversation({"text": "Words."}, task="single_speaker_smart_voice")
    requests = [Request(turns, [], seed) for seed in range(8)]
    sampling = SamplingConfig(max_seconds=4.0)
    before = model.audio_lm_head.weight.clone()
    disable_eos(model)
    changed = (before != model.audio_lm_head.weight).any(dim=1).nonzero().flatten()
    assert changed.tolist() == [model.config.audio_stream_eos_id]  # of the first codebook, which leads
    made = generate(model, tokenizer, requests, sampling=sampling)
    assert [len(clip.codes) for clip in made] == [100] * 8 and not any(clip.stopped for clip in made)


def test_a_variant_that_does_not_fit_the_memory_is_named_as_such(tmp_path, monkeypatch):
    config = BenchmarkGenerateConfig(**fields(tmp_path, only=["greedy"]))
    calls, plain_argmax = [], torch.Tensor.argmax

    def full_at_first(self, *args, **kwargs):
        calls.append(self)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return plain_argmax(self, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "argmax", full_at_first)
    one, three = measure_generation(config)
    assert (one["outcome"], three["outcome"]) == ("out of memory", "measured") and three["frames"] == 30


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"variants": {"a": {"top": 3}}}, "variant 'a': 'top' is no field of SamplingConfig"),
        ({"variants": {"transformers": {}}}, "a name stands twice among transformers, transformers"),
        ({"variants": {}, "plain": False}, "variants is empty"),
        ({"streams": [0, 1]}, r"streams must be positive, got \[0, 1\]"),
        ({"text_characters": 0}, "text_characters must be positive"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(tmp_path, changed, message):
    with pytest.raises(InputError, match=message):
        BenchmarkGenerateConfig(**fields(tmp_path, **changed))


def test_a_variant_that_cannot_be_ends_the_run_before_anything_is_measured(tmp_path):
    config = BenchmarkGenerateConfig(**fields(tmp_path, variants={"a": {"top_p": 2.0}}))
    with pytest.raises(InputError, match=r"variant 'a': top_p must be in \(0, 1\], got 2.0"):
        next(measure_generation(config))
