"""The configs of scripts/generate.py, evaluate.py, merge.py and init_model.py."""

from dataclasses import dataclass
from math import inf

from higgs_recipes.configs.fields import Dtype, option, require, require_seed
from higgs_recipes.configs.model import CodecConfig, HubConfig, ModelConfig
from higgs_recipes.normalizers import Normalizer


@dataclass
class SamplingConfig:
    """How frames are drawn. Defaults are those of the published generation config."""

    temperature: float = option(1.0, "Divides the logits; 0 is greedy.")
    top_k: int = option(50, "Draw from the k likeliest codes; 0 is all.")
    top_p: float = option(0.95, "Draw from the smallest set with this probability.")
    ras_win_len: int = option(7, "Repetition-aware sampling looks back this many frames; 0 is off.")
    ras_win_max_num_repeat: int = option(2, "A code seen this often in the window is drawn again from all codes.")
    max_seconds: float = option(30.0, "Cap on the generated audio; a clip that reaches it did not stop by itself.")
    batch_size: int = option(8, "Texts generated together; the audio of a seed does not depend on it.")

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
class AdapterConfig:
    """What was fine-tuned."""

    adapter: str | None = option(None, "Folder or Hub id of a LoRA adapter; null is the base model alone.")
    adapter_revision: str | None = option(None, "Commit, tag or branch of the adapter.")


@dataclass
class GenerateConfig(SamplingConfig, CodecConfig, AdapterConfig, ModelConfig):
    """Text -> speech."""

    text: list[str] = option([], "Texts to speak, one wav each.")
    text_file: str | None = option(None, "File with one text a line, spoken after those of `text`.")
    scene: str | None = option(None, "A sentence on the recording, as the corpus had it; null is none.")
    ref_audio: list[str] = option(
        [], "Clip whose voice is cloned; for a dialogue those of [SPEAKER0], [SPEAKER1], ..."
    )
    ref_text: list[str] | None = option(None, "What each reference clip says; null with ref_in_system.")
    ref_in_system: bool = option(
        False, "Name reference clips in the system turn, without their texts: for what was trained with it."
    )
    seed: int = option(0, "Seed of the first text; text i has seed + i.")
    output_dir: str = option("outputs/generate", "Folder of the wav files and generations.jsonl.")
    overwrite_output_dir: bool = option(False, "Replace what stands in output_dir.")

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
    """Held-out texts -> speech -> what an ASR model and a speaker model make of it."""

    dataset: str = option("", "Encoded corpus by folder or Hub id; its split must keep the recordings.")
    split: str = option("test", "Split whose texts are spoken.")
    max_rows: int | None = option(None, "Score at most this many rows, the first ones; null is all.")
    seed: int = option(0, "Seed of the first row; row i has seed + i, the same for base and fine-tuned.")
    asr: str = option("openai/whisper-large-v3", "ASR model: a transformers model, or package:faster-whisper-tiny.en.")
    asr_revision: str | None = option(None, "Commit, tag or branch of the ASR model.")
    asr_language: str = option("en", "Language that the ASR model is told.")
    speaker: str = option("microsoft/wavlm-base-plus-sv", "Speaker model: an x-vector model, or package:resemblyzer.")
    speaker_revision: str | None = option(None, "Commit, tag or branch of the speaker model.")
    normalizer: Normalizer = option(
        "whisper_en_no_spelling", "Text normalizer before scoring, of metrics.NORMALIZERS."
    )
    untrained_base: bool = option(False, "Say in the report that the base model has random weights.")
    hub_model_id: str | None = option(None, "Model that gets the report, as user/name; default is the adapter's id.")
    output_dir: str = option("outputs/evaluate", "Folder of metrics.json, report.md, report.html and the wav files.")
    overwrite_output_dir: bool = option(False, "Replace what stands in output_dir.")

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

    output_dir: str = option("outputs/merged", "Folder of the merged checkpoint and its processor.")
    overwrite_output_dir: bool = option(False, "Replace what stands in output_dir.")
    hub_model_id: str | None = option(None, "Model to push to, as user/name; default is output_dir's name.")
    check: bool = option(False, "Compare the logits of adapter-on and merged on a real prompt.")

    def __post_init__(self) -> None:
        ModelConfig.__post_init__(self)
        require(self.adapter is not None, "adapter is missing: name the folder or Hub id of the adapter to merge")
        require(
            not self.load_in_4bit, "load_in_4bit must be false: an adapter, of QLoRA too, is merged into whole weights"
        )


@dataclass
class InitConfig:
    """A checkpoint with random weights from a config in a file: for tests, demos and speed measurements."""

    model_config: str = option("", "JSON file of a HiggsAudioV2Config.")
    codec_config: str | None = option(None, "JSON file of a HiggsAudioV2TokenizerConfig; null makes no codec.")
    phrases: list[str] = option([], "Strings of one token each in the byte tokenizer: what stands in every prompt.")
    dtype: Dtype = option("float32", "Type of the saved model weights.")
    seed: int = option(0, "Seed of the weights.")
    output_dir: str = option("outputs/init", "Folder that gets model/ and codec/.")
    overwrite_output_dir: bool = option(False, "Replace what stands in output_dir.")

    def __post_init__(self) -> None:
        require(bool(self.model_config), "model_config is missing: name a JSON file of a HiggsAudioV2Config")
        require_seed(self.seed)
