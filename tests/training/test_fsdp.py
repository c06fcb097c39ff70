"""FSDP2 returns float32 outputs of a model that computes in bfloat16."""

import torch
from accelerate import FullyShardedDataParallelPlugin

from higgs_recipes.training.fsdp import keep_float32_outputs


def test_outputs_are_not_cast_and_the_rest_of_the_policy_is_kept():
    plugin = FullyShardedDataParallelPlugin(fsdp_version=2)
    plugin.set_mixed_precision("bf16")
    assert plugin.mixed_precision_policy.output_dtype == torch.bfloat16
    keep_float32_outputs(plugin)
    assert plugin.mixed_precision_policy.output_dtype is None
    assert plugin.mixed_precision_policy.param_dtype == torch.bfloat16


def test_plugin_without_mixed_precision_is_unchanged():
    plugin = FullyShardedDataParallelPlugin(fsdp_version=2)
    keep_float32_outputs(plugin)
    assert plugin.mixed_precision_policy is None
