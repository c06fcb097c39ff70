"""Speaker models: waveform -> embedding of the voice."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Protocol

import torch
from torch import Tensor
from transformers import (
    AutoFeatureExtractor,
    AutoModelForAudioXVector,
)

from higgs_recipes.audio.pretrained import METRIC_MODEL_RATE, _fetch_checkpoint, _load_whole, _resample
from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.errors import import_module


MIN_VOICE_SECONDS = 0.5  # an x-vector needs 0.3 s of context for one frame; less than this says nothing about a voice
PACKAGE_SPEAKER_MODEL = "package:resemblyzer"


class SpeakerModel(Protocol):
    revision: str  # as an ASR model's
    score_name: str  # what a cosine of two of its embeddings is called: scores of two models never compare

    def embed(self, waveforms: Sequence[Tensor]) -> list[Tensor | None]:
        """The voice of each clip (N_i,) as a unit vector; None for a clip too short or silent to hold one."""


def load_speaker_model(name: str, *, revision: str | None, device: torch.device) -> SpeakerModel:
    """A model whose embeddings of one voice lie close.

    Raises:
        InputError: not found, not an x-vector checkpoint in safetensors, a package not installed.
    """
    if name == PACKAGE_SPEAKER_MODEL:
        return Resemblyzer(device=device)
    return XVector(name, revision=revision, device=device)


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
        features = self.extractor(_resample(waveform).numpy(), sampling_rate=METRIC_MODEL_RATE, return_tensors="pt")
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


def _may_hold_voice(waveform: Tensor) -> bool:
    return len(waveform) >= MIN_VOICE_SECONDS * SAMPLE_RATE and bool(waveform.any())
