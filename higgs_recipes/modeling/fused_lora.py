"""LoRA's small products in the fast path: adapters that read the same states read them once.

A rank of 16 makes a product that does little but read its input, three times over for q, k and v, and as often again
in the backward pass, where each adds to the gradient of that input. One product with the adapters' A below each other
does the same.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn


def project_together(linears: Sequence[nn.Module], states: Tensor) -> list[Tensor]:
    """What each of the linear modules makes of the same states (P, K): (P, N) each.

    Modules go their own way, peft's or torch's, unless each has one active LoRA adapter of the plain kind, without
    dropout (which would be drawn for each apart) and whole on this device (ZeRO-3 gathers what a module's own forward
    uses). Hooks on the modules do not run then. In float32, which is for comparing, sums stay in peft's order.
    """
    device = states.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else states.dtype
    names = [_plain_adapter(linear) for linear in linears]
    if None in names or dtype == torch.float32:
        return [linear(states) for linear in linears]
    downs = [linear.lora_A[name].weight for linear, name in zip(linears, names, strict=True)]  # (R, K) each
    down = torch.cat(downs)
    lows = F.linear(states.to(down.dtype), down).split([len(weight) for weight in downs], dim=-1)
    projected = []
    for linear, name, low in zip(linears, names, lows, strict=True):
        whole = linear.base_layer(states)
        projected.append((whole + linear.lora_B[name](low) * linear.scaling[name]).to(whole.dtype))
    return projected


def _plain_adapter(linear: nn.Module) -> str | None:
    """The name of the one adapter that peft's module would add in the plain way, else None."""
    if not isinstance(linear, LoraLayer) or linear.disable_adapters or linear.merged:
        return None
    has_own_way = not isinstance(linear.lora_A, nn.ModuleDict) or "forward" in vars(linear)  # AdaLora; X-LoRA
    if has_own_way or len(linear.active_adapters) != 1:
        return None
    (name,) = linear.active_adapters
    is_plain = name in linear.lora_A and name not in linear.lora_variant
    if not is_plain or not isinstance(linear.lora_dropout[name], nn.Identity):
        return None
    return None if hasattr(linear.lora_A[name].weight, "ds_id") else name
