import os
import struct
import tracemalloc
from pathlib import Path

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
from tests.helpers.audio_files import encode
from tests.helpers.tiny_codec import CORPUS, tone


def assert_same_audio(waveform, expected, *, tolerance):
    assert waveform.dtype == torch.float32 and waveform.ndim == 1
    assert abs(len(waveform) - len(expected)) <= 1
    length = min(len(waveform), len(expected))
    edge = 200  # at the ends, the resampling filter includes silence
    assert (waveform[edge : length - edge] - expected[edge : length - edge]).abs().max() < tolerance


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 24_000, 44_100, 47_999, 48_000, 96_000])
def test_any_rate_becomes_24_khz(rate):
    assert_same_audio(read_audio(encode(tone(1.0, rate=rate), rate=rate), name="clip"), tone(1.0), tolerance=1e-2)


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
    waveform = read_audio(encode(tone(1.0), format=format, subtype=subtype), name="clip")
    if format == "MP3":
        waveform = waveform[:SAMPLE_RATE]
    assert_same_audio(waveform, tone(1.0), tolerance=tolerance)


def test_channels_are_averaged():
    stereo = torch.stack([tone(0.5), tone(0.5, hertz=330.0)], dim=1)
    assert_same_audio(read_audio(encode(stereo, subtype="FLOAT"), name="clip"), stereo.mean(dim=1), tolerance=1e-6)


def test_a_path_its_bytes_and_a_dataset_cell_are_the_same_recording():
    path = CORPUS / "01_rms.flac"  # 16 kHz
    expected = read_audio(path, name="clip")
    for source in (str(path), path.read_bytes(), {"path": str(path), "bytes": None}):
        assert torch.equal(read_audio(source, name="clip"), expected)
    assert torch.equal(read_audio({"path": "gone.flac", "bytes": path.read_bytes()}, name="clip"), expected)


@pytest.mark.parametrize("channels", [(1, -1), (1, -0.95), (-0.5, 1)])
def test_of_channels_that_cancel_the_louder_one_is_used(channels):
    stereo = torch.stack([factor * tone(0.5) for factor in channels], dim=1)
    is_canceled = abs(sum(channels)) < 0.2
    expected = stereo[:, stereo.abs().amax(dim=0).argmax()] if is_canceled else stereo.mean(dim=1)
    assert_same_audio(read_audio(encode(stereo, subtype="FLOAT"), name="clip"), expected, tolerance=1e-6)


def test_one_silent_channel_is_averaged():
    stereo = torch.stack([tone(0.5), torch.zeros(SAMPLE_RATE // 2)], dim=1)
    assert_same_audio(read_audio(encode(stereo, subtype="FLOAT"), name="clip"), tone(0.5) / 2, tolerance=1e-6)


def test_length_of_a_recording():
    assert recorded_seconds(encode(tone(2.5, rate=16_000), rate=16_000), name="clip") == 2.5


def test_a_too_long_recording_is_refused_by_its_header(tmp_path):
    """A sparse file of 2 GB, which is not decoded."""
    size = 2_000_000_000
    header = silence_of_rate(SAMPLE_RATE)[:40] + struct.pack("<I", size)
    with (tmp_path / "long.wav").open("wb") as file:
        file.write(header)
        file.truncate(len(header) + size)
    tracemalloc.start()
    with pytest.raises(InputError, match="clip: too long: 41666.67 s, max_seconds is 30.0"):
        read_audio(tmp_path / "long.wav", name="clip", max_seconds=30.0)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_a_too_long_recording_is_refused_while_it_is_read():
    """A FLAC file from a pipe does not state its length."""
    encoded = bytearray(encode(torch.zeros(120 * 8_000), rate=8_000, format="FLAC"))
    encoded[21:26] = bytes((encoded[21] & 0xF0, 0, 0, 0, 0))
    with pytest.raises(InputError, match="clip: too long: at least 32.77 s, max_seconds is 30"):
        read_audio(bytes(encoded), name="clip", max_seconds=30)


def test_a_truncated_recording_has_no_length():
    with pytest.raises(InputError, match="clip: truncated: .* s of .* s are there; copy it again or drop it"):
        recorded_seconds(truncated_flac(), name="clip")


def test_wav_of_a_waveform_reads_back(tmp_path):
    waveform = tone(0.3)
    write_wav(tmp_path / "clip.wav", waveform)
    assert_same_audio(read_audio(tmp_path / "clip.wav", name="clip"), waveform, tolerance=1e-4)
    assert soundfile.info(tmp_path / "clip.wav").subtype == "PCM_16"
    assert read_audio(wav_bytes(torch.tensor([-7.0, 7.0])), name="loud").tolist() == pytest.approx([-1, 1], abs=1e-4)


def truncated_flac() -> bytes:
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
        (encode(torch.tensor([0.1, float("nan"), 0.1]), subtype="FLOAT"), "NaN or infinite samples"),
        (encode(torch.tensor([0.1, float("inf"), 0.1]), subtype="FLOAT"), "NaN or infinite samples"),
        (encode(tone(0.2) * 32_768, subtype="FLOAT"), "divide by 32768"),
        (encode(torch.zeros(0)), "no samples"),
        (truncated_flac(), "truncated: "),
        (silence_of_rate(24), "sample rate out of range: 24 Hz"),
        (silence_of_rate(0), "sample rate out of range: 0 Hz"),
        (silence_of_rate(10_000_000), "sample rate out of range: 10000000 Hz, the header is broken"),
        (silence_of_rate(2_000_000_000), "sample rate out of range: 2000000000 Hz, the header is broken"),
        ({"path": "a\0b.wav", "bytes": None}, "cannot be read: embedded null byte"),
    ],
    # Explicit ids: the header of a float wav contains the time, so ids made of bytes would differ between processes.
    ids="words empty nothing missing nan infinite loud none truncated slow zero_rate ten_mhz two_ghz nul".split(),
)
def test_an_invalid_recording_is_an_error_that_names_it(source, message):
    with pytest.raises(InputError, match=message) as error:
        read_audio(source, name="corpus/metadata.csv row 7")
    assert str(error.value).startswith("corpus/metadata.csv row 7: ")


def test_a_text_file_named_wav_is_refused(tmp_path):
    (tmp_path / "clip.wav").write_text("Glue the sheet to the dark blue background.")
    with pytest.raises(InputError, match="not audio that can be read .*; use wav, flac, ogg or mp3"):
        read_audio(tmp_path / "clip.wav", name="clip.wav")


def test_what_is_not_a_regular_file_is_never_opened(tmp_path):
    """Opening a pipe without a writer would block."""
    os.mkfifo(tmp_path / "pipe.wav")
    for read in (read_bytes, read_audio, recorded_seconds):
        with pytest.raises(InputError, match="clip: cannot be read: it is a folder"):
            read(tmp_path, name="clip")
        for path in (tmp_path / "pipe.wav", Path(os.devnull)):
            with pytest.raises(InputError, match="clip: cannot be read: it is a pipe, a socket or a device"):
                read({"path": str(path), "bytes": None}, name="clip")


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
