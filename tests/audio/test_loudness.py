import pytest
import torch
import torchaudio

from higgs_recipes.audio.loudness import LoudnessMeter, gain_db
from higgs_recipes.constants import SAMPLE_RATE
from tests.helpers.two_voices import recording


@pytest.mark.parametrize("index", [0, 1, 20])
def test_loudness_equals_that_of_torchaudio(index):
    waveform = recording(index)
    expected = torchaudio.functional.loudness(waveform[None], SAMPLE_RATE)
    assert LoudnessMeter().lufs(waveform) == pytest.approx(float(expected), abs=0.1)


def test_silent_and_short_waveforms_have_no_loudness():
    assert LoudnessMeter().lufs(torch.zeros(24_000)) is None
    assert LoudnessMeter().lufs(recording(0)[:100]) is None


def test_gain_is_limited_by_the_peak():
    waveform = recording(0)
    loudness = LoudnessMeter().lufs(waveform)
    louder = waveform * 10 ** (gain_db(waveform, loudness=loudness, target=-5.0) / 20)
    assert float(louder.abs().max()) == pytest.approx(10 ** (-1 / 20), rel=1e-3)


def test_gain_reaches_the_target_below_the_peak():
    waveform = 0.1 * recording(0)
    loudness = LoudnessMeter().lufs(waveform)
    quieter = waveform * 10 ** (gain_db(waveform, loudness=loudness, target=-50.0) / 20)
    assert LoudnessMeter().lufs(quieter) == pytest.approx(-50.0, abs=0.1)
