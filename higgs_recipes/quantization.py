"""A base model in four bits, for QLoRA: NF4 with double quantisation, by bitsandbytes."""

from importlib import import_module

import torch
from accelerate.utils import parse_flag_from_env
from torch import nn
from transformers import BitsAndBytesConfig
from transformers.integrations import is_deepspeed_zero3_enabled

from higgs_recipes.errors import InputError


# What is looked up, and not multiplied, gains nothing. The heads are where rounding shows most: each code's and each
# token's logit is one row of theirs; transformers' own default leaves an output layer whole as well.
UNQUANTIZED = ("embed_tokens", "embed_audio_tokens", "text_lm_head", "audio_lm_head")


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


def is_four_bit(model: nn.Module) -> bool:
    """Whether some weights of a model are packed in four bits: two in a byte."""
    return any(weight.dtype == torch.uint8 for weight in model.parameters())
