"""What a fine-tuning changes, an adapter on named modules, the whole model or named parts of it; and by which path."""

from dataclasses import dataclass
from typing import Literal

from accelerate.utils import parse_flag_from_env

from higgs_recipes.configs.fields import Dtype, option, require


# What `train_modules` names -> the parameters, by their full names. Together they are the whole model, each once.
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
    """The part of a fine-tuning's recipe that says which weights change, and in which type they are kept."""

    method: Literal["lora", "full"] = option("lora", "lora: a small adapter. full: the weights themselves.")
    lora_r: int = option(16, "Rank of the adapter.")
    lora_alpha: int = option(32, "Scale of the adapter: its output is multiplied by alpha / r.")
    lora_dropout: float = option(0.0, "Dropout before the adapter.")
    lora_targets: list[str] = option(
        ["attention"], "Modules adapted: attention, audio_mlp, mlp, heads, or full module names."
    )
    train_modules: list[str] | None = option(
        None, f"Of full: the parts that are trained, the rest stays as it is: {', '.join(TRAIN_MODULES)}. null is all."
    )
    trained_dtype: Dtype = option(
        "float32", "Of full: type of the weights that are trained. In bfloat16 small steps round to nothing."
    )

    fp8: bool = option(
        False,
        "Of lora: multiply with the base's frozen weights in float8, which Ada, Hopper and later GPUs do faster.",
    )

    def __post_init__(self) -> None:
        require(self.lora_r >= 1, f"lora_r must be at least 1, got {self.lora_r}")
        require(self.lora_alpha >= 1, f"lora_alpha must be at least 1, got {self.lora_alpha}")
        require(0 <= self.lora_dropout < 1, f"lora_dropout must be in [0, 1), got {self.lora_dropout}")
        require(bool(self.lora_targets) or self.method == "full", "lora_targets is empty: name what to adapt")
        require(
            self.method == "lora" or not self.fp8, "fp8 is of method lora: it is for weights that stay as they are"
        )
        require(
            not (self.fp8 and parse_flag_from_env("ACCELERATE_USE_DEEPSPEED")),
            "fp8 does not go with DeepSpeed, which casts weights to bfloat16: launch with accelerate_configs/ddp.yaml",
        )
        require(
            self.method == "full" or self.trained_dtype == "float32",
            "trained_dtype is of method full: an adapter is always float32",
        )
        if self.train_modules is not None:
            require(self.method == "full", "train_modules is of method full; an adapter's are named by lora_targets")
            allowed = ", ".join(TRAIN_MODULES)
            require(bool(self.train_modules), f"train_modules is empty: name some of {allowed}, or null for all")
            unknown = [name for name in self.train_modules if name not in TRAIN_MODULES]
            require(not unknown, f"train_modules: {', '.join(map(repr, unknown))} is none of {allowed}")


@dataclass
class PathConfig:
    """The part that says how a step is computed: not what comes of it."""

    fast_path: bool = option(
        True, "Train with the layers' forward exchanged: the same numbers, no padding, no mask. Needs sdpa."
    )
    compile_layers: bool = option(
        False,
        "Compile the fast path's layers: a minute at the start, faster on a GPU. With gradient_checkpointing they "
        "recompute by themselves, and no more than the backward pass asks for.",
    )

    def __post_init__(self) -> None:
        require(self.fast_path or not self.compile_layers, "compile_layers compiles the layers of fast_path: set both")
