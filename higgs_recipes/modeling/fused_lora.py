"""Fused LoRA projections for the variable-length forward: adapters with the same input share one matrix product.

With a rank of 16, the product with A is limited by reading its input: three times for q, k and v, and three times more
in the backward pass, where each adds to the gradient of the input. One product with the concatenated A matrices gives
the same result.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn


def project_together(linears: Sequence[nn.Module], states: Tensor) -> list[Tensor]:
    """Apply several linear modules to the same states (P, K): outputs (P, N) each.

    The products are fused if each module has exactly one active, standard LoRA adapter without dropout (which samples
    separately per adapter), whose weights are complete on this device (ZeRO-3 gathers them in the forward of a module
    only). Hooks of the modules do not run then. Otherwise, and in float32 (used for comparisons, so that sums keep
    peft's order), each module runs its own forward.
    """
    dtype = compute_dtype(states)
    names = [_standard_adapter(linear) for linear in linears]
    if None in names or dtype == torch.float32:
        return [linear(states) for linear in linears]
    weights = [linear.lora_A[name].weight for linear, name in zip(linears, names, strict=True)]  # (R, K) each
    weight = torch.cat(weights)  # (sum R, K)
    low_rank = F.linear(states.to(weight.dtype), weight).split([len(weight) for weight in weights], dim=-1)  # (P, R)
    outputs = []
    for linear, name, low in zip(linears, names, low_rank, strict=True):
        base = linear.base_layer(states)  # (P, N)
        outputs.append((base + linear.lora_B[name](low) * linear.scaling[name]).to(base.dtype))
    return outputs


def compute_dtype(states: Tensor) -> torch.dtype:
    """The type of products of these states: that of autocast if it is on, otherwise their own."""
    device = states.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else states.dtype


def _standard_adapter(linear: nn.Module) -> str | None:
    """The name of the module's only active adapter if it is standard LoRA without dropout, else None."""
    if not isinstance(linear, LoraLayer) or linear.disable_adapters or linear.merged:
        return None
    has_own_forward = not isinstance(linear.lora_A, nn.ModuleDict) or "forward" in vars(linear)  # AdaLora; X-LoRA
    if has_own_forward or len(linear.active_adapters) != 1:
        return None
    (name,) = linear.active_adapters
    is_standard = name in linear.lora_A and name not in linear.lora_variant
    if not is_standard or not isinstance(linear.lora_dropout[name], nn.Identity):
        return None
    return None if hasattr(linear.lora_A[name].weight, "ds_id") else name  # ds_id: sharded by ZeRO-3
