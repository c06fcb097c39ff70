"""The bare model is found inside the wrappers of training."""

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.distributed import HashStore, destroy_process_group, init_process_group
from torch.nn.parallel import DistributedDataParallel

from higgs_recipes.unwrap import unwrap_model
from tests.helpers.tiny import golden_model


class Engine(nn.Module):
    """Has the model in `module`, as DeepSpeed's engine."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


def test_bare_model_is_returned_as_it_is():
    model = golden_model()
    assert unwrap_model(model) is model


def test_engine_and_adapter_are_removed_and_lora_layers_stay():
    model = golden_model()
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"]))
    assert unwrap_model(adapted) is model and unwrap_model(Engine(adapted)) is model
    assert any("lora_A" in name for name, _ in unwrap_model(Engine(adapted)).named_parameters())


def test_ddp_is_removed():
    model = golden_model()
    init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        assert unwrap_model(DistributedDataParallel(model)) is model
    finally:
        destroy_process_group()
    assert torch.isfinite(model.audio_lm_head.weight).all()
