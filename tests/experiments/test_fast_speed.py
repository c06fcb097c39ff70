"""The fast path on a GPU: float32 to 1e-5, bf16 as near as the plain path, no host wait, no new graph when warm."""

from contextlib import nullcontext

import pytest
import torch

from higgs_recipes.loss import dual_ffn_losses
from tests.experiments.fast_speed import compare, measure, no_host_wait, to_gpu
from tests.helpers.checkpoints import tiny_folder
from tests.helpers.train_once import make_trainer


@pytest.mark.gpu
@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_gpu_gives_the_plain_path_s_numbers(method):
    distances = compare(method)
    assert distances["float32_fast"]["loss"] < 1e-5 and distances["float32_fast"]["gradient"] < 1e-5
    for name in ("loss", "gradient"):
        for arithmetic in ("bf16", "autocast"):
            # Both are rounded, but not alike; and a loss can be near by chance.
            allowed = 1.5 * distances[f"{arithmetic}_plain"][name] + 2e-4
            assert distances[f"{arithmetic}_fast"][name] < allowed, (arithmetic, name, distances)
            assert distances[f"{arithmetic}_compiled"][name] < allowed, (arithmetic, name, distances)


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
def test_a_warm_step_waits_for_nothing_and_compiles_nothing(compiled):
    figures = measure(method="full", fast=True, compiled=compiled)  # raises where the host waits
    warm, end = figures["graphs_when_warm_and_at_the_end"]
    assert warm == end and (warm > 0) is compiled


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("rounded", ["load_in_4bit", "fp8"])
def test_a_warm_step_over_rounded_weights_waits_for_nothing(rounded, compiled, tmp_path):
    fields = {"method": "lora", "bf16": True, "dtype": "bfloat16", "pack_to": 400, "use_cpu": False, rounded: True}
    trainer = make_trainer(tmp_path, model_folder=tiny_folder() / "model", compile_layers=compiled, **fields)
    model = trainer.model.train()  # the Trainer has placed it
    rows = [trainer.train_dataset[index] for index in range(len(trainer.train_dataset))]
    # Other lengths each time: all shapes are compiled by the third.
    batches = [to_gpu(trainer.data_collator(rows[first : first + 4])) for first in (0, 1, 2, 3, 4)]
    for index, batch in enumerate(batches):
        with no_host_wait() if index >= 3 else nullcontext(), torch.autocast("cuda", dtype=torch.bfloat16):
            losses = dual_ffn_losses(model, batch)
            (losses.text_sum + losses.codebook_sums.sum()).backward()
    with no_host_wait(), pytest.raises(RuntimeError):  # the watch sees what it looks for
        losses.text_sum.item()
    gradients = [weight.grad for weight in model.parameters() if weight.requires_grad]
    assert gradients and all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
