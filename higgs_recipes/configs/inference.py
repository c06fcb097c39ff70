"""Configs of scripts/generate.py, evaluate.py, merge.py and init_model.py."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from higgs_recipes.configs.fields import Dtype, option, require, require_package, require_seed
from higgs_recipes.configs.model import CodecConfig, HubConfig, ModelConfig
from higgs_recipes.configs.protocols import ProtocolConfig
from higgs_recipes.normalizers import Normalizer


# Recipes may write a single string or null; the configs hold a list. On the command line it is a list.
TextList = Annotated[list[str] | None, str]
ChunkMethod = Literal["none", "word", "speaker"]
TextNormalizer = Literal["none", "wetext", "num2words"]
PCMFormat = Literal["s16le", "f32le"]
PROFILE = "profile:"  # starts an entry of ref_audio that describes a voice


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
    generation_weights: Literal["loaded", "int8"] = option(
        "loaded", "Weights that generate: as loaded, or rounded to 8 bits, which is faster on GPUs for few streams."
    )

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
            0.04 <= self.max_seconds <= 86_400,
            f"max_seconds must be at least one frame, 0.04, and at most a day, 86400, got {self.max_seconds}",
        )
        require(self.batch_size >= 1, f"batch_size must be at least 1, got {self.batch_size}")


@dataclass
class AdapterConfig:
    """The adapter, if any."""

    adapter: str | None = option(None, "Folder or Hub id of a LoRA adapter; null: the base model alone.")
    adapter_revision: str | None = option(None, "Commit, tag or branch of the adapter; null: main.")


@dataclass
class ChunkConfig:
    """How long texts are split into chunks, which are generated one after the other and joined."""

    chunk_method: ChunkMethod = option(
        "word",
        "How a text is split: word: between sentences, if it is too long for one clip; speaker: a dialogue after "
        "every chunk_max_turns turns; none: never.",
    )
    chunk_max_words: int = option(
        200, "Maximum number of words per chunk, and at most 2 per second of max_seconds (2.5 for a whole text)."
    )
    chunk_max_turns: int = option(1, "Turns per chunk, for chunk_method: speaker.")
    # One: the context has the form of a reference clip, which models are trained with. The reference's default is all.
    chunk_buffer_size: int | None = option(
        1, "Number of preceding chunks whose text and audio are context of the next one, to keep the voice; null: all."
    )

    def __post_init__(self) -> None:
        for name in ("chunk_max_words", "chunk_max_turns"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1, got {getattr(self, name)}")
        size = self.chunk_buffer_size
        require(size is None or size >= 0, f"chunk_buffer_size must be null (all), 0 or positive, got {size}")


@dataclass
class GenerateConfig(ChunkConfig, SamplingConfig, CodecConfig, AdapterConfig, ModelConfig):
    """Generate speech from text."""

    text: TextList = option([], "Texts to speak; each becomes a wav file.")
    text_file: str | None = option(None, "File with one text per line, spoken after those of `text`; null: none.")
    documents: TextList = option([], "Text files that are spoken as one text each, after those of `text_file`.")
    text_normalizer: TextNormalizer = option(
        "none",
        "Package that writes out numbers and more: wetext: also dates, units and URLs, in en, zh and ja; num2words: "
        "numbers, in other languages; none: the model reads texts as they are.",
    )
    text_language: str = option("en", "Language of the texts for text_normalizer: a code of ISO 639.")
    scene: str | None = option(
        None, "Sentence that describes the recording, as in the training corpus; null: no description."
    )
    voices_dir: str | None = option(
        None, "Folder of named voices: name.wav with its transcript in name.txt; null: ref_audio has paths only."
    )
    ref_audio: TextList = option(
        [],
        "Reference clips of the voice to clone, in a dialogue those of [SPEAKER0], [SPEAKER1], ...; each a path, a "
        "name in voices_dir, or `profile:` with a sentence that describes the voice.",
    )
    ref_text: TextList = option(
        None, "Transcript of each reference clip; null: that of the named voice, or none with ref_in_system."
    )
    ref_in_system: bool = option(
        False, "Put reference clips without transcripts into the system turn, for models that were trained this way."
    )
    profile: TextList = option(
        [],
        "Sentence that describes the voice of each speaker, instead of reference clips; it is put in the system turn.",
    )
    seed: int = option(0, "Seed of the first text; text i has seed + i, its chunk j has seed + i + 1000003 j.")
    output_dir: str = option("outputs/generate", "Folder of the wav files and generations.jsonl.")
    overwrite_output_dir: bool = option(False, "Replace an existing output_dir.")
    stream: bool = option(
        False,
        "Write raw PCM to stdout while it is generated, the texts one after the other, instead of output_dir: mono, "
        "24,000 Hz.",
    )
    stream_format: PCMFormat = option("s16le", "Samples of the stream: s16le (16-bit integers) or f32le (floats).")

    def __post_init__(self) -> None:
        _check_weights(self.generation_weights, load_in_4bit=self.load_in_4bit)
        ModelConfig.__post_init__(self)
        CodecConfig.__post_init__(self)
        SamplingConfig.__post_init__(self)
        ChunkConfig.__post_init__(self)
        for name in ("text", "documents", "ref_audio", "profile"):
            setattr(self, name, _as_list(getattr(self, name)))
        self.ref_text = None if self.ref_text is None else _as_list(self.ref_text)
        require(
            bool(self.text or self.documents) or self.text_file is not None,
            "nothing to speak: give text or text_file or documents (on the command line null unsets a field: to speak "
            "that word, write it with a period)",
        )
        self._check_references()
        if self.text_normalizer != "none":
            require_package(self.text_normalizer, f"text_normalizer: {self.text_normalizer}")
        require_seed(self.seed)

    @property
    def voices(self) -> list[str]:
        """The entries of `ref_audio`, or those of `profile`."""
        return self.ref_audio or [f"{PROFILE}{description}" for description in self.profile]

    def _check_references(self) -> None:
        require(
            not (self.ref_audio and self.profile),
            "give either ref_audio or profile; an entry of ref_audio may be profile: and a sentence",
        )
        num_clips, num_texts = len(self.ref_audio), len(self.ref_text or [])
        require(num_clips > 0 or num_texts == 0, "ref_text requires ref_audio")
        require(num_clips > 0 or not self.ref_in_system, "ref_in_system requires ref_audio")
        if any(entry.startswith(PROFILE) for entry in self.ref_audio):
            require(
                num_texts == 0,
                "ref_text cannot be combined with profile:, which puts all references into the system turn",
            )
            return
        has_own_texts = num_texts == 0 and (self.ref_in_system or self.voices_dir is not None)
        require(
            num_texts == num_clips or has_own_texts,
            f"cloning needs both ref_audio and ref_text: got {num_clips} clips and {num_texts} texts; give one text "
            "per clip, or none with ref_in_system, or name voices of voices_dir",
        )


def _check_weights(generation_weights: str, *, load_in_4bit: bool) -> None:
    require(generation_weights != "int8" or not load_in_4bit, "generation_weights: int8 requires load_in_4bit: false")


def _as_list(value: list[str] | str | None) -> list[str]:
    return [value] if isinstance(value, str) else list(value or [])


@dataclass
class MetricModelsConfig:
    """The metric models that score clips, and how transcripts are compared with texts."""

    asr: str = option(
        "openai/whisper-large-v3",
        "ASR model: folder or Hub id of a Whisper checkpoint, a model of FunASR, or package:faster-whisper-tiny.en.",
    )
    asr_revision: str | None = option(None, "Commit, tag or branch of the ASR model; null: main.")
    asr_language: str = option("en", "Language of rows that name none: a code or an English name.")
    speaker: str = option(
        "microsoft/wavlm-base-plus-sv",
        "Speaker model: folder or Hub id of an x-vector or WavLM-ECAPA checkpoint, the path of Seed-TTS-eval's .pth "
        "file, funasr:emotion2vec_plus_large, or package:resemblyzer.",
    )
    speaker_revision: str | None = option(None, "Commit, tag or branch of the speaker model; null: main.")
    normalizer: Normalizer = option(
        "auto", "Text normalizer of references and transcripts before scoring; auto: by the language of each row."
    )


@dataclass
class EvaluateConfig(
    SamplingConfig, CodecConfig, AdapterConfig, ModelConfig, HubConfig, MetricModelsConfig, ProtocolConfig
):
    """Speak held-out texts, or those of a benchmark, and score the audio with an ASR model and a speaker model."""

    dataset: str = option(
        "", "Encoded corpus by folder or Hub id, whose split must contain the recordings; or dataset of a benchmark."
    )
    split: str = option("test", "Split of the texts to speak.")
    max_rows: int | None = option(None, "Maximum number of rows to score, from the first one; null: all.")
    seed: int = option(0, "Seed of the first row; row i has seed + i, for the base and the fine-tuned model alike.")
    untrained_base: bool = option(False, "State in the report that the base model has random weights.")
    hub_model_id: str | None = option(None, "Model repository to push the report to; null: that of the adapter.")
    output_dir: str = option("outputs/evaluate", "Folder of metrics.json, report.md, report.html and the wav files.")
    overwrite_output_dir: bool = option(False, "Replace an existing output_dir.")

    def __post_init__(self) -> None:
        _check_weights(self.generation_weights, load_in_4bit=self.load_in_4bit)
        ModelConfig.__post_init__(self)
        CodecConfig.__post_init__(self)
        SamplingConfig.__post_init__(self)
        self.check_protocol(asr=self.asr, speaker=self.speaker)
        require(bool(self.dataset), "dataset is empty: name an encoded corpus")
        require(self.max_rows is None or self.max_rows >= 1, f"max_rows must be positive, got {self.max_rows}")
        require_seed(self.seed)


@dataclass
class MergeConfig(SamplingConfig, CodecConfig, AdapterConfig, ModelConfig, HubConfig):
    """Merge an adapter into its base model: one native checkpoint."""

    output_dir: str = option("outputs/merged", "Folder of the merged checkpoint and its processor.")
    overwrite_output_dir: bool = option(False, "Replace an existing output_dir, and an existing test_dir.")
    hub_model_id: str | None = option(None, "Model repository to push to; null: the name of output_dir.")
    check: bool = option(False, "Compare the logits of the merged model with those of base model and adapter.")
    test_input: str | None = option(None, "Text to speak with the merged model, into test_dir; null: none.")
    compare_models: bool = option(
        False, "Speak test_input (null: a standard sentence) with base, adapter and merged model, and write a report."
    )
    seed: int = option(0, "Seed of test_input, the same for all models.")
    test_dir: str | None = option(None, "Folder of the test's wav files and report; null: output_dir with `_test`.")

    def __post_init__(self) -> None:
        ModelConfig.__post_init__(self)
        CodecConfig.__post_init__(self)
        SamplingConfig.__post_init__(self)
        require(self.adapter is not None, "adapter is missing: name the folder or Hub id of the adapter to merge")
        require(
            not self.load_in_4bit,
            "load_in_4bit must be false: adapters, also those of QLoRA, are merged into unquantized weights",
        )
        require_seed(self.seed)
        if self.test_dir is None:
            self.test_dir = f"{self.output_dir.rstrip('/')}_test"
        own, test = (Path(path).expanduser().resolve() for path in (self.output_dir, self.test_dir))
        require(
            not test.is_relative_to(own) and not own.is_relative_to(test),
            f"test_dir {self.test_dir} and output_dir must be separate folders",
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
