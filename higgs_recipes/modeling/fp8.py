"""Frozen weights in float8, and their matrix products in float8: for LoRA on GPUs that multiply those twice as fast.

torchao's float8 training is for weights that change: it keeps them in bfloat16, and casts them and multiplies for
their gradient in every step. Frozen ones are cast once, need no gradient, and take no more memory than before.
"""

import torch
from torch import Tensor, nn

from higgs_recipes.errors import InputError


FLOAT8 = torch.float8_e4m3fn
LARGEST = torch.finfo(FLOAT8).max
FIRST_CAPABILITY = (8, 9)  # Ada; then Hopper


class Float8Linear(nn.Module):
    """A frozen linear layer without bias: (..., K) -> (..., N) in bfloat16, with a gradient for its input alone."""

    def __init__(self, weight: Tensor) -> None:
        """weight: (N, K), both multiples of 16."""
        super().__init__()
        for name, rows in {"forward": weight, "backward": weight.t()}.items():
            values, scales = _cast(rows.contiguous())
            setattr(self, f"{name}_values", nn.Parameter(values, requires_grad=False))
            setattr(self, f"{name}_scales", nn.Parameter(scales, requires_grad=False))

    def forward(self, states: Tensor) -> Tensor:
        rows = states.flatten(0, -2)  # (M, K)
        product = _Product.apply(
            rows, self.forward_values, self.forward_scales, self.backward_values, self.backward_scales
        )
        return product.unflatten(0, states.shape[:-1])


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows: Tensor, values: Tensor, scales: Tensor, back_values: Tensor, back_scales: Tensor) -> Tensor:
        ctx.save_for_backward(back_values, back_scales)
        ctx.dtype = rows.dtype
        return _multiply(rows, values, scales)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        return _multiply(grad, *ctx.saved_tensors).to(ctx.dtype), None, None, None, None


def use_fp8(model: nn.Module, device: torch.device) -> None:
    """Exchange the frozen linear layers of a model's decoder layers, in place. The heads stay: each code's and each
    token's logit is one row of theirs.

    Args:
        model: a `HiggsAudioV2ForConditionalGeneration`, with its adapter's layers in place; its base weights are gone
            then.
        device: where it trains.

    Raises:
        InputError: a device that does not multiply float8.
    """
    if not multiplies_float8(device):
        cpu = f"{device.type} with torch {torch.__version__}"
        where = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu
        raise InputError(f"fp8 needs a GPU that multiplies float8 (Ada, Hopper or later), not {where}: leave fp8 out")
    frozen = [
        (parent, name)
        for parent in model.model.layers.modules()
        for name, child in parent.named_children()
        if type(child) is nn.Linear and not child.weight.requires_grad
    ]
    for parent, name in frozen:
        setattr(parent, name, Float8Linear(parent.get_submodule(name).weight.detach()))


def multiplies_float8(device: torch.device) -> bool:
    """Whether a device multiplies float8 with a scale for each row: Ada and later; CPUs not with the oldest torch."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= FIRST_CAPABILITY
    ones = torch.ones(16, 16, device=device)
    try:
        _multiply(ones, *_cast(ones))
    except RuntimeError:
        return False
    return True


def _cast(rows: Tensor) -> tuple[Tensor, Tensor]:
    """(M, K) -> float8 (M, K) and the float32 scale of each row (M, 1), which gives its largest value the largest."""
    scales = rows.detach().abs().amax(dim=-1, keepdim=True).float().clamp(min=1e-12) / LARGEST
    return (rows / scales).to(FLOAT8).contiguous(), scales  # the product on a GPU wants rows


def _multiply(rows: Tensor, values: Tensor, scales: Tensor) -> Tensor:
    """(M, K), and what `_cast` made of (N, K) -> (M, N) in bfloat16."""
    if len(rows) == 0:  # a batch without a clip, or without text
        return rows.new_empty(0, len(values), dtype=torch.bfloat16)
    cast, row_scales = _cast(rows)
    # torch.nn.functional.scaled_mm is newer than the oldest torch here, and has no compiled form yet.
    return torch._scaled_mm(
        cast, values.t(), scale_a=row_scales, scale_b=scales.t(), out_dtype=torch.bfloat16, use_fast_accum=True
    )
