"""What accelerate's FSDP2 is told, so that sharded weights give the numbers of whole ones."""

from dataclasses import replace

from accelerate import FullyShardedDataParallelPlugin
from torch.distributed.fsdp import MixedPrecisionPolicy


def keep_sums_exact(plugin: FullyShardedDataParallelPlugin) -> None:
    """Let a model that computes in bfloat16 return its losses' float32 sums as they are, in place.

    accelerate has all outputs rounded to bfloat16. Sums of thousands of nats are then off by some per mille, and added
    up over batches they stop growing.
    """
    if isinstance(plugin.mixed_precision_policy, MixedPrecisionPolicy):  # without bf16 there is none
        plugin.mixed_precision_policy = replace(plugin.mixed_precision_policy, output_dtype=None)
