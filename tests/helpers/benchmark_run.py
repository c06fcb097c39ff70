"""Evaluations of benchmarks with the tiny model: configs, an adapter, and an ASR model that knows the recordings."""

from pathlib import Path

from torch import Tensor

from higgs_recipes.audio.asr import PACKAGE_ASR_MODEL, Word
from higgs_recipes.audio.speaker import PACKAGE_SPEAKER_MODEL
from higgs_recipes.configs.inference import EvaluateConfig
from higgs_recipes.configs.sft import SFTConfig
from higgs_recipes.modeling.lora import add_lora
from tests.helpers.checkpoints import load_tiny, tiny_folder
from tests.helpers.two_voices import corpus_rows, recording


def benchmark_config(folder: Path, **changes) -> EvaluateConfig:
    fields = {
        "model_name_or_path": str(tiny_folder() / "model"),
        "dtype": "float32",
        "codec_name_or_path": str(tiny_folder() / "codec"),
        "asr": PACKAGE_ASR_MODEL,
        "speaker": PACKAGE_SPEAKER_MODEL,
        "max_seconds": 0.8,
        "seed": 11,
        "output_dir": str(folder / "report"),
    }
    return EvaluateConfig(**fields | changes)


def save_adapter(folder: Path, *, scale: float = 0.0) -> Path:
    """Save a LoRA adapter of the tiny model; with scale 0 it is new, and changes nothing."""
    model, _ = load_tiny()
    recipe = SFTConfig(
        output_dir=str(folder),
        datasets=["-"],
        model_name_or_path=str(tiny_folder() / "model"),
        use_cpu=True,
        bf16=False,
    )
    adapted = add_lora(model, recipe)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            weight.data += scale
    adapted.save_pretrained(folder)
    return folder


class RecordingsASRModel:
    """Transcribes the recordings of two_voices as their texts, and every other clip as "noise"; fast."""

    revision, window_seconds, spelling = "1", 30.0, None

    def __init__(self) -> None:
        self.texts = {recording(index).numpy().tobytes(): row["text"] for index, row in enumerate(corpus_rows())}

    def check_language(self, language: str) -> None:
        pass

    def transcribe(self, waveforms: list[Tensor], *, language: str) -> list[str]:
        return [self.texts.get(waveform.numpy().tobytes(), "noise") if len(waveform) else "" for waveform in waveforms]

    def timed_words(self, waveforms: list[Tensor], *, language: str) -> list[list[Word]]:
        """The words of the transcript, spread evenly over the clip."""
        clips = []
        for waveform, transcript in zip(waveforms, self.transcribe(waveforms, language=language), strict=True):
            words = transcript.split()
            step = len(waveform) / 24_000 / max(1, len(words))
            clips.append([Word(word, index * step, (index + 1) * step) for index, word in enumerate(words)])
        return clips
