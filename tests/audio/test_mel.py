import pytest
import torch

from higgs_recipes.audio.codec import pad_to_steps
from higgs_recipes.audio.mel import (
    griffin_lim,
    initial_phases,
    istft,
    mel_filters,
    mel_to_magnitudes,
    speech_level,
    stft,
)
from higgs_recipes.audio.mel_rvq_config import MelRVQConfig
from higgs_recipes.constants import SAMPLE_RATE
from tests.helpers.tiny_codec import tone
from tests.helpers.two_voices import recording


def speech() -> torch.Tensor:
    """A recording as a batch of one (1, N)."""
    return pad_to_steps(recording(0))[None]


def pitch(waveform: torch.Tensor) -> float:
    """Frequency of the largest bin of a waveform (N,), in Hz."""
    return torch.fft.rfft(waveform).abs().argmax().item() * SAMPLE_RATE / len(waveform)


def test_the_level_of_a_tone_is_its_root_mean_square_also_with_silence():
    waveform = tone(0.4, hertz=1_000.0, loudness=0.5)
    padded = torch.cat([torch.zeros(9_600), waveform, torch.zeros(4_800)])
    expected = torch.tensor([0.5 / 2**0.5])
    torch.testing.assert_close(speech_level(waveform[None], frame=240), expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(speech_level(padded[None], frame=240), expected, atol=1e-3, rtol=0)
    assert speech_level(torch.zeros(1, 2_400), frame=240).tolist() == [1.0]


def test_the_inverse_transform_restores_the_waveform():
    config = MelRVQConfig()
    torch.testing.assert_close(istft(stft(speech(), config), config), speech(), atol=1e-5, rtol=0)


def test_a_tone_has_its_largest_magnitude_in_its_bin():
    config = MelRVQConfig()
    magnitudes = stft(tone(0.4, hertz=3_000.0)[None], config).abs()[0]
    assert magnitudes[5:-5].argmax(dim=1).unique().tolist() == [3_000 * config.n_fft // SAMPLE_RATE]


def test_mel_filters_are_normalized_by_band_and_by_bin():
    filters, spread = mel_filters(960, 80, SAMPLE_RATE)
    assert filters.shape == spread.shape == (80, 481)
    torch.testing.assert_close(filters.sum(dim=1), torch.ones(80))
    torch.testing.assert_close(spread.sum(dim=0)[1:-1], torch.ones(479))


def test_estimated_magnitudes_have_the_given_mel_bands():
    config = MelRVQConfig()
    filters, _ = mel_filters(config.n_fft, config.num_mels, config.sample_rate)
    mel = stft(speech(), config).abs() @ filters.T
    magnitudes = mel_to_magnitudes(mel, config)
    assert magnitudes.min() >= 0
    assert (magnitudes @ filters.T - mel).norm() / mel.norm() < 0.05


def test_griffin_lim_finds_a_waveform_with_the_given_magnitudes():
    config = MelRVQConfig(phase_iterations=30)
    magnitudes = stft(speech(), config).abs()
    found = stft(griffin_lim(magnitudes, config), config).abs()
    assert (found - magnitudes).norm() / magnitudes.norm() < 0.15


@pytest.mark.parametrize("hertz", [440.0, 1_237.0])
def test_initial_phases_alone_restore_a_steady_tone(hertz):
    config = MelRVQConfig()
    magnitudes = stft(tone(1.0, hertz=hertz)[None], config).abs()
    waveform = istft(torch.polar(magnitudes, initial_phases(magnitudes, config)), config)[0]
    assert pitch(waveform) == pytest.approx(hertz, abs=2)
    middle = waveform[2_400:-2_400]
    assert middle.square().mean().sqrt() == pytest.approx(0.3 / 2**0.5, rel=0.1)
