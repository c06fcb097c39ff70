import sys

import pytest
import torch
import torchaudio

from higgs_recipes.audio import dnsmos
from higgs_recipes.audio.dnsmos import DNSMOS
from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.errors import InputError
from tests.helpers.two_voices import recording


# DNSMOS doubles a clip until it fills 9 s, so that a shorter clip would be scored in up to eight windows.
MIN_CLIP_SECONDS = 2.76


def long_recording() -> torch.Tensor:
    recordings = map(recording, range(40))
    return next(waveform for waveform in recordings if len(waveform) >= MIN_CLIP_SECONDS * SAMPLE_RATE)


def test_columns_are_the_scores_of_the_package():
    from speechmos import dnsmos as package

    waveform = long_recording()
    scores = DNSMOS().scores(waveform)
    expected = package.run(torchaudio.functional.resample(waveform, SAMPLE_RATE, 16_000).numpy(), 16_000)
    names = ("ovrl", "sig", "bak", "p808")
    assert scores == {f"dnsmos_{name}": pytest.approx(expected[f"{name}_mos"], abs=0.006) for name in names}
    assert all(1 <= score <= 5 for score in scores.values())


def test_other_networks_are_refused(monkeypatch):
    monkeypatch.setitem(dnsmos._MODEL_SHA256, "model_v8.onnx", "0" * 64)
    with pytest.raises(InputError, match=r"model_v8.onnx has the SHA-256 9246480c58567bc6, not 00000000"):
        DNSMOS()


@pytest.mark.parametrize("module", ["speechmos.dnsmos", "onnxruntime"])
def test_a_missing_package_is_named_with_its_pip_command(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=f"segment needs the module {module}, .* pip install 'speechmos"):
        DNSMOS()
