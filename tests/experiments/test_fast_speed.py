"""The variable-length forward on a GPU: as accurate as transformers', without host waits or new graphs when warm."""

from contextlib import nullcontext

import pytest
import torch

from higgs_recipes.loss import dual_ffn_losses
from tests.experiments.fast_speed import compare, measure, no_host_wait, to_gpu
from tests.helpers.checkpoints import tiny_folder
from tests.helpers.train_once import make_trainer


@pytest.mark.gpu
@pytest.mark.parametrize("method", ["full", "lora"])
def test_losses_and_gradients_on_a_gpu_are_as_accurate_as_transformers(method):
    distances = compare(method)
    assert distances["float32_varlen"]["loss"] < 1e-5 and distances["float32_varlen"]["gradient"] < 1e-5
    for name in ("loss", "gradient"):
        for arithmetic in ("bf16", "autocast"):
            # Both are rounded, but differently, and a loss may be close by chance.
            allowed = 1.5 * distances[f"{arithmetic}_original"][name] + 2e-4
            assert distances[f"{arithmetic}_varlen"][name] < allowed, (arithmetic, name, distances)
            assert distances[f"{arithmetic}_compiled"][name] < allowed, (arithmetic, name, distances)


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
def test_warm_step_has_no_host_wait_and_no_new_graph(compiled):
    results = measure(method="full", varlen=True, compiled=compiled)  # raises where the host waits
    warm, end = results["graphs_after_warm_up_and_at_the_end"]
    assert warm == end and (warm > 0) is compiled


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("quantization", ["load_in_4bit", "fp8"])
def test_warm_step_with_quantized_weights_has_no_host_wait(quantization, compiled, tmp_path):
    fields = {
        "method": "lora",
        "bf16": True,
        "dtype": "bfloat16",
        "pack_to": 400,
        "use_cpu": False,
        quantization: True,
    }
    trainer = make_trainer(tmp_path, model_folder=tiny_folder() / "model", compile_layers=compiled, **fields)
    model = trainer.model.train()  # the Trainer has placed it
    rows = [trainer.train_dataset[index] for index in range(len(trainer.train_dataset))]
    # Different lengths: after three batches, graphs with dynamic shapes are compiled.
    batches = [to_gpu(trainer.data_collator(rows[first : first + 4])) for first in (0, 1, 2, 3, 4)]
    for index, batch in enumerate(batches):
        with no_host_wait() if index >= 3 else nullcontext(), torch.autocast("cuda", dtype=torch.bfloat16):
            losses = dual_ffn_losses(model, batch)
            (losses.text_sum + losses.codebook_sums.sum()).backward()
    with no_host_wait(), pytest.raises(RuntimeError):  # no_host_wait works
        losses.text_sum.item()
    gradients = [weight.grad for weight in model.parameters() if weight.requires_grad]
    assert gradients and all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
