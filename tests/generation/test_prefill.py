"""Prompts in the slots of the cache: what transformers' own cache holds of them."""

import numpy as np
import pytest
import torch

from higgs_recipes.delay import delay_codes
from higgs_recipes.generation.kv_cache import KVCache
from higgs_recipes.generation.prefill import PrefillSize, build_prompt, prefill, prefill_batch, write_prompts
from tests.generation.test_engine import make_prompts
from tests.helpers.checkpoints import load_tiny


def test_a_prompt_has_a_frame_at_each_placeholder():
    config = load_tiny()[0].config
    codes, audio = torch.arange(16).view(2, 8), config.audio_token_id
    prompt = build_prompt(torch.tensor([5, audio, 6]), [codes], seed=3, config=config)
    assert prompt.ids.tolist() == [5, *[audio] * 11, 6] and (prompt.num_text, prompt.seed) == (2, 3)
    assert np.array_equal(prompt.frames, delay_codes(codes).numpy())


@pytest.mark.parametrize("chosen", [[0], [2], [0, 1, 2, 3, 4, 5, 6]])
def test_keys_and_values_are_transformers_own(chosen):
    model, _ = load_tiny()
    prompts = [make_prompts(model.config)[index] for index in chosen]
    slots = list(range(7, 7 - len(chosen), -1))
    longest = max(len(prompt.ids) for prompt in prompts)
    cache = KVCache.allocate(model.config, slots=8, positions=longest, dtype=torch.float32, device=model.device)
    with torch.inference_mode():
        prefill(model, prompts, slots, cache=cache)
        for prompt, slot in zip(prompts, slots, strict=True):
            inputs = {"input_ids": torch.from_numpy(prompt.ids)[None]}
            if len(prompt.frames):
                inputs["audio_input_ids"] = torch.from_numpy(prompt.frames)[None]
                inputs["audio_input_ids_mask"] = torch.ones(1, len(prompt.frames)).bool()
            layers = model(**inputs, use_cache=True).cache.layers
            for index, layer in enumerate(layers):
                used = slice(0, len(prompt.ids))
                for cached, expected in ((cache.keys, layer.keys[0]), (cache.values, layer.values[0])):
                    torch.testing.assert_close(cached[index, slot, :, used], expected, atol=1e-5, rtol=0)
                    assert not cached[index, slot, :, len(prompt.ids) :].any()
    unused = [slot for slot in range(8) if slot not in slots]
    assert not cache.keys[:, unused].any() and not cache.values[:, unused].any()


def test_padded_prompts_write_the_same_keys_and_values():
    model, _ = load_tiny()
    prompts, slots = make_prompts(model.config)[:3], [2, 0, 1]
    positions = 1 + max(len(prompt.ids) for prompt in prompts)
    one, two = (
        KVCache.allocate(model.config, slots=3, positions=positions, dtype=torch.float32, device=model.device)
        for _ in range(2)
    )
    num_text, num_audio = sum(prompt.num_text for prompt in prompts), sum(len(prompt.frames) for prompt in prompts)
    size = PrefillSize(num_text=num_text + 9, num_audio=num_audio + 5, num_prompts=4)
    batch = prefill_batch(prompts, slots, model.config, size=size)
    assert (len(batch["text_ids"]), len(batch["frames"])) == size[:2]
    assert batch["sample_starts"].shape == (6,)
    with torch.inference_mode():
        prefill(model, prompts, slots, cache=one)
        write_prompts(model, batch, two)
    for prompt, slot in zip(prompts, slots, strict=True):
        used = slice(0, len(prompt.ids))
        for expected, cached in ((one.keys, two.keys), (one.values, two.values)):
            torch.testing.assert_close(cached[:, slot, :, used], expected[:, slot, :, used], atol=1e-5, rtol=0)
            # The padding is behind the first prompt only, where the first step writes before it reads.
            is_first = slot == slots[0]
            assert bool(cached[:, slot, :, len(prompt.ids)].any()) == is_first
            assert not cached[:, slot, :, len(prompt.ids) + 1 :].any()
