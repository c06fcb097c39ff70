"""Every knob of every recipe: one flat dataclass a stage, declared once, with its reason, and checked here."""

from dataclasses import dataclass
from math import inf
from typing import Annotated, Literal

from transformers import TrainingArguments

from higgs_recipes.inherited_checks import check_inherited, check_launch
from higgs_recipes.knobs import knob, require, require_package, require_seed
from higgs_recipes.method_config import Dtype, MethodConfig, PathConfig
from higgs_recipes.run_length import epochs_asked


MODEL_ID = "bosonai/higgs-tts-2-3b-base"
MODEL_REVISION = "d80c511612b3040ff2877ce3d408747df1739f11"
CODEC_ID = "bosonai/higgs-audio-v2-tokenizer"
CODEC_REVISION = "403fbacf2f60caaa102f893fdfabb694619b2417"
NUM_CODEBOOKS = 8
CODEC_BATCH_SECONDS = 160.0  # of audio that goes through the codec at once: some GB of a GPU

Task = Literal[
    "single_speaker_smart_voice",
    "zero_shot_voice_cloning",
    "multi_speaker_smart_voice",
    "multi_speaker_voice_cloning",
]
Normalizer = Literal["none", "basic", "whisper_en_no_spelling", "seed_tts_en", "seed_tts_zh"]
# A text, or a mapping of fields; the parser of flags knows no such union, so to it this is a str.
Source = Annotated[str, dict]


@dataclass
class ModelConfig:
    """The base model: a native transformers checkpoint by folder or Hub id."""

    model_name_or_path: str = knob(MODEL_ID, "Folder or Hub id of a HiggsAudioV2ForConditionalGeneration checkpoint.")
    model_revision: str | None = knob(None, "Commit, tag or branch of the base model; the known base is pinned.")
    dtype: Dtype = knob("bfloat16", "Type of the base weights in memory.")
    attn_implementation: str = knob("sdpa", "Attention as transformers names it: sdpa, eager, flash_attention_2 ...")
    load_in_4bit: bool = knob(
        False, "Round the base's attention and feed-forward weights to NF4, a quarter of bfloat16; with lora: QLoRA."
    )

    def __post_init__(self) -> None:
        if self.load_in_4bit:
            require_package("bitsandbytes", "load_in_4bit")
        if self.model_name_or_path == MODEL_ID and self.model_revision is None:
            self.model_revision = MODEL_REVISION


@dataclass
class CodecConfig:
    """The audio tokenizer: a transformers checkpoint by folder or Hub id."""

    codec_name_or_path: str = knob(CODEC_ID, "Folder or Hub id of a HiggsAudioV2TokenizerModel checkpoint.")
    codec_revision: str | None = knob(None, "Commit, tag or branch of the codec; the known codec is pinned.")

    def __post_init__(self) -> None:
        if self.codec_name_or_path == CODEC_ID and self.codec_revision is None:
            self.codec_revision = CODEC_REVISION


@dataclass
class HubConfig:
    """Where results go on the Hub."""

    push_to_hub: bool = knob(False, "Push the result to the Hub when it is complete.")
    hub_private_repo: bool = knob(True, "Create the repository as private. A voice is personal data.")


@dataclass
class SamplingConfig:
    """How frames are drawn. Defaults are those of the published generation config."""

    temperature: float = knob(1.0, "Divides the logits; 0 is greedy.")
    top_k: int = knob(50, "Draw from the k likeliest codes; 0 is all.")
    top_p: float = knob(0.95, "Draw from the smallest set with this probability.")
    ras_win_len: int = knob(7, "Repetition-aware sampling looks back this many frames; 0 is off.")
    ras_win_max_num_repeat: int = knob(2, "A code seen this often in the window is drawn again from all codes.")
    max_seconds: float = knob(30.0, "Cap on the generated audio; a clip that reaches it did not stop by itself.")
    batch_size: int = knob(8, "Texts generated together; the audio of a seed does not depend on it.")

    def __post_init__(self) -> None:
        require(self.temperature >= 0, f"temperature must be 0 (greedy) or positive, got {self.temperature}")
        require(self.top_k >= 0, f"top_k must be 0 (all) or positive, got {self.top_k}")
        require(0 < self.top_p <= 1, f"top_p must be in (0, 1], got {self.top_p}")
        require(self.ras_win_len >= 0, f"ras_win_len must be 0 (off) or positive, got {self.ras_win_len}")
        require(
            self.ras_win_max_num_repeat >= 1,
            f"ras_win_max_num_repeat must be at least 1, got {self.ras_win_max_num_repeat}",
        )
        require(
            0.04 <= self.max_seconds < inf,
            f"max_seconds must be at least one frame, 0.04, and finite, got {self.max_seconds}",
        )
        require(self.batch_size >= 1, f"batch_size must be at least 1, got {self.batch_size}")


@dataclass
class SFTConfig(TrainingArguments, PathConfig, MethodConfig, CodecConfig, ModelConfig):
    """Fine-tuning: transformers' TrainingArguments plus what Higgs Audio v2 needs.

    Sampling of rows, optimizer, schedule, logging, saving and resuming are TrainingArguments' own fields.
    """

    datasets: list[str] = knob([], "Encoded corpora by folder or Hub id, concatenated; made by the recipe's codec.")
    test_split: str | None = knob("test", "Split whose losses are reported at eval_strategy; null is none.")
    hours_seen: float | None = knob(None, "Hours of audio to train on in all, clips heard again counted again.")
    num_train_epochs: float | None = knob(None, "How often each row is seen; null is 3, or what hours_seen makes it.")
    text_loss_weight: float = knob(1.0, "Weight of the text head's mean loss.")
    audio_loss_weight: float = knob(1.0, "Weight of the codebooks' weighted mean loss.")
    codebook_weights: list[float] | None = knob(None, "Weight of each codebook's mean loss; default 1/8 each.")
    pack_to: int | None = knob(None, "Pack samples into rows of this many positions; null pads instead.")
    fill_rows: bool = knob(False, "With pack_to: each batch is ONE row, of clips chosen so that they fill it.")
    code_dropout: float = knob(
        0.0, "Share of the codec steps that the model reads as drawn codes while it trains, to lean on the text."
    )
    allow_untrained: bool = knob(False, "Pre-flight warns instead of refusing: for a model with random weights.")
    hub_private_repo: bool | None = knob(True, "Create the repository as private. A voice is personal data.")
    logging_nan_inf_filter: bool = knob(False, "A loss that is not finite ends the run; the filter would wait for it.")
    ddp_find_unused_parameters: bool | None = knob(
        False,
        "DDP looks in each step for weights without a gradient: there are none, in a batch of text alone neither.",
    )
    remove_unused_columns: bool | None = knob(False, "The samples' columns are the collator's, not the model's.")

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


@dataclass
class AdapterConfig:
    """What was fine-tuned."""

    adapter: str | None = knob(None, "Folder or Hub id of a LoRA adapter; null is the base model alone.")
    adapter_revision: str | None = knob(None, "Commit, tag or branch of the adapter.")


@dataclass
class GenerateConfig(SamplingConfig, CodecConfig, AdapterConfig, ModelConfig):
    """Text -> speech."""

    text: list[str] = knob([], "Texts to speak, one wav each.")
    text_file: str | None = knob(None, "File with one text a line, spoken after those of `text`.")
    scene: str | None = knob(None, "A sentence on the recording, as the corpus had it; null is none.")
    ref_audio: list[str] = knob([], "Clip whose voice is cloned; for a dialogue those of [SPEAKER0], [SPEAKER1], ...")
    ref_text: list[str] | None = knob(None, "What each reference clip says; null with ref_in_system.")
    ref_in_system: bool = knob(
        False, "Name reference clips in the system turn, without their texts: for what was trained with it."
    )
    seed: int = knob(0, "Seed of the first text; text i has seed + i.")
    output_dir: str = knob("outputs/generate", "Folder of the wav files and generations.jsonl.")
    overwrite_output_dir: bool = knob(False, "Replace what stands in output_dir.")

    def __post_init__(self) -> None:
        ModelConfig.__post_init__(self)
        CodecConfig.__post_init__(self)
        SamplingConfig.__post_init__(self)
        require(bool(self.text) or self.text_file is not None, "nothing to speak: give text or text_file")
        num_clips, num_texts = len(self.ref_audio), len(self.ref_text or [])
        require(num_clips > 0 or num_texts == 0, "ref_text is given, but no ref_audio")
        require(num_clips > 0 or not self.ref_in_system, "ref_in_system is set, but there is no ref_audio")
        require(
            num_texts == num_clips or (self.ref_in_system and num_texts == 0),
            f"cloning needs both ref_audio and ref_text: {num_clips} clips have {num_texts} texts; give each its own, "
            "or with ref_in_system none",
        )
        require_seed(self.seed)


@dataclass
class EvaluateConfig(SamplingConfig, CodecConfig, AdapterConfig, ModelConfig, HubConfig):
    """Held-out texts -> speech -> what a recogniser and a speaker model make of it."""

    dataset: str = knob("", "Encoded corpus by folder or Hub id; its split must keep the recordings.")
    split: str = knob("test", "Split whose texts are spoken.")
    max_rows: int | None = knob(None, "Score at most this many rows, the first ones; null is all.")
    seed: int = knob(0, "Seed of the first row; row i has seed + i, the same for base and fine-tuned.")
    asr: str = knob("openai/whisper-large-v3", "Recogniser: a transformers model, or package:faster-whisper-tiny.en.")
    asr_revision: str | None = knob(None, "Commit, tag or branch of the recogniser.")
    asr_language: str = knob("en", "Language that the recogniser is told.")
    speaker: str = knob("microsoft/wavlm-base-plus-sv", "Speaker model: an x-vector model, or package:resemblyzer.")
    speaker_revision: str | None = knob(None, "Commit, tag or branch of the speaker model.")
    normalizer: Normalizer = knob("whisper_en_no_spelling", "Text normaliser before scoring, of metrics.NORMALIZERS.")
    untrained_base: bool = knob(False, "Say in the report that the base model has random weights.")
    hub_model_id: str | None = knob(None, "Model that gets the report, as user/name; default is the adapter's id.")
    output_dir: str = knob("outputs/evaluate", "Folder of metrics.json, report.md, report.html and the wav files.")
    overwrite_output_dir: bool = knob(False, "Replace what stands in output_dir.")

    def __post_init__(self) -> None:
        ModelConfig.__post_init__(self)
        CodecConfig.__post_init__(self)
        SamplingConfig.__post_init__(self)
        require(bool(self.dataset), "dataset is empty: name an encoded corpus")
        require(self.max_rows is None or self.max_rows >= 1, f"max_rows must be positive, got {self.max_rows}")
        require_seed(self.seed)


@dataclass
class MergeConfig(AdapterConfig, ModelConfig, HubConfig):
    """Adapter + base -> one native checkpoint."""

    output_dir: str = knob("outputs/merged", "Folder of the merged checkpoint and its processor.")
    overwrite_output_dir: bool = knob(False, "Replace what stands in output_dir.")
    hub_model_id: str | None = knob(None, "Model to push to, as user/name; default is output_dir's name.")
    check: bool = knob(False, "Compare the logits of adapter-on and merged on a real prompt.")

    def __post_init__(self) -> None:
        ModelConfig.__post_init__(self)
        require(self.adapter is not None, "adapter is missing: name the folder or Hub id of the adapter to merge")
        require(
            not self.load_in_4bit, "load_in_4bit must be false: an adapter, of QLoRA too, is merged into whole weights"
        )


@dataclass
class InitConfig:
    """A checkpoint with random weights from a config in a file: for tests, demos and speed measurements."""

    model_config: str = knob("", "JSON file of a HiggsAudioV2Config.")
    codec_config: str | None = knob(None, "JSON file of a HiggsAudioV2TokenizerConfig; null makes no codec.")
    phrases: list[str] = knob([], "Strings of one token each in the byte tokenizer: what stands in every prompt.")
    dtype: Dtype = knob("float32", "Type of the saved model weights.")
    seed: int = knob(0, "Seed of the weights.")
    output_dir: str = knob("outputs/init", "Folder that gets model/ and codec/.")
    overwrite_output_dir: bool = knob(False, "Replace what stands in output_dir.")

    def __post_init__(self) -> None:
        require(bool(self.model_config), "model_config is missing: name a JSON file of a HiggsAudioV2Config")
        require_seed(self.seed)
