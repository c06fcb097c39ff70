"""A 4-bit base model for QLoRA: NF4 with double quantization, by bitsandbytes.

bitsandbytes launches about 20 kernels per decoder layer and pass from Python, and the GPU waits for them. In compiled
layers with recomputation, the same weights are dequantized by torch operations, which compile to one kernel.
"""

from importlib import import_module

import torch
import torch.nn.functional as F
from accelerate.utils import parse_flag_from_env
from torch import Tensor, nn
from transformers import BitsAndBytesConfig
from transformers.integrations import is_deepspeed_zero3_enabled

from higgs_recipes.errors import InputError
from higgs_recipes.modeling.replace_layers import replace_in_layers


# Embeddings are looked up, not multiplied. The heads are most sensitive to rounding: one row of their weights is the
# logit of one code or token; transformers does not quantize output layers by default either.
UNQUANTIZED = ("embed_tokens", "embed_audio_tokens", "text_lm_head", "audio_lm_head")
# Weights per scale, and scales per second-level scale: the defaults of bitsandbytes.
BLOCK_SIZE, SCALES_BLOCK_SIZE = 64, 256


def nf4_config(dtype: torch.dtype) -> BitsAndBytesConfig:
    """The quantization config for transformers: attention and feed-forward weights as NF4, 0.52 bytes each.

    Args:
        dtype: type of the dequantized weights in matrix products.
    """
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=list(UNQUANTIZED),
    )


def disable_cpu_repacking(model: nn.Module) -> None:
    """Turn off that bitsandbytes repacks weights at the first evaluation on a CPU, in place.

    Repacked weights pass no gradient on, and training continues after an evaluation.
    """
    linear = import_module("bitsandbytes").nn.Linear4bit
    for module in model.modules():
        if isinstance(module, linear):
            module.support_avx512bf16_for_cpu = False


def refuse_sharding(field: str) -> None:
    """Raise `InputError` if the run was launched with FSDP or ZeRO-3: neither shards quantized weights."""
    sharding = "FSDP" if parse_flag_from_env("ACCELERATE_USE_FSDP") else "ZeRO-3"
    if sharding == "FSDP" or is_deepspeed_zero3_enabled():
        raise InputError(
            f"{field} needs all weights of the base on each GPU, but {sharding} would shard them: launch with "
            "accelerate_configs/ddp.yaml"
        )


class NF4Linear(nn.Module):
    """A frozen 4-bit linear layer without bias: (..., K) -> (..., N), dequantized by torch operations.

    For compiled layers with recomputation: otherwise the dequantized weight would be stored for the backward pass.
    """

    def __init__(self, linear: nn.Linear) -> None:
        """Take over the weight of a `bitsandbytes.nn.Linear4bit`: NF4 with double quantization, on its device."""
        super().__init__()
        state = linear.weight.quant_state
        layout = (state.quant_type, state.blocksize, state.nested and state.state2.blocksize)
        assert layout == ("nf4", BLOCK_SIZE, SCALES_BLOCK_SIZE) and linear.bias is None, layout
        self.out_features, self.in_features = state.shape
        self.dtype = linear.compute_dtype
        # Parameters, not buffers: DDP would broadcast buffers in every step.
        for name, tensor in {
            "packed": linear.weight.data.view(self.out_features, -1),  # (N, K / 2) bytes, even columns in high bits
            "values": state.code,  # (16,) the NF4 values
            "scales": state.absmax,  # (N * K / BLOCK_SIZE,) bytes
            "scale_values": state.state2.code,  # (256,) the values of the scales
            "scale_scales": state.state2.absmax,  # (ceil(N * K / BLOCK_SIZE / SCALES_BLOCK_SIZE),)
            "offset": state.offset,  # () mean of the scales
        }.items():
            setattr(self, name, nn.Parameter(tensor, requires_grad=False))

    def forward(self, states: Tensor) -> Tensor:
        quantized = (self.packed, self.values, self.scales, self.scale_values, self.scale_scales, self.offset)
        return F.linear(states.to(self.dtype), dequantize_nf4(*quantized, dtype=self.dtype)).to(states.dtype)


def dequantize_nf4(
    packed: Tensor,
    values: Tensor,
    scales: Tensor,
    scale_values: Tensor,
    scale_scales: Tensor,
    offset: Tensor,
    *,
    dtype: torch.dtype,
) -> Tensor:
    """The weight (N, K) of the tensors of `NF4Linear`; equals `bitsandbytes.functional.dequantize_4bit`."""
    nibbles = torch.stack([packed >> 4, packed & 15], dim=-1)  # (N, K / 2, 2)
    scale_factors = scale_scales[:, None].expand(-1, SCALES_BLOCK_SIZE).flatten()[: len(scales)]
    scale = scale_values[scales.int()] * scale_factors + offset  # (N * K / BLOCK_SIZE,)
    weight = values[nibbles.int()].view(-1, BLOCK_SIZE) * scale[:, None]
    return weight.view(len(packed), -1).to(dtype)


def use_nf4_linear(model: nn.Module) -> None:
    """Replace bitsandbytes' linear layers of the decoder layers by `NF4Linear`, in place.

    Layers whose rows are not a multiple of `BLOCK_SIZE` are kept: on a CPU bitsandbytes stores them in another layout.
    Published models have none.
    """
    linear = import_module("bitsandbytes").nn.Linear4bit
    replace_in_layers(
        model,
        is_replaced=lambda child: isinstance(child, linear) and child.in_features % BLOCK_SIZE == 0,
        build=NF4Linear,
    )


def is_four_bit(model: nn.Module) -> bool:
    """Whether a model has 4-bit weights: two are packed into a byte."""
    return any(weight.dtype == torch.uint8 for weight in model.parameters())
