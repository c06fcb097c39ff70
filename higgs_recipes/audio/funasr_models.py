"""Metric models that run in FunASR: Paraformer, the Chinese ASR model of Seed-TTS-eval, and emotion2vec.

FunASR's checkpoints are pickles. The files are downloaded by a commit, and the weights are opened by torch's
`weights_only` loader first, so that no code of a checkpoint runs.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NoReturn

import torch
from torch import Tensor

from higgs_recipes.audio.pretrained import SpeakerModel, resample_for_metrics, score_name
from higgs_recipes.errors import InputError, import_module
from higgs_recipes.files import sha256_files
from higgs_recipes.hub.client import download_file
from higgs_recipes.hub.download import ask_hub, fetch


PREFIX = "funasr:"
INSTALL = "pip install 'funasr>=1.4.16,<2'"
HUB_IDS = {  # FunASR's short names
    "paraformer-zh": "funasr/paraformer-zh",
    "emotion2vec_plus_large": "emotion2vec/emotion2vec_plus_large",
    "iic/emotion2vec_plus_large": "emotion2vec/emotion2vec_plus_large",
}
WEIGHTS = "model.pt"
SMALL_FILES = ["*.yaml", "*.json", "*.txt", "*.mvn", "seg_dict", "bpe.model"]
MIN_EMOTION_SAMPLES = 720  # at 16 kHz: two frames of emotion2vec's convolutions


def load_funasr(name: str, *, revision: str | None, device: torch.device, field: str) -> tuple[Any, str]:
    """Load a model of FunASR, and its revision: the commit on the Hub, or "local@" and a hash of the weights.

    Args:
        name: "funasr:" and a short name of FunASR, a Hub id or a folder.
        field: config field that names the model, for messages.

    Raises:
        InputError: FunASR is not installed, the model is not found, or its weights would run code.
    """
    funasr = import_module("funasr", needed_by=f"{field} {name}", install=INSTALL)
    hub_id = name.removeprefix(PREFIX)
    folder, found = _fetch(HUB_IDS.get(hub_id, hub_id), revision, where=f"{field} {name}")
    try:
        torch.load(folder / WEIGHTS, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError) as error:
        raise InputError(f"{field} {name}: {WEIGHTS} is not a checkpoint of tensors, and is not opened") from error
    model = funasr.AutoModel(
        model=str(folder),
        hub="hf",
        device=str(device),
        trust_remote_code=False,
        disable_update=True,
        disable_pbar=True,
        disable_log=True,
    )
    return model, found


def _fetch(name: str, revision: str | None, *, where: str) -> tuple[Path, str]:
    files = fetch(name, revision=revision, allow_patterns=SMALL_FILES)
    if files.commit is not None:
        ask_hub(
            f"{where}: {WEIGHTS} could not be downloaded", lambda: download_file(name, WEIGHTS, commit=files.commit)
        )
    path = files.folder / WEIGHTS
    if not path.is_file():
        raise InputError(f"{where}: no {WEIGHTS} in {files.folder}; name a model of FunASR")
    return files.folder, files.commit or f"local@{sha256_files([path])}"


class Paraformer:
    """An ASR model for Mandarin, as Seed-TTS-eval runs it."""

    window_seconds = math.inf
    spelling: Mapping[str, str] | None = None

    def __init__(self, name: str, *, revision: str | None, device: torch.device) -> None:
        self.name = name
        self.model, self.revision = load_funasr(name, revision=revision, device=device, field="asr")

    def check_language(self, language: str) -> None:
        if language != "zh":
            raise InputError(
                f"asr {self.name} supports Chinese only: {language!r}; name another ASR model or correct the language"
            )

    def transcribe(self, waveforms: Sequence[Tensor], *, language: str) -> list[str]:
        self.check_language(language)
        return [self._transcribe_one(waveform) if len(waveform) else "" for waveform in waveforms]

    def _transcribe_one(self, waveform: Tensor) -> str:
        results = self.model.generate(input=resample_for_metrics(waveform).numpy(), batch_size_s=300)
        return results[0]["text"].strip() if results else ""

    def timed_words(self, waveforms: Sequence[Tensor], *, language: str) -> NoReturn:
        raise InputError(f"asr {self.name} has no word times, which dialogues need: name a Whisper checkpoint")


class EmotionModel(SpeakerModel):
    """emotion2vec: waveform -> embedding of the emotion, the mean of its features over time."""

    def __init__(self, name: str, *, revision: str | None, device: torch.device) -> None:
        self.model, self.revision = load_funasr(name, revision=revision, device=device, field="speaker")
        self.score_name = score_name(name.removeprefix(PREFIX))

    def _embed_one(self, clip: Tensor) -> Tensor | None:
        if len(clip) < MIN_EMOTION_SAMPLES:
            return None
        (result,) = self.model.generate(input=clip.numpy(), granularity="utterance", extract_embedding=True)
        return torch.as_tensor(result["feats"], dtype=torch.float32)
