import io

import pytest
import soundfile
import torch

from higgs_recipes.audio import wav_file
from higgs_recipes.audio.io import wav_bytes
from higgs_recipes.audio.wav_file import pcm16, write_wav_parts
from higgs_recipes.errors import InputError


def test_parts_make_the_file_of_the_whole(tmp_path):
    waveform = torch.randn(5000, generator=torch.Generator().manual_seed(0))
    waveform[:4] = torch.tensor([1.0, -1.0, 0.5 / 2**15, -0.5 / 2**15])
    parts = [waveform[:100], waveform[100:100], waveform[100:]]
    assert write_wav_parts(tmp_path / "a.wav", iter(parts)) == 5000
    assert (tmp_path / "a.wav").read_bytes() == wav_bytes(waveform)


def test_samples_are_those_of_libsndfile():
    waveform = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    waveform[:5000] *= 1e-4  # between two samples of 16 bits
    waveform[5000:5007] = torch.tensor([1.0, -1.0, -1e-12, 0.0, -0.0, 65535.7 / 2**31, -1.0 + 2**-24])
    file = io.BytesIO()
    soundfile.write(file, waveform.numpy(), 24_000, format="RAW", subtype="PCM_16", endian="LITTLE")
    assert pcm16(waveform).numpy().astype("<i2").tobytes() == file.getvalue()


def test_more_than_a_wav_file_can_hold_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(wav_file, "MAX_SAMPLES", 150)
    with pytest.raises(InputError, match="a.wav: a wav file has at most .* hours: split the text"):
        write_wav_parts(tmp_path / "a.wav", [torch.zeros(100)] * 2)
