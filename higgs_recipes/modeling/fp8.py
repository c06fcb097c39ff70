"""Frozen weights and their matrix products in float8, for LoRA on GPUs that multiply float8 twice as fast.

torchao's float8 training is for trained weights: it keeps them in bfloat16, and in every step casts them and computes
their gradient. Frozen weights are cast once, need no gradient, and take no more memory than in bfloat16.
"""

import torch
from torch import Tensor, nn

from higgs_recipes.errors import InputError
from higgs_recipes.modeling.replace_layers import replace_in_layers


FLOAT8 = torch.float8_e4m3fn
MAX_VALUE = torch.finfo(FLOAT8).max
MIN_CAPABILITY = (8, 9)  # CUDA compute capability of Ada; Hopper is 9.0


class Float8Linear(nn.Module):
    """A frozen linear layer without bias: (..., K) -> (..., N) in bfloat16, with a gradient for its input only."""

    def __init__(self, weight: Tensor) -> None:
        """Cast a weight (N, K), both multiples of 16, for the forward and for the backward pass."""
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
    """Replace the frozen linear layers of the decoder layers by `Float8Linear`, in place.

    The heads are not replaced: one row of their weights is the logit of one code or token.

    Args:
        model: a `HiggsAudioV2ForConditionalGeneration` that contains the layers of its adapter; the original base
            weights are discarded.
        device: the device of training.

    Raises:
        InputError: the device does not support float8 products.
    """
    if not supports_float8(device):
        cpu = f"{device.type} with torch {torch.__version__}"
        found = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu
        raise InputError(f"fp8 needs a GPU with float8 products (Ada, Hopper or later), not {found}: set fp8: false")
    replace_in_layers(
        model,
        is_replaced=lambda child: type(child) is nn.Linear and not child.weight.requires_grad,
        build=lambda child: Float8Linear(child.weight.detach()),
    )


def supports_float8(device: torch.device) -> bool:
    """Whether a device supports float8 products with row-wise scales: Ada and later; CPUs except with torch 2.11."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= MIN_CAPABILITY
    ones = torch.ones(16, 16, device=device)
    try:
        _multiply(ones, *_cast(ones))
    except RuntimeError:
        return False
    return True


def _cast(rows: Tensor) -> tuple[Tensor, Tensor]:
    """(M, K) -> float8 values (M, K) and float32 scales (M, 1): each row's maximum becomes the float8 maximum."""
    scales = rows.detach().abs().amax(dim=-1, keepdim=True).float().clamp(min=1e-12) / MAX_VALUE
    return (rows / scales).to(FLOAT8).contiguous(), scales  # GPU products need row-major values


def _multiply(rows: Tensor, values: Tensor, scales: Tensor) -> Tensor:
    """Rows (M, K) and the values (N, K) and scales (N, 1) of `_cast` -> product (M, N) in bfloat16."""
    if len(rows) == 0:  # a batch without audio, or without text
        return rows.new_empty(0, len(values), dtype=torch.bfloat16)
    cast, row_scales = _cast(rows)
    # torch.nn.functional.scaled_mm is not in the oldest supported torch and cannot be compiled yet.
    return torch._scaled_mm(
        cast, values.t(), scale_a=row_scales, scale_b=scales.t(), out_dtype=torch.bfloat16, use_fast_accum=True
    )
