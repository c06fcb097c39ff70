"""Which weights a fine-tuning trains, and how a training step is computed."""

from dataclasses import dataclass
from typing import Literal

from accelerate.utils import parse_flag_from_env

from higgs_recipes.configs.fields import Dtype, option, require


# Name in `train_modules` -> pattern of parameter names. Each parameter of the model matches exactly one pattern.
TRAIN_MODULES = {
    "attention": r"\.self_attn\.",
    "text_expert": r"\.(mlp|input_layernorm|post_attention_layernorm)\.",
    "audio_expert": r"\.(audio_mlp|audio_input_layernorm|audio_post_attention_layernorm)\.",
    "final_norm": r"^model\.norm\.",
    "text_embedding": r"^model\.embed_tokens\.",
    "audio_embedding": r"^model\.embed_audio_tokens\.",
    "text_head": r"^text_lm_head\.",
    "audio_head": r"^audio_lm_head\.",
}


@dataclass
class MethodConfig:
    """Which weights are trained, and in which data type they are stored."""

    method: Literal["lora", "full"] = option(
        "lora", "Method of fine-tuning: lora trains a small adapter, full the weights of the model."
    )
    lora_r: int = option(16, "Rank of the adapter.")
    lora_alpha: int = option(32, "Scale of the adapter: its output is multiplied by lora_alpha / lora_r.")
    lora_dropout: float = option(0.0, "Dropout probability of the adapter's input.")
    lora_targets: list[str] = option(
        ["attention"], "Modules with an adapter: attention, audio_mlp, mlp, heads, or full module names."
    )
    train_modules: list[str] | None = option(
        None, f"Trained parts of the model with method full: {', '.join(TRAIN_MODULES)}; null: all."
    )
    trained_dtype: Dtype = option(
        "float32", "Data type of the trained weights with method full; bfloat16 rounds small updates to zero."
    )
    fp8: bool = option(
        False, "Multiply with the base model's frozen weights in float8 (method lora; GPUs since Ada and Hopper)."
    )

    def __post_init__(self) -> None:
        require(self.lora_r >= 1, f"lora_r must be at least 1, got {self.lora_r}")
        require(self.lora_alpha >= 1, f"lora_alpha must be at least 1, got {self.lora_alpha}")
        require(0 <= self.lora_dropout < 1, f"lora_dropout must be in [0, 1), got {self.lora_dropout}")
        require(bool(self.lora_targets) or self.method == "full", "lora_targets is empty: name the modules to adapt")
        require(self.method == "lora" or not self.fp8, "fp8 requires method: lora, as it is for frozen weights only")
        require(
            not (self.fp8 and parse_flag_from_env("ACCELERATE_USE_DEEPSPEED")),
            "fp8 does not support DeepSpeed, which casts weights to bfloat16: launch with accelerate_configs/ddp.yaml",
        )
        require(
            self.method == "full" or self.trained_dtype == "float32",
            "trained_dtype requires method: full, as an adapter is always float32",
        )
        if self.train_modules is not None:
            require(self.method == "full", "train_modules requires method: full; lora uses lora_targets")
            allowed = ", ".join(TRAIN_MODULES)
            require(bool(self.train_modules), f"train_modules is empty: name some of {allowed}, or null for all")
            unknown = [name for name in self.train_modules if name not in TRAIN_MODULES]
            require(not unknown, f"train_modules: {', '.join(map(repr, unknown))} is not one of {allowed}")


@dataclass
class ForwardConfig:
    """How a training step is computed; these options do not change its result."""

    fast_path: bool = option(
        True, "Replace the layers' forward by one without padding and masks, with equal results; requires sdpa."
    )
    compile_layers: bool = option(
        False,
        "Compile the layers of fast_path: slower start, faster steps on a GPU; with gradient_checkpointing, compiled "
        "layers recompute activations themselves.",
    )

    def __post_init__(self) -> None:
        require(self.fast_path or not self.compile_layers, "compile_layers requires fast_path: set both")
