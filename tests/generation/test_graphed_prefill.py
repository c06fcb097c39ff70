"""Captured prefill writes what the eager one does."""

import pytest
import torch

from higgs_recipes.generation.graphed_prefill import GraphedPrefill
from higgs_recipes.generation.kv_cache import KVCache
from higgs_recipes.generation.prefill import prefill
from tests.generation.test_engine import ending_model, make_prompts


@pytest.mark.gpu
def test_captured_prefill_writes_the_same_keys_and_values():
    model = ending_model().to("cuda", torch.bfloat16)
    prompts = make_prompts(model.config)
    positions = 1 + max(len(prompt.ids) for prompt in prompts)
    one, two = (
        KVCache.allocate(model.config, slots=8, positions=positions, dtype=torch.bfloat16, device=model.device)
        for _ in range(2)
    )
    captured = GraphedPrefill(model, two)
    with torch.inference_mode():
        for chosen in ([0], [0], [0], [1, 2], [1, 2], [3, 2], [4, 5, 6, 0], [4, 5, 6, 0]):
            prefill(model, [prompts[index] for index in chosen], chosen, cache=one)
            captured([prompts[index] for index in chosen], chosen)
            for index in chosen:
                used = slice(0, len(prompts[index].ids))
                for expected, cached in ((one.keys, two.keys), (one.values, two.values)):
                    torch.testing.assert_close(cached[:, index, :, used], expected[:, index, :, used])
    assert captured.num_captured == 4
