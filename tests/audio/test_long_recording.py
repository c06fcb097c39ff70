import numpy as np
import pytest
import soundfile
import torch
import torchaudio

from higgs_recipes.audio import decoders, long_recording
from higgs_recipes.audio.io import resampling_ratio
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
    ratio = resampling_ratio(rate, VAD_RATE)
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
    with pytest.raises(InputError, match="sample rate out of range: 3999 Hz"):
        LongRecording(path)


@pytest.mark.parametrize(
    ("sample", "message"),
    [(np.nan, "NaN or infinite samples"), (np.inf, "NaN or infinite samples"), (9.0, "samples reach 9, but float")],
)
def test_invalid_samples_are_refused(tmp_path, sample, message):
    soundfile.write(tmp_path / "a.wav", np.full(24_000, sample, dtype=np.float32), 24_000, subtype="FLOAT")
    with pytest.raises(InputError, match=message):
        LongRecording(tmp_path / "a.wav")


@pytest.mark.parametrize("container", ["wav", "flac", "ogg", "mp3"])
def test_a_truncated_recording_is_read_up_to_its_end(tmp_path, container):
    path = write_noise(tmp_path / f"a.{container}", seconds=6, rate=24_000)
    whole = torch.from_numpy(soundfile.read(path, dtype="float32")[0]).mean(dim=1)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with LongRecording(path) as recording:
        assert 1.5 < recording.seconds < 3.2
        assert recording.contents.flaw.startswith(f"truncated: {recording.seconds:.2f} s ")
        joined = torch.cat(list(recording.pieces(24_000)))
        assert len(joined) == recording.contents.num_frames
        assert torch.allclose(joined[1_000:24_000], whole[1_000:24_000], atol=1e-4)
        part, _ = recording.span(0.5, 9.0, rate=24_000)
        assert len(part) == recording.contents.num_frames - 12_000


def test_a_recording_that_has_become_shorter_is_refused(tmp_path):
    path = write_noise(tmp_path / "a.wav", seconds=4, rate=24_000)
    with LongRecording(path) as recording:
        contents = recording.contents
    write_noise(path, seconds=2, rate=24_000)
    with (
        LongRecording(path, contents=contents) as recording,
        pytest.raises(InputError, match="it ends at 2.0 s"),
    ):
        list(recording.pieces(VAD_RATE))


def test_of_channels_that_cancel_one_is_used(tmp_path):
    mono = 0.1 * np.random.default_rng(0).standard_normal(48_000)
    soundfile.write(tmp_path / "a.wav", np.stack([mono, -mono], axis=1), 24_000, subtype="FLOAT")
    with LongRecording(tmp_path / "a.wav") as recording:
        (piece,) = recording.pieces(24_000)
        part, _ = recording.span(0.5, 1.5, rate=24_000)
    assert torch.allclose(piece, torch.from_numpy(mono).float())
    assert torch.allclose(part, piece[12_000:36_000])


def test_spans_in_any_order_are_those_of_the_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(decoders, "_BLOCK", 10_000)
    path = write_noise(tmp_path / "a.flac", seconds=5, rate=22_050)
    with LongRecording(path) as recording:
        whole = torch.cat(list(recording.pieces(22_050)))
        for start, end in [(0.0, 0.5), (0.5, 1.0), (4.0, 5.0), (1.2, 1.3), (0.0, 5.0)]:
            part, _ = recording.span(start, end, rate=22_050)
            assert torch.equal(part, whole[round(start * 22_050) : round(end * 22_050)])


def test_slowed_audio_is_longer_by_a_twentieth():
    assert len(slow_down(torch.zeros(24_000))) == 25_200
