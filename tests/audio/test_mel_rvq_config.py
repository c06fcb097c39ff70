import pytest

from higgs_recipes.audio.mel_rvq_config import MelRVQConfig


def test_the_defaults_match_the_rate_and_size_of_the_neural_codec():
    config = MelRVQConfig()
    assert (config.sample_rate, config.hop_length, config.num_quantizers, config.codebook_size) == (
        24_000,
        960,
        8,
        1024,
    )
    assert config.frame_hop == 240


def test_a_saved_config_loads_with_its_values(tmp_path):
    MelRVQConfig(num_mels=64, beam=5).save_pretrained(tmp_path)
    loaded = MelRVQConfig.from_pretrained(tmp_path)
    assert (loaded.model_type, loaded.num_mels, loaded.beam, loaded.frame_hop) == ("mel_rvq", 64, 5, 240)


@pytest.mark.parametrize("fields", [{"frames_per_step": 7}, {"n_fft": 1024}, {"n_fft": 240}])
def test_frames_that_do_not_fill_the_step_are_refused(fields):
    with pytest.raises(ValueError, match="a multiple of the frame hop"):
        MelRVQConfig(**fields)
