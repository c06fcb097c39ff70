"""The config of scripts/sft.py."""

from dataclasses import dataclass
from math import inf

from transformers import TrainingArguments

from higgs_recipes.configs.fields import option, require
from higgs_recipes.configs.finetuning import MethodConfig, PathConfig
from higgs_recipes.configs.model import CodecConfig, ModelConfig
from higgs_recipes.configs.training_arguments import check_inherited, check_launch
from higgs_recipes.constants import NUM_CODEBOOKS
from higgs_recipes.errors import InputError


DEFAULT_EPOCHS = 3.0  # transformers' own


def epochs_asked(*, hours_seen: float | None, num_train_epochs: float | None, max_steps: int) -> float | None:
    """The epochs of a recipe; None where `hours_seen` makes them, which is known with the corpus.

    With `max_steps` (-1 is none) transformers leaves the epochs unread.

    Raises:
        InputError: either is not positive, or `hours_seen` stands beside another length.
    """
    if num_train_epochs is not None and not 0 < num_train_epochs < inf:
        raise InputError(f"num_train_epochs must be positive and finite, got {num_train_epochs}")
    if hours_seen is None:
        return DEFAULT_EPOCHS if num_train_epochs is None else num_train_epochs
    if not 0 < hours_seen < inf:
        raise InputError(f"hours_seen must be positive and finite, got {hours_seen}")
    others = {"max_steps": max_steps if max_steps > 0 else None, "num_train_epochs": num_train_epochs}
    given = [f"{name} {value}" for name, value in others.items() if value is not None]
    if given:
        raise InputError(
            f"hours_seen {hours_seen} and {' and '.join(given)} each say how long the run is: keep one; on the "
            "command line --hours_seen null takes a recipe's out"
        )
    return None


@dataclass
class SFTConfig(TrainingArguments, PathConfig, MethodConfig, CodecConfig, ModelConfig):
    """Fine-tuning: transformers' TrainingArguments plus what Higgs Audio v2 needs.

    Sampling of rows, optimizer, schedule, logging, saving and resuming are TrainingArguments' own fields.
    """

    datasets: list[str] = option([], "Encoded corpora by folder or Hub id, concatenated; made by the recipe's codec.")
    test_split: str | None = option("test", "Split whose losses are reported at eval_strategy; null is none.")
    hours_seen: float | None = option(None, "Hours of audio to train on in all, clips heard again counted again.")
    num_train_epochs: float | None = option(
        None, "How often each row is seen; null is 3, or what hours_seen makes it."
    )
    text_loss_weight: float = option(1.0, "Weight of the text head's mean loss.")
    audio_loss_weight: float = option(1.0, "Weight of the codebooks' weighted mean loss.")
    codebook_weights: list[float] | None = option(None, "Weight of each codebook's mean loss; default 1/8 each.")
    pack_to: int | None = option(None, "Pack samples into rows of this many positions; null pads instead.")
    fill_rows: bool = option(False, "With pack_to: each batch is ONE row, of clips chosen so that they fill it.")
    code_dropout: float = option(
        0.0, "Share of the codec steps that the model reads as drawn codes while it trains, to lean on the text."
    )
    allow_untrained: bool = option(False, "Pre-flight warns instead of refusing: for a model with random weights.")
    hub_private_repo: bool | None = option(True, "Create the repository as private. A voice is personal data.")
    logging_nan_inf_filter: bool = option(
        False, "A loss that is not finite ends the run; the filter would wait for it."
    )
    ddp_find_unused_parameters: bool | None = option(
        False,
        "DDP looks in each step for weights without a gradient: there are none, in a batch of text alone neither.",
    )
    remove_unused_columns: bool | None = option(False, "The samples' columns are the collator's, not the model's.")

    def __post_init__(self) -> None:
        for part in (ModelConfig, CodecConfig, MethodConfig, PathConfig):
            part.__post_init__(self)
        require(bool(self.datasets), "datasets is empty: name at least one encoded corpus")
        require(not self.remove_unused_columns, "remove_unused_columns must be false: the collator needs the codes")
        for name in ("text_loss_weight", "audio_loss_weight"):
            require(getattr(self, name) >= 0, f"{name} must be 0 or positive, got {getattr(self, name)}")
        if self.codebook_weights is not None:
            weights = self.codebook_weights
            require(len(weights) == NUM_CODEBOOKS, f"codebook_weights needs {NUM_CODEBOOKS}, got {len(weights)}")
            require(min(weights) >= 0 < max(weights), f"codebook_weights must be 0 or positive, got {weights}")
        require(
            not self.fill_rows or (self.pack_to is not None and self.per_device_train_batch_size == 1),
            "fill_rows makes batches of one packed row: set pack_to, and per_device_train_batch_size: 1",
        )
        require(0 <= self.code_dropout < 1, f"code_dropout must be in [0, 1), got {self.code_dropout}")
        require(self.pack_to is None or self.pack_to >= 1, f"pack_to must be positive, got {self.pack_to}")
        require(
            not self.fast_path or self.attn_implementation == "sdpa",
            f"fast_path has its own attention in the place of attn_implementation sdpa, not {self.attn_implementation}"
            ": set fast_path: false",
        )
        require(not (self.fp8 and self.load_in_4bit), "fp8 and load_in_4bit each say how the base is kept: set one")
        require(not self.fp8 or self.bf16, "fp8 rounds between bfloat16: set bf16: true")
        require(
            self.method == "lora" or not self.load_in_4bit,
            "load_in_4bit is of method lora: weights in four bits cannot be trained themselves",
        )
        require(
            self.method == "lora" or self.dtype == self.trained_dtype or self.bf16,
            f"dtype {self.dtype} beside trained_dtype {self.trained_dtype}: set bf16: true, to compute in one of them",
        )
        self.num_train_epochs = epochs_asked(
            hours_seen=self.hours_seen, num_train_epochs=self.num_train_epochs, max_steps=self.max_steps
        )
        check_inherited(self)
        if self.accelerator_config is None and self.dataloader_pin_memory:
            self.accelerator_config = {"non_blocking": True}  # a batch is copied by the way: the host waits for no GPU
        super().__post_init__()
        check_launch(self)

    @property
    def layers_recompute(self) -> bool:
        """Whether compiled layers recompute by themselves what gradient checkpointing would around them."""
        return self.compile_layers and self.gradient_checkpointing

    @property
    def n_gpu(self) -> int:
        """One GPU per process: with several visible GPUs, transformers would use DataParallel."""
        return min(super().n_gpu, 1)
