"""Speaker models: waveform -> embedding of the voice.

A model is a transformers x-vector checkpoint (Hub id or folder), or `package:resemblyzer`, whose weights ship in a
Python package. Inputs are mono float32 waveforms (N,) at `SAMPLE_RATE`, which the models resample to 16 kHz.
"""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Protocol

import torch
from torch import Tensor
from transformers import AutoFeatureExtractor, AutoModelForAudioXVector

from higgs_recipes.audio.pretrained import (
    METRIC_MODEL_RATE,
    fetch_checkpoint,
    load_complete_model,
    resample_for_metrics,
)
from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.errors import import_module


MIN_VOICE_SECONDS = 0.5  # one x-vector frame needs 0.3 s of context; shorter clips do not characterize a voice
PACKAGE_SPEAKER_MODEL = "package:resemblyzer"


class SpeakerModel(Protocol):
    """A speaker model.

    Attributes:
        revision: commit on the Hub, "local@" and a hash of the weights, or package and version.
        score_name: name of the cosine of two embeddings; scores of different models do not compare.
    """

    revision: str
    score_name: str

    def embed(self, waveforms: Sequence[Tensor]) -> list[Tensor | None]:
        """Embed the voice of each clip (N_i,) as a unit vector; None for a clip that is too short or silent."""


def load_speaker_model(name: str, *, revision: str | None, device: torch.device) -> SpeakerModel:
    """Load a speaker model by Hub id, folder or "package:" name.

    Raises:
        InputError: not found, not an x-vector checkpoint in safetensors, or a package that is not installed.
    """
    if name == PACKAGE_SPEAKER_MODEL:
        return Resemblyzer(device=device)
    return XVector(name, revision=revision, device=device)


class XVector:
    """An x-vector checkpoint (WavLM, wav2vec 2.0, UniSpeech-SAT ...) in float32."""

    def __init__(self, name: str, *, revision: str | None, device: torch.device) -> None:
        folder, self.revision = fetch_checkpoint(name, revision, field="speaker")
        self.model = load_complete_model(AutoModelForAudioXVector, folder, name=name, field="speaker").to(device)
        self.extractor = AutoFeatureExtractor.from_pretrained(folder)
        self.device = device
        self.score_name = "sim_" + name.rstrip("/").rsplit("/", 1)[-1].replace("-", "_")

    def embed(self, waveforms: Sequence[Tensor]) -> list[Tensor | None]:
        # One clip at a time: the first layer normalizes over time, so padding would change the embedding.
        return [self._embed_one(waveform) if _has_voice(waveform) else None for waveform in waveforms]

    @torch.inference_mode()
    def _embed_one(self, waveform: Tensor) -> Tensor:
        samples = resample_for_metrics(waveform).numpy()
        features = self.extractor(samples, sampling_rate=METRIC_MODEL_RATE, return_tensors="pt")
        (embedding,) = self.model(**features.to(self.device)).embeddings.float().cpu()
        return embedding / embedding.norm()


class Resemblyzer:
    """The GE2E speaker encoder of the package Resemblyzer. Its cosine does not compare with the SIM of any paper."""

    score_name = "ge2e_cosine"

    def __init__(self, *, device: torch.device) -> None:
        # Its requirements name webrtcvad, which must be compiled; webrtcvad-wheels is the same module as a wheel.
        install = (
            "pip install 'librosa>=0.11,<1' 'webrtcvad-wheels>=2.0.14,<3' && pip install --no-deps Resemblyzer==0.1.4"
        )
        self.package = import_module("resemblyzer", needed_by=PACKAGE_SPEAKER_MODEL, install=install)
        self.encoder = self.package.VoiceEncoder(device, verbose=False)
        self.revision = f"Resemblyzer {version('Resemblyzer')}"

    def embed(self, waveforms: Sequence[Tensor]) -> list[Tensor | None]:
        return [self._embed_one(waveform) if _has_voice(waveform) else None for waveform in waveforms]

    def _embed_one(self, waveform: Tensor) -> Tensor | None:
        voiced = self.package.preprocess_wav(resample_for_metrics(waveform).numpy())  # removes long silences
        if not len(voiced):
            return None
        embedding = torch.from_numpy(self.encoder.embed_utterance(voiced))
        return embedding / embedding.norm()


def _has_voice(waveform: Tensor) -> bool:
    return len(waveform) >= MIN_VOICE_SECONDS * SAMPLE_RATE and bool(waveform.any())
