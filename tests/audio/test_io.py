import struct

import pytest
import soundfile
import torch

from higgs_recipes.audio.io import (
    change_speed,
    join_waveforms,
    read_audio,
    read_bytes,
    read_measured,
    recorded_seconds,
    wav_bytes,
    write_wav,
)
from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.errors import InputError
from tests.helpers.audio_files import encode_audio
from tests.helpers.tiny_codec import CORPUS, tone


def assert_same_audio(waveform, expected, *, tolerance):
    assert waveform.dtype == torch.float32 and waveform.ndim == 1
    assert abs(len(waveform) - len(expected)) <= 1
    length = min(len(waveform), len(expected))
    edge = 200  # at the ends, the resampling filter includes silence
    assert (waveform[edge : length - edge] - expected[edge : length - edge]).abs().max() < tolerance


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 24_000, 44_100, 47_999, 48_000, 96_000])
def test_any_rate_becomes_24_khz(rate):
    assert_same_audio(
        read_audio(encode_audio(tone(1.0, rate=rate), rate=rate), name="clip"), tone(1.0), tolerance=1e-2
    )


@pytest.mark.parametrize(
    "format, subtype, tolerance",
    [
        ("WAV", "PCM_U8", 1e-2),
        ("WAV", "PCM_16", 1e-4),
        ("WAV", "PCM_24", 1e-6),
        ("WAV", "PCM_32", 1e-6),
        ("WAV", "FLOAT", 1e-7),
        ("WAV", "DOUBLE", 1e-7),
        ("FLAC", "PCM_16", 1e-4),
        ("OGG", "VORBIS", 5e-2),
        ("MP3", "MPEG_LAYER_III", 5e-2),
    ],
)
def test_every_container_and_sample_format_gives_the_same_audio(format, subtype, tolerance):
    waveform = read_audio(encode_audio(tone(1.0), format=format, subtype=subtype), name="clip")
    if format == "MP3":
        waveform = waveform[:SAMPLE_RATE]
    assert_same_audio(waveform, tone(1.0), tolerance=tolerance)


def test_channels_are_averaged():
    stereo = torch.stack([tone(0.5), tone(0.5, hertz=330.0)], dim=1)
    assert_same_audio(
        read_audio(encode_audio(stereo, subtype="FLOAT"), name="clip"), stereo.mean(dim=1), tolerance=1e-6
    )


def test_a_path_its_bytes_and_a_dataset_cell_are_the_same_recording():
    path = CORPUS / "01_rms.flac"  # 16 kHz
    expected = read_audio(path, name="clip")
    for source in (str(path), path.read_bytes(), {"path": str(path), "bytes": None}):
        assert torch.equal(read_audio(source, name="clip"), expected)
    assert torch.equal(read_audio({"path": "gone.flac", "bytes": path.read_bytes()}, name="clip"), expected)


def test_the_header_gives_the_length_without_decoding():
    assert recorded_seconds(encode_audio(tone(2.5, rate=16_000), rate=16_000), name="clip") == 2.5


def test_wav_of_a_waveform_reads_back(tmp_path):
    waveform = tone(0.3)
    write_wav(tmp_path / "clip.wav", waveform)
    assert_same_audio(read_audio(tmp_path / "clip.wav", name="clip"), waveform, tolerance=1e-4)
    assert soundfile.info(tmp_path / "clip.wav").subtype == "PCM_16"
    assert read_audio(wav_bytes(torch.tensor([-7.0, 7.0])), name="loud").tolist() == pytest.approx([-1, 1], abs=1e-4)


def broken_flac() -> bytes:
    encoded = bytearray((CORPUS / "00_heart.flac").read_bytes())
    return bytes(encoded[: len(encoded) // 2])


def silence_of_rate(rate: int) -> bytes:
    format = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16)
    return struct.pack("<4sI4s", b"RIFF", 236, b"WAVE") + format + struct.pack("<4sI", b"data", 200) + bytes(200)


@pytest.mark.parametrize(
    "source, message",
    [
        (b"These are the words of the clip.", "not audio that can be read"),
        (b"", "zero bytes"),
        ({"path": None, "bytes": None}, "neither path nor bytes"),
        ("nowhere/clip.wav", "cannot be read: No such file or directory"),
        (encode_audio(torch.tensor([0.1, float("nan"), 0.1]), subtype="FLOAT"), "NaN or infinite samples"),
        (encode_audio(torch.tensor([0.1, float("inf"), 0.1]), subtype="FLOAT"), "NaN or infinite samples"),
        (encode_audio(tone(0.2) * 32_768, subtype="FLOAT"), "divide by 32768"),
        (encode_audio(torch.zeros(0)), "no samples"),
        (broken_flac(), "broken audio"),
        (silence_of_rate(24), "sample rate is 24 Hz"),
    ],
    # Explicit ids: the header of a float wav contains the time, so ids made of bytes would differ between processes.
    ids="words empty nothing missing nan infinite loud no_samples broken slow".split(),
)
def test_an_invalid_recording_is_an_error_that_names_it(source, message):
    with pytest.raises(InputError, match=message) as error:
        read_audio(source, name="corpus/metadata.csv row 7")
    assert str(error.value).startswith("corpus/metadata.csv row 7: ")


def test_a_text_file_named_wav_is_refused(tmp_path):
    (tmp_path / "clip.wav").write_text("Glue the sheet to the dark blue background.")
    with pytest.raises(InputError, match="not audio that can be read .*; use wav, flac, ogg or mp3"):
        read_audio(tmp_path / "clip.wav", name="clip.wav")


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="Is a directory"):
        read_bytes(tmp_path, name="clip")


def test_measuring_does_not_change_the_waveform():
    path = CORPUS / "01_rms.flac"  # 16 kHz
    waveform, levels = read_measured(path, name="clip")
    assert torch.equal(waveform, read_audio(path, name="clip"))
    assert levels.rate == 16_000 and levels.clipped == 0
    assert 0 <= levels.silent_start < 0.5 and 0 <= levels.silent_end < 0.5


def test_joined_waveforms_have_gaps_or_overlaps():
    first, second = torch.ones(4_800), 2 * torch.ones(2_400)
    joined = join_waveforms([first, second], gaps=[0.1])
    assert len(joined) == 4_800 + 2_400 + 2_400
    assert joined[:4_800].eq(1).all() and joined[4_800:7_200].eq(0).all() and joined[7_200:].eq(2).all()
    overlapping = join_waveforms([first, second], gaps=[-0.05])
    assert len(overlapping) == 6_000 and overlapping[3_600:4_800].eq(3).all() and overlapping[4_800:].eq(2).all()


def test_a_faster_clip_is_shorter_and_higher():
    faster = change_speed(tone(1.0, hertz=400.0), 1.25)
    assert len(faster) == SAMPLE_RATE / 1.25
    assert torch.fft.rfft(faster).abs().argmax() * SAMPLE_RATE / len(faster) == 500
