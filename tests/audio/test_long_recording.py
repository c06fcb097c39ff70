import numpy as np
import pytest
import soundfile
import torch
import torchaudio

from higgs_recipes.audio import long_recording
from higgs_recipes.audio.long_recording import LongRecording, slow_down
from higgs_recipes.audio.vad import VAD_RATE
from higgs_recipes.errors import InputError
from tests.helpers.audio_files import write_noise


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 47_999, 48_000, 96_000])
def test_pieces_join_to_the_whole_recording(tmp_path, rate, monkeypatch):
    monkeypatch.setattr(long_recording, "PIECE_SECONDS", 0.7)
    path = write_noise(tmp_path / "a.wav", seconds=3.3, rate=rate)
    with LongRecording(path) as recording:
        joined = torch.cat(list(recording.pieces(VAD_RATE)))
        ratio = recording._ratio(VAD_RATE)
    whole = torch.from_numpy(soundfile.read(path, dtype="float32")[0]).mean(dim=1)
    whole = torchaudio.functional.resample(whole, ratio.numerator, ratio.denominator)
    assert abs(len(joined) - len(whole)) <= 1
    size = min(len(joined), len(whole))
    assert torch.allclose(joined[:size], whole[:size], atol=1e-5)


@pytest.mark.parametrize("container", ["wav", "flac", "ogg", "mp3"])
def test_a_span_is_that_part_of_the_recording(tmp_path, container):
    path = write_noise(tmp_path / f"a.{container}", seconds=4, rate=24_000)
    whole = torch.from_numpy(soundfile.read(path, dtype="float32")[0]).mean(dim=1)
    with LongRecording(path) as recording:
        for start, end in [(2.5, 3.0), (0.0, 1.25), (3.0, 4.0)]:
            part, clipped = recording.span(start, end, rate=24_000)
            assert torch.allclose(part, whole[round(start * 24_000) : round(end * 24_000)], atol=1e-4)
            assert clipped == 0


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "FLOAT", "ULAW"])
def test_clipped_samples_are_counted_before_channels_are_averaged(tmp_path, subtype):
    samples = np.zeros((24_000, 2))
    samples[1_000:1_240, 1] = 1.0
    soundfile.write(tmp_path / "a.wav", samples, 24_000, subtype=subtype)
    with LongRecording(tmp_path / "a.wav") as recording:
        assert recording.span(0, 1, rate=24_000)[1] == pytest.approx(240 / 48_000)


def test_the_size_of_a_piece_does_not_depend_on_the_length_of_the_recording(tmp_path, monkeypatch):
    monkeypatch.setattr(long_recording, "PIECE_SECONDS", 1.0)
    longest = []
    for seconds in (2, 20):
        with LongRecording(write_noise(tmp_path / f"{seconds}.wav", seconds=seconds, rate=16_000)) as recording:
            longest.append(max(len(piece) for piece in recording.pieces(VAD_RATE)))
    assert longest == [16_000, 16_000]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "zero bytes"),
        (b"RIFFxxxx", "not audio that can be read"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_file_that_is_not_audio_is_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(InputError, match=message):
        LongRecording(tmp_path / "a.wav")


def test_a_sample_rate_below_speech_is_refused(tmp_path):
    path = write_noise(tmp_path / "a.wav", seconds=1, rate=3_999)
    with pytest.raises(InputError, match="3999 samples at 3999 Hz; export it again"):
        LongRecording(path)


@pytest.mark.parametrize("sample", [np.nan, np.inf, 9.0])
def test_invalid_samples_are_refused(tmp_path, sample):
    soundfile.write(tmp_path / "a.wav", np.full(24_000, sample, dtype=np.float32), 24_000, subtype="FLOAT")
    with LongRecording(tmp_path / "a.wav") as recording, pytest.raises(InputError, match="samples that are NaN"):
        list(recording.pieces(VAD_RATE))


def test_a_broken_recording_is_refused_where_it_breaks(tmp_path):
    path = write_noise(tmp_path / "a.flac", seconds=4, rate=24_000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with LongRecording(path) as recording, pytest.raises(InputError, match="broken audio"):
        list(recording.pieces(VAD_RATE))


def test_slowed_audio_is_longer_by_a_twentieth():
    assert len(slow_down(torch.zeros(24_000))) == 25_200
