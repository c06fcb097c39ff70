from functools import cache

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel

from higgs_recipes.audio.codec import load_codec, pad_to_steps
from higgs_recipes.audio.io import read_audio
from higgs_recipes.audio.mel import speech_level
from higgs_recipes.audio.mel_rvq import MelRVQModel, quantize
from higgs_recipes.audio.mel_rvq_config import MelRVQConfig
from higgs_recipes.constants import HOP, SAMPLE_RATE
from higgs_recipes.corpus.fit_codec import fit_model
from higgs_recipes.errors import InputError
from tests.helpers.tiny_codec import CORPUS, tone


def recordings(count):
    return [pad_to_steps(read_audio(path, name=path.name)) for path in sorted(CORPUS.glob("*.flac"))[:count]]


@cache
def fitted() -> MelRVQModel:
    model = MelRVQModel(MelRVQConfig(num_components=32, codebook_size=64)).eval()
    features = torch.cat([model.features(clip[None])[0] for clip in recordings(24)])
    fit_model(model, features, iterations=4, refinements=1, seed=0)
    return model


def codes_of(waveform):
    return fitted().encode(waveform[None, None]).audio_codes[0]  # (C, T)


def log_spectrum(waveform):
    spectrum = torch.stft(waveform, 512, 128, window=torch.hann_window(512), return_complex=True).abs()
    return (spectrum + 1e-2 * spectrum.max()).log()


def spectral_correlation(first, second):
    """Correlation of two waveforms' log spectra."""
    return torch.corrcoef(torch.stack([log_spectrum(first).flatten(), log_spectrum(second).flatten()]))[0, 1]


def test_shapes_are_those_of_the_neural_codec():
    clips = torch.stack([clip[: 30 * HOP] for clip in recordings(2)])[:, None]
    codes = fitted().encode(clips).audio_codes
    assert codes.shape == (2, 8, 30) and codes.dtype == torch.int64 and 0 <= codes.min() and codes.max() < 64
    assert fitted().decode(codes).audio_values.shape == (2, 1, 30 * HOP)
    both = fitted()(clips)
    assert torch.equal(both.audio_codes, codes) and both.audio_values.shape == clips.shape


def test_decoded_speech_resembles_its_own_clip_and_no_other():
    clip = read_audio(CORPUS / "38_heart.flac", name="unseen")
    other = read_audio(CORPUS / "36_heart.flac", name="another sentence")
    clip, other = (pad_to_steps(waveform)[: 40 * HOP] for waveform in (clip, other))
    decoded = fitted().decode(codes_of(clip)[None]).audio_values[0, 0]
    assert spectral_correlation(clip, decoded) > 0.8 > spectral_correlation(other, decoded) + 0.3


def test_each_codebook_reduces_the_residual():
    clip = recordings(30)[-1]
    features = fitted().features(clip[None])[0]
    residual = (features - fitted().mean) @ fitted().components.T
    lengths = [residual.norm()]
    for codes, codebook in zip(codes_of(clip), fitted().codebooks, strict=True):
        residual = residual - codebook[codes]
        lengths.append(residual.norm())
    assert all(after < before for before, after in zip(lengths, lengths[1:], strict=False))


def test_a_clip_in_a_batch_equals_the_clip_alone():
    clips = torch.stack([clip[: 40 * HOP] for clip in recordings(4)])
    codes = fitted().encode(clips[:, None]).audio_codes
    alone = torch.stack([codes_of(clip) for clip in clips])
    assert (codes == alone).float().mean() >= 0.999
    decoded = fitted().decode(codes).audio_values
    for index in range(4):
        single = fitted().decode(codes[index : index + 1]).audio_values[0]
        torch.testing.assert_close(decoded[index], single, atol=1e-3, rtol=0)


def test_both_directions_are_deterministic():
    (clip,) = recordings(1)
    assert torch.equal(codes_of(clip), codes_of(clip))
    codes = codes_of(clip)[None]
    assert torch.equal(fitted().decode(codes).audio_values, fitted().decode(codes).audio_values)


def test_silence_has_one_code_and_does_not_change_other_codes():
    (clip,) = recordings(1)
    silent = codes_of(torch.zeros(10 * HOP))
    assert (silent == silent[:, :1]).all()
    codes, padded = codes_of(clip), codes_of(torch.cat([clip, torch.zeros(10 * HOP)]))
    assert torch.equal(codes[:, :-1], padded[:, : codes.shape[1] - 1])
    assert torch.equal(padded[:, -9:], silent[:, :9])
    assert fitted().decode(silent[None]).audio_values.abs().max() < 0.02


def test_codes_do_not_depend_on_loudness_and_decoding_has_a_fixed_level():
    (clip,) = recordings(1)
    codes, louder = codes_of(clip), codes_of(8 * clip)
    assert (codes == louder).float().mean() > 0.99
    decoded = fitted().decode(codes[None]).audio_values[0]
    assert 0.5 < speech_level(decoded, frame=240).item() / fitted().config.level < 2.0


def test_a_steady_tone_is_resynthesized_at_its_pitch():
    waveform = tone(1.0, hertz=440.0)[None]
    model = MelRVQModel(MelRVQConfig())
    resynthesized = model.synthesize(model.features(waveform))
    spectrum = torch.fft.rfft(resynthesized[0]).abs()
    assert spectrum.argmax().item() * SAMPLE_RATE / resynthesized.shape[1] == pytest.approx(440.0, abs=20)


def test_a_wider_beam_never_quantizes_worse():
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(50, 4, generator=generator)
    codebooks = torch.randn(3, 8, 4, generator=generator)
    errors = []
    for beam in (1, 4, 8**2):
        codes, residuals = quantize(vectors, codebooks, beam=beam)
        restored = sum(codebook[codes[:, index]] for index, codebook in enumerate(codebooks))
        torch.testing.assert_close(vectors - restored, residuals)
        errors.append(residuals.square().sum(dim=1).mean())
    assert errors[0] > errors[1] >= errors[2]
    # A beam of all pairs of codes is an exhaustive search.
    sums = codebooks[0][:, None, None] + codebooks[1][None, :, None] + codebooks[2][None, None]
    best = torch.cdist(vectors, sums.flatten(0, 2)).square().min(dim=1).values.mean()
    torch.testing.assert_close(errors[2], best)


def test_a_float16_checkpoint_loads_by_its_model_type_and_gives_the_same_codes(tmp_path):
    half = MelRVQModel(fitted().config)  # a copy: the cached model stays in float32
    half.load_state_dict(fitted().state_dict())
    half.half().save_pretrained(tmp_path)
    assert {weight.dtype for weight in load_file(tmp_path / "model.safetensors").values()} == {torch.float16}
    (clip,) = recordings(1)
    codec = load_codec(tmp_path, revision=None, device="cpu")
    assert isinstance(codec.model, MelRVQModel) and codec.model.dtype == torch.float32
    assert codec.revision.startswith("local@") and (codec.num_codebooks, codec.codebook_size) == (8, 64)
    (codes,) = codec.encode([clip])
    assert torch.equal(codes.T.long(), codes_of(clip))
    assert codec.decode([codes])[0].shape == clip.shape
    assert isinstance(AutoModel.from_pretrained(tmp_path), MelRVQModel)
    assert AutoConfig.from_pretrained(tmp_path).frame_hop == 240


def test_another_sample_rate_is_refused(tmp_path):
    MelRVQModel(MelRVQConfig(sample_rate=16_000, num_components=2, codebook_size=2)).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="16000 Hz in hops of 960, need 24000 and 960"):
        load_codec(tmp_path, revision=None, device="cpu")


@pytest.mark.parametrize("shape", [(1, 2, HOP), (1, HOP)])
def test_waveforms_that_are_not_mono_are_refused(shape):
    with pytest.raises(ValueError, match=r"need mono \(B, 1, N\)"):
        fitted().encode(torch.zeros(shape))


@pytest.mark.parametrize("num_samples", [0, HOP - 1])
def test_waveforms_without_a_whole_number_of_steps_are_refused(num_samples):
    with pytest.raises(ValueError, match="not a multiple of hop_length 960: pad with zeros"):
        fitted().encode(torch.zeros(1, 1, num_samples))


@pytest.mark.parametrize("shape", [(1, 7, 3), (1, 8, 0), (8, 3)])
def test_codes_of_a_wrong_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"need \(B, 8, T\), T > 0"):
        fitted().decode(torch.zeros(shape, dtype=torch.int64))
