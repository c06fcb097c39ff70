"""Speaker models: waveform -> embedding of the voice.

A model is a transformers x-vector checkpoint (Hub id or folder), the WavLM-large + ECAPA-TDNN model of Seed-TTS-eval
(Hub id or folder of a safetensors port, or its original .pth file), `package:resemblyzer`, whose weights ship in a
Python package, or `funasr:emotion2vec_plus_large`, whose embedding is of the emotion. Inputs are mono float32
waveforms (N,) at `SAMPLE_RATE`, which the models resample to 16 kHz.
"""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoFeatureExtractor, AutoModelForAudioXVector

from higgs_recipes.audio.funasr_models import PREFIX, EmotionModel
from higgs_recipes.audio.pretrained import (
    METRIC_MODEL_RATE,
    SpeakerModel,
    fetch_checkpoint,
    load_complete_model,
    load_part,
    score_name,
)
from higgs_recipes.audio.wavlm_ecapa import MIN_SAMPLES, is_wavlm_ecapa, load_wavlm_ecapa
from higgs_recipes.errors import InputError, import_module
from higgs_recipes.files import sha256_file
from higgs_recipes.records import read_record


MIN_VOICE_SECONDS = 0.5  # one x-vector frame needs 0.3 s of context; shorter clips do not characterize a voice
PACKAGE_SPEAKER_MODEL = "package:resemblyzer"

# Seed-TTS-eval's wavlm_large_finetune.pth, and model.safetensors of the port in recipes/benchmarks/.
PICKLE_SHA256 = "51f07e3b94d9e0262a6a675ef5a087be3dd09e8c62e9d886827f44f82fe7f94b"
PORT_SHA256 = "559b87088828b5f1bc5762d9746c08ef00ba4e5141b6897bebce1b77a58ae2b7"
# The cosine of these weights only: others, also of the same architecture, have the name of their folder.
SEED_TTS_SCORE = "sim_wavlm_large_ecapa_tdnn"


def load_speaker_model(name: str, *, revision: str | None, device: torch.device) -> SpeakerModel:
    """Load a speaker model by Hub id, folder, "package:" name, or the path of Seed-TTS-eval's .pth file.

    Raises:
        InputError: not found, neither an x-vector nor a WavLM-ECAPA checkpoint in safetensors, a .pth file that is not
            the published one, or a package that is not installed.
    """
    if name == PACKAGE_SPEAKER_MODEL:
        return Resemblyzer(device=device)
    if name.startswith(PREFIX):
        return EmotionModel(name, revision=revision, device=device)
    if name.endswith(".pth"):
        return WavLMEcapaSpeaker(name, load_published_pickle(name), revision=f"sha256 {PICKLE_SHA256}", device=device)
    folder, commit = fetch_checkpoint(name, revision, field="speaker")
    weights = folder / "model.safetensors"
    if weights.is_file() and is_wavlm_ecapa(_weight_names(weights)):
        return WavLMEcapaSpeaker(name, load_file(weights), revision=commit, device=device, file=weights)
    return XVector(name, folder=folder, revision=commit, device=device)


def load_published_pickle(name: str, *, sha256: str = PICKLE_SHA256) -> dict[str, Tensor]:
    """The weights in Seed-TTS-eval's .pth file. It is only opened if its content is the published one.

    Args:
        name: path of the file.
        sha256: of the expected content.

    Raises:
        InputError: no such file, another content, or not a checkpoint of tensors.
    """
    path = Path(name).expanduser()
    if not path.is_file():
        raise InputError(f"speaker {name}: no such file")
    found = sha256_file(path)
    if found != sha256:
        raise InputError(
            f"speaker {name}: its SHA-256 is {found}, expected {sha256}: a .pth file may run code, so only the "
            "published wavlm_large_finetune.pth is opened; download it again, or use a safetensors port"
        )
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        weights = checkpoint["model"]
    except (UnpicklingError, KeyError, TypeError, RuntimeError) as error:
        raise InputError(f"speaker {name}: not a checkpoint of tensors: {error}") from error
    return weights


def _weight_names(path: Path) -> list[str]:
    with safe_open(path, framework="pt") as file:
        return list(file.keys())


class XVector(SpeakerModel):
    """An x-vector checkpoint (WavLM, wav2vec 2.0, UniSpeech-SAT ...) in float32."""

    def __init__(self, name: str, *, folder: Path, revision: str, device: torch.device) -> None:
        self.revision = revision
        self.model = load_complete_model(AutoModelForAudioXVector, folder, name=name, field="speaker").to(device)
        self.extractor = load_part(AutoFeatureExtractor, folder, name=name, field="speaker")
        self.device = device
        self.score_name = score_name(name)

    @torch.inference_mode()
    def _embed_one(self, clip: Tensor) -> Tensor | None:
        if not _has_voice(clip):
            return None
        features = self.extractor(clip.numpy(), sampling_rate=METRIC_MODEL_RATE, return_tensors="pt")
        (embedding,) = self.model(**features.to(self.device)).embeddings.float().cpu()
        return embedding


class WavLMEcapaSpeaker(SpeakerModel):
    """WavLM with an ECAPA-TDNN head in float32, as Seed-TTS-eval runs it: each clip alone and whole.

    Args:
        name: Hub id, folder or file of the weights.
        weights: the state dict.
        file: the safetensors file of the weights; its folder may have a config.json with the field `wavlm_config`, for
            another size than WavLM-large. None: the published .pth file.
    """

    def __init__(
        self,
        name: str,
        weights: Mapping[str, Tensor],
        *,
        revision: str,
        device: torch.device,
        file: Path | None = None,
    ) -> None:
        self.revision = revision
        self.device = device
        config = None if file is None else _wavlm_config(file.parent)
        self.model = load_wavlm_ecapa(weights, wavlm_config=config, name=f"speaker {name}").to(device)
        is_published = file is None or sha256_file(file) == PORT_SHA256
        self.score_name = SEED_TTS_SCORE if is_published else score_name(name)

    def _embed_one(self, clip: Tensor) -> Tensor | None:
        return self.model(clip.to(self.device)).cpu() if len(clip) >= MIN_SAMPLES else None


class Resemblyzer(SpeakerModel):
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

    def _embed_one(self, clip: Tensor) -> Tensor | None:
        if not _has_voice(clip):
            return None
        voiced = self.package.preprocess_wav(clip.numpy())  # removes long silences
        return torch.from_numpy(self.encoder.embed_utterance(voiced)) if len(voiced) else None


def _has_voice(clip: Tensor) -> bool:
    return len(clip) >= MIN_VOICE_SECONDS * METRIC_MODEL_RATE and bool(clip.any())


def _wavlm_config(folder: Path) -> dict[str, Any] | None:
    path = folder / "config.json"
    record = read_record(path) if path.is_file() else {}
    return record["wavlm_config"] if "wavlm_config" in record else None
