"""Configs of scripts/generate.py, evaluate.py, merge.py and init_model.py."""

from dataclasses import dataclass
from math import inf

from higgs_recipes.configs.fields import Dtype, option, require, require_seed
from higgs_recipes.configs.model import CodecConfig, HubConfig, ModelConfig
from higgs_recipes.configs.protocols import ProtocolConfig
from higgs_recipes.normalizers import Normalizer


@dataclass
class SamplingConfig:
    """How codes are sampled. The defaults are those of the published generation config."""

    temperature: float = option(1.0, "Sampling temperature, which divides the logits; 0: greedy.")
    top_k: int = option(50, "Sample from the k most likely codes; 0: all codes.")
    top_p: float = option(0.95, "Sample from the smallest set of codes with this probability.")
    ras_win_len: int = option(7, "Window of repetition-aware sampling, in frames; 0: off.")
    ras_win_max_num_repeat: int = option(
        2, "Repetitions in the window from which a code is sampled again, from all codes."
    )
    max_seconds: float = option(30.0, "Maximum length of generated audio, in seconds; longer clips are cut off.")
    batch_size: int = option(8, "Texts generated together; the audio of a text depends on its seed, not on its batch.")

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
    """The adapter, if any."""

    adapter: str | None = option(None, "Folder or Hub id of a LoRA adapter; null: the base model alone.")
    adapter_revision: str | None = option(None, "Commit, tag or branch of the adapter; null: main.")


@dataclass
class GenerateConfig(SamplingConfig, CodecConfig, AdapterConfig, ModelConfig):
    """Generate speech from text."""

    text: list[str] = option([], "Texts to speak; each becomes a wav file.")
    text_file: str | None = option(None, "File with one text per line, spoken after those of `text`; null: none.")
    scene: str | None = option(
        None, "Sentence that describes the recording, as in the training corpus; null: no description."
    )
    ref_audio: list[str] = option(
        [], "Reference clips of the voice to clone; in a dialogue those of [SPEAKER0], [SPEAKER1], ..."
    )
    ref_text: list[str] | None = option(None, "Transcript of each reference clip; null: none, with ref_in_system.")
    ref_in_system: bool = option(
        False, "Put reference clips without transcripts into the system turn, for models that were trained this way."
    )
    seed: int = option(0, "Seed of the first text; text i has seed + i.")
    output_dir: str = option("outputs/generate", "Folder of the wav files and generations.jsonl.")
    overwrite_output_dir: bool = option(False, "Replace an existing output_dir.")

    def __post_init__(self) -> None:
        ModelConfig.__post_init__(self)
        CodecConfig.__post_init__(self)
        SamplingConfig.__post_init__(self)
        require(bool(self.text) or self.text_file is not None, "nothing to speak: give text or text_file")
        num_clips, num_texts = len(self.ref_audio), len(self.ref_text or [])
        require(num_clips > 0 or num_texts == 0, "ref_text requires ref_audio")
        require(num_clips > 0 or not self.ref_in_system, "ref_in_system requires ref_audio")
        require(
            num_texts == num_clips or (self.ref_in_system and num_texts == 0),
            f"cloning needs both ref_audio and ref_text: got {num_clips} clips and {num_texts} texts; give one text "
            "per clip, or none with ref_in_system",
        )
        require_seed(self.seed)


@dataclass
class EvaluateConfig(SamplingConfig, CodecConfig, AdapterConfig, ModelConfig, HubConfig, ProtocolConfig):
    """Speak held-out texts, or those of a benchmark, and score the audio with an ASR model and a speaker model."""

    dataset: str = option(
        "", "Encoded corpus by folder or Hub id, whose split must contain the recordings; or dataset of a benchmark."
    )
    split: str = option("test", "Split of the texts to speak.")
    max_rows: int | None = option(None, "Maximum number of rows to score, from the first one; null: all.")
    seed: int = option(0, "Seed of the first row; row i has seed + i, for the base and the fine-tuned model alike.")
    asr: str = option(
        "openai/whisper-large-v3",
        "ASR model: folder or Hub id of a Whisper checkpoint, funasr:paraformer-zh or package:faster-whisper-tiny.en.",
    )
    asr_revision: str | None = option(None, "Commit, tag or branch of the ASR model; null: main.")
    asr_language: str = option("en", "Language of rows that name none: a code or an English name.")
    speaker: str = option(
        "microsoft/wavlm-base-plus-sv",
        "Speaker model: folder or Hub id of an x-vector or WavLM-ECAPA checkpoint, or package:resemblyzer.",
    )
    speaker_revision: str | None = option(None, "Commit, tag or branch of the speaker model; null: main.")
    normalizer: Normalizer = option(
        "auto", "Text normalizer of references and transcripts before scoring; auto: by the language of each row."
    )
    untrained_base: bool = option(False, "State in the report that the base model has random weights.")
    hub_model_id: str | None = option(None, "Model repository to push the report to; null: that of the adapter.")
    output_dir: str = option("outputs/evaluate", "Folder of metrics.json, report.md, report.html and the wav files.")
    overwrite_output_dir: bool = option(False, "Replace an existing output_dir.")

    def __post_init__(self) -> None:
        ModelConfig.__post_init__(self)
        CodecConfig.__post_init__(self)
        SamplingConfig.__post_init__(self)
        self.check_protocol(asr=self.asr, speaker=self.speaker)
        require(bool(self.dataset), "dataset is empty: name an encoded corpus")
        require(self.max_rows is None or self.max_rows >= 1, f"max_rows must be positive, got {self.max_rows}")
        require_seed(self.seed)


@dataclass
class MergeConfig(AdapterConfig, ModelConfig, HubConfig):
    """Merge an adapter into its base model: one native checkpoint."""

    output_dir: str = option("outputs/merged", "Folder of the merged checkpoint and its processor.")
    overwrite_output_dir: bool = option(False, "Replace an existing output_dir.")
    hub_model_id: str | None = option(None, "Model repository to push to; null: the name of output_dir.")
    check: bool = option(False, "Compare the logits of the merged model with those of base model and adapter.")

    def __post_init__(self) -> None:
        ModelConfig.__post_init__(self)
        require(self.adapter is not None, "adapter is missing: name the folder or Hub id of the adapter to merge")
        require(
            not self.load_in_4bit,
            "load_in_4bit must be false: adapters, also those of QLoRA, are merged into unquantized weights",
        )


@dataclass
class InitConfig:
    """Create a checkpoint with random weights for tests, demos and speed measurements."""

    model_config: str = option("", "JSON file of a HiggsAudioV2Config.")
    codec_config: str | None = option(None, "JSON file of a HiggsAudioV2TokenizerConfig; null: no codec.")
    phrases: list[str] = option(
        [], "Frequent strings of prompts, each of which becomes one token of the byte tokenizer."
    )
    dtype: Dtype = option("float32", "Data type of the saved model weights.")
    seed: int = option(0, "Seed of the weights.")
    output_dir: str = option("outputs/init", "Folder of the new folders model/ and codec/.")
    overwrite_output_dir: bool = option(False, "Replace an existing output_dir.")

    def __post_init__(self) -> None:
        require(bool(self.model_config), "model_config is missing: name a JSON file of a HiggsAudioV2Config")
        require_seed(self.seed)
