"""Settings of accelerate's FSDP2 with which a sharded model returns the losses of an unsharded one."""

from dataclasses import replace

from accelerate import FullyShardedDataParallelPlugin
from torch.distributed.fsdp import MixedPrecisionPolicy


def keep_float32_outputs(plugin: FullyShardedDataParallelPlugin) -> None:
    """Let a model that computes in bfloat16 return its float32 sums of losses unchanged. Edits the plugin in place.

    accelerate casts all outputs to bfloat16. Sums of thousands of nats are then wrong by a few per mille, and stop
    growing when they are added up over batches.
    """
    if isinstance(plugin.mixed_precision_policy, MixedPrecisionPolicy):  # None without bf16
        plugin.mixed_precision_policy = replace(plugin.mixed_precision_policy, output_dtype=None)
