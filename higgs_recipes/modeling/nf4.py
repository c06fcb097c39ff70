"""A base model in four bits, for QLoRA: NF4 with double quantization, by bitsandbytes.

Its layers call kernels of their own from Python, some 20 in a decoder layer and pass, and a GPU waits for that. In
compiled layers that recompute, the same four bits are unpacked by torch's operations, which become one kernel.
"""

from importlib import import_module

import torch
import torch.nn.functional as F
from accelerate.utils import parse_flag_from_env
from torch import Tensor, nn
from transformers import BitsAndBytesConfig
from transformers.integrations import is_deepspeed_zero3_enabled

from higgs_recipes.errors import InputError


# What is looked up, and not multiplied, gains nothing. The heads are where rounding shows most: each code's and each
# token's logit is one row of theirs; transformers' own default leaves an output layer whole as well.
UNQUANTIZED = ("embed_tokens", "embed_audio_tokens", "text_lm_head", "audio_lm_head")
# Weights that share a scale, and scales that share a scale of their own: bitsandbytes' choice.
BLOCK, SCALES_BLOCK = 64, 256


def four_bit_config(dtype: torch.dtype) -> BitsAndBytesConfig:
    """How transformers reads a base's attention and feed-forward weights as NF4, 0.52 bytes each.

    Args:
        dtype: what a weight becomes where it is multiplied.
    """
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=list(UNQUANTIZED),
    )


def keep_trainable_on_cpu(model: nn.Module) -> None:
    """Switch off bitsandbytes' repacking of weights at the first evaluation on a CPU, in place.

    What it packs has no gradient, and training goes on after an evaluation.
    """
    linear = import_module("bitsandbytes").nn.Linear4bit
    for module in model.modules():
        if isinstance(module, linear):
            module.support_avx512bf16_for_cpu = False


def require_whole_weights(needed_by: str) -> None:
    """Raise `InputError` where the run was launched to cut weights up: neither FSDP nor ZeRO-3 cuts rounded ones."""
    sharding = "FSDP" if parse_flag_from_env("ACCELERATE_USE_FSDP") else "ZeRO-3"
    if sharding == "FSDP" or is_deepspeed_zero3_enabled():
        raise InputError(
            f"{needed_by} keeps the base whole on each GPU, and {sharding} would cut it up: launch with "
            "accelerate_configs/ddp.yaml"
        )


class NF4Linear(nn.Module):
    """A frozen linear layer of bitsandbytes without bias: (..., K) -> (..., N).

    For compiled layers that recompute: elsewhere the unpacked weight would be kept for the backward pass.
    """

    def __init__(self, linear: nn.Linear) -> None:
        """linear: a `bitsandbytes.nn.Linear4bit` on its device, its weight NF4 with double quantization."""
        super().__init__()
        state = linear.weight.quant_state
        layout = (state.quant_type, state.blocksize, state.nested and state.state2.blocksize)
        assert layout == ("nf4", BLOCK, SCALES_BLOCK) and linear.bias is None, layout
        self.out_features, self.in_features = state.shape
        self.dtype = linear.compute_dtype
        # Parameters and no buffers: DDP would send buffers around in every step.
        for name, tensor in {
            "packed": linear.weight.data.view(self.out_features, -1),  # (N, K / 2) bytes, the even columns' half above
            "values": state.code,  # (16,)
            "scales": state.absmax,  # (N * K / BLOCK,) bytes
            "scale_values": state.state2.code,  # (256,)
            "scale_scales": state.state2.absmax,  # one for each SCALES_BLOCK scales
            "offset": state.offset,  # ()
        }.items():
            setattr(self, name, nn.Parameter(tensor, requires_grad=False))

    def forward(self, states: Tensor) -> Tensor:
        held = (self.packed, self.values, self.scales, self.scale_values, self.scale_scales, self.offset)
        return F.linear(states.to(self.dtype), unpack_nf4(*held, dtype=self.dtype)).to(states.dtype)


def unpack_nf4(
    packed: Tensor,
    values: Tensor,
    scales: Tensor,
    scale_values: Tensor,
    scale_scales: Tensor,
    offset: Tensor,
    *,
    dtype: torch.dtype,
) -> Tensor:
    """The weight (N, K) of what `NF4Linear` holds, as `bitsandbytes.functional.dequantize_4bit` gives it."""
    halves = torch.stack([packed >> 4, packed & 15], dim=-1)  # (N, K / 2, 2)
    of_scales = scale_scales[:, None].expand(-1, SCALES_BLOCK).flatten()[: len(scales)]
    scale = scale_values[scales.int()] * of_scales + offset  # (N * K / BLOCK,)
    weight = values[halves.int()].view(-1, BLOCK) * scale[:, None]
    return weight.view(len(packed), -1).to(dtype)


def unpack_by_torch(model: nn.Module) -> None:
    """Exchange bitsandbytes' linear layers of a model's decoder layers for `NF4Linear`, in place.

    Those stay whose rows are no whole blocks, which it lays out in a way of its own on a CPU; real models have none.
    """
    linear = import_module("bitsandbytes").nn.Linear4bit
    rounded = [
        (parent, name)
        for parent in model.model.layers.modules()
        for name, child in parent.named_children()
        if isinstance(child, linear) and child.in_features % BLOCK == 0
    ]
    for parent, name in rounded:
        setattr(parent, name, NF4Linear(parent.get_submodule(name)))


def is_four_bit(model: nn.Module) -> bool:
    """Whether some weights of a model are packed in four bits: two in a byte."""
    return any(weight.dtype == torch.uint8 for weight in model.parameters())
