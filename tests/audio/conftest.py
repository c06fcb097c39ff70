"""Models that several test modules of this room load."""

import pytest
import torch

from higgs_recipes.audio.asr import PACKAGE_ASR_MODEL, PackageWhisper, load_asr_model
from higgs_recipes.audio.speaker import PACKAGE_SPEAKER_MODEL, Resemblyzer, load_speaker_model


CPU = torch.device("cpu")


@pytest.fixture(scope="package")
def package_asr_model() -> PackageWhisper:
    return load_asr_model(PACKAGE_ASR_MODEL, revision=None, device=CPU)


@pytest.fixture(scope="package")
def resemblyzer() -> Resemblyzer:
    return load_speaker_model(PACKAGE_SPEAKER_MODEL, revision=None, device=CPU)
