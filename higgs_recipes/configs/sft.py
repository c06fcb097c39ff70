"""Config of scripts/sft.py."""

from dataclasses import asdict, dataclass
from math import inf
from typing import Any

from transformers import TrainingArguments
from transformers.trainer_utils import HubStrategy

from higgs_recipes.configs.fields import option, require
from higgs_recipes.configs.finetuning import ForwardConfig, MethodConfig
from higgs_recipes.configs.listening import ListenConfig, read_listen
from higgs_recipes.configs.model import CodecConfig, ModelConfig
from higgs_recipes.configs.training_arguments import (
    check_inherited,
    check_listen,
    check_resolved,
    resolve_best_metric,
)
from higgs_recipes.constants import NUM_CODEBOOKS
from higgs_recipes.errors import InputError


DEFAULT_EPOCHS = 3.0  # default of transformers


def resolve_epochs(*, hours_seen: float | None, num_train_epochs: float | None, max_steps: int) -> float | None:
    """Return the number of epochs; None if `hours_seen` determines it, once the corpus is loaded.

    transformers ignores the number of epochs if `max_steps` is positive (-1: not set).

    Raises:
        InputError: a value is not positive, or `hours_seen` is combined with another length.
    """
    if num_train_epochs is not None and not 0 < num_train_epochs < inf:
        raise InputError(f"num_train_epochs must be positive and finite, got {num_train_epochs}")
    if hours_seen is None:
        return DEFAULT_EPOCHS if num_train_epochs is None else num_train_epochs
    if not 0 < hours_seen < inf:
        raise InputError(f"hours_seen must be positive and finite, got {hours_seen}")
    other_lengths = {"max_steps": max_steps if max_steps > 0 else None, "num_train_epochs": num_train_epochs}
    given = [f"{name} {value}" for name, value in other_lengths.items() if value is not None]
    if given:
        raise InputError(
            f"hours_seen {hours_seen} and {' and '.join(given)} each set the length of the run: keep one; "
            "--hours_seen null on the command line removes that of a recipe"
        )
    return None


@dataclass
class SFTConfig(TrainingArguments, ForwardConfig, MethodConfig, CodecConfig, ModelConfig):
    """Fine-tuning: the TrainingArguments of transformers, and options of Higgs Audio v2.

    Sampling of rows, optimizer, schedule, logging, saving and resuming are fields of TrainingArguments.
    """

    datasets: list[str] = option(
        [], "Encoded corpora by folder or Hub id; they are concatenated and must be encoded with the recipe's codec."
    )
    test_split: str | None = option("test", "Split that eval_strategy evaluates; null: no evaluation.")
    listen: dict[str, Any] | None = option(
        None,
        "At each evaluation, speak held-out rows and score the clips: a mapping of samples, asr, speaker, seed, "
        "temperature and the other fields of ListenConfig; {}: its defaults; null: off.",
    )
    adapter: str | None = option(
        None,
        "LoRA adapter to train further, by folder or Hub id, with the recipe's rank and targets; null: a new one.",
    )
    adapter_revision: str | None = option(None, "Commit, tag or branch of the adapter; null: main.")
    hours_seen: float | None = option(
        None, "Hours of audio to train on, counting repetitions; null: num_train_epochs or max_steps set the length."
    )
    num_train_epochs: float | None = option(None, "Number of epochs; null: 3, or as many as hours_seen takes.")
    text_loss_weight: float = option(1.0, "Weight of the mean loss of the text head.")
    audio_loss_weight: float = option(1.0, "Weight of the weighted mean loss of the codebooks.")
    codebook_weights: list[float] | None = option(
        None, "Weight of the mean loss of each codebook; null: 1/8 for each."
    )
    pack_to: int | None = option(
        None, "Pack samples into rows of this many positions; null: pad each sample of a batch instead."
    )
    fill_rows: bool = option(
        False, "Make each batch one packed row, with clips selected to fill it; requires pack_to."
    )
    code_dropout: float = option(
        0.0, "Share of codec steps replaced by random codes in the input while training, to rely more on the text."
    )
    early_stopping_patience: int | None = option(
        None,
        "Stop after this many evaluations in a row that do not improve metric_for_best_model; requires "
        "load_best_model_at_end; null: train to the end.",
    )
    early_stopping_threshold: float = option(
        0.0, "An evaluation that improves the metric by at most this much does not count as better."
    )
    allow_untrained: bool = option(False, "Warn instead of fail if the model has random weights.")
    hub_private_repo: bool | None = option(
        True, "Create the repository as private, since a voice is personal data; null: the account's default."
    )
    hub_strategy: HubStrategy | str = option("end", "When to push; must be end: once, when the run is complete.")
    logging_nan_inf_filter: bool = option(
        False, "Hide losses that are not finite from the log; false, so that the run stops at the first one."
    )
    ddp_find_unused_parameters: bool | None = option(
        False, "Let DDP search for parameters without a gradient in each step; false, as there are none."
    )
    remove_unused_columns: bool | None = option(
        False, "Remove columns that the model's forward does not take; must be false, as the collator needs them."
    )

    def __post_init__(self) -> None:
        for part in (ModelConfig, CodecConfig, MethodConfig, ForwardConfig):
            part.__post_init__(self)
        require(bool(self.datasets), "datasets is empty: name at least one encoded corpus")
        for name in ("text_loss_weight", "audio_loss_weight"):
            require(getattr(self, name) >= 0, f"{name} must be 0 or positive, got {getattr(self, name)}")
        if self.codebook_weights is not None:
            weights = self.codebook_weights
            require(len(weights) == NUM_CODEBOOKS, f"codebook_weights needs {NUM_CODEBOOKS}, got {len(weights)}")
            require(min(weights) >= 0 < max(weights), f"codebook_weights must be 0 or positive, got {weights}")
        require(
            not self.fill_rows or (self.pack_to is not None and self.per_device_train_batch_size == 1),
            "fill_rows needs batches of one packed row: set pack_to and per_device_train_batch_size: 1",
        )
        require(self.method == "lora" or self.adapter is None, "adapter requires method: lora; remove one of the two")
        patience, threshold = self.early_stopping_patience, self.early_stopping_threshold
        require(patience is None or patience >= 1, f"early_stopping_patience must be at least 1, got {patience}")
        require(
            patience is None or self.load_best_model_at_end,
            "early_stopping_patience requires load_best_model_at_end: true, and eval_strategy and save_strategy that "
            "evaluate and save at the same steps",
        )
        require(
            patience is None or not self.eval_on_start,
            "early_stopping_patience and eval_on_start: remove one, as a resumed run would count its first evaluation",
        )
        require(0 <= threshold < inf, f"early_stopping_threshold must be 0 or positive, got {threshold}")
        require(patience is not None or threshold == 0, "early_stopping_threshold requires early_stopping_patience")
        require(0 <= self.code_dropout < 1, f"code_dropout must be in [0, 1), got {self.code_dropout}")
        require(self.pack_to is None or self.pack_to >= 1, f"pack_to must be positive, got {self.pack_to}")
        require(
            not self.fast_path or self.attn_implementation == "sdpa",
            f"fast_path requires attn_implementation sdpa, not {self.attn_implementation}: set fast_path: false",
        )
        require(not (self.fp8 and self.load_in_4bit), "fp8 and load_in_4bit each set the format of the base: keep one")
        require(not self.fp8 or self.bf16, "fp8 needs bfloat16 activations: set bf16: true")
        require(
            self.method == "lora" or not self.load_in_4bit,
            "load_in_4bit requires method: lora, as 4-bit weights cannot be trained",
        )
        require(
            self.method == "lora" or self.dtype == self.trained_dtype or self.bf16,
            f"dtype ({self.dtype}) and trained_dtype ({self.trained_dtype}) differ: set bf16: true",
        )
        self.num_train_epochs = resolve_epochs(
            hours_seen=self.hours_seen, num_train_epochs=self.num_train_epochs, max_steps=self.max_steps
        )
        if self.test_split is None:
            self.eval_strategy = "no"
        if self.listen is not None:
            self.listen = asdict(read_listen(self.listen))  # the record of the run has all values
            check_listen(self)
        check_inherited(self)
        resolve_best_metric(self)
        if self.accelerator_config is None and self.dataloader_pin_memory:
            self.accelerator_config = {"non_blocking": True}  # copy batches asynchronously
        super().__post_init__()
        check_resolved(self)

    @property
    def listening(self) -> ListenConfig | None:
        """The field `listen`; None if it is off."""
        return None if self.listen is None else ListenConfig(**self.listen)

    @property
    def layers_recompute(self) -> bool:
        """Whether compiled layers recompute activations themselves, in place of gradient checkpointing around them."""
        return self.compile_layers and self.gradient_checkpointing

    @property
    def n_gpu(self) -> int:
        """One GPU per process: with several visible GPUs, transformers would use DataParallel."""
        return min(super().n_gpu, 1)
