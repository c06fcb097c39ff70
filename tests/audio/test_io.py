import io
import struct
from fractions import Fraction

import pytest
import soundfile
import torch

from higgs_recipes.audio import io as audio
from higgs_recipes.audio.io import read_audio, read_bytes, recorded_seconds, wav_bytes, write_wav
from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.errors import InputError
from tests.helpers.tiny_codec import CORPUS, tone


def encode(samples, *, rate=SAMPLE_RATE, format="WAV", subtype=None) -> bytes:
    encoded = io.BytesIO()
    soundfile.write(encoded, samples.numpy(), rate, format=format, subtype=subtype)
    return encoded.getvalue()


def assert_same_sound(waveform, expected, *, tolerance):
    assert waveform.dtype == torch.float32 and waveform.ndim == 1
    assert abs(len(waveform) - len(expected)) <= 1
    length = min(len(waveform), len(expected))
    edge = 200  # the resampler's filter sees silence beyond the ends
    assert (waveform[edge : length - edge] - expected[edge : length - edge]).abs().max() < tolerance


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 24_000, 44_100, 47_999, 48_000, 96_000])
def test_any_rate_becomes_24_khz(rate):
    assert_same_sound(read_audio(encode(tone(1.0, rate=rate), rate=rate), name="clip"), tone(1.0), tolerance=1e-2)


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
def test_every_container_and_depth_gives_the_same_sound(format, subtype, tolerance):
    waveform = read_audio(encode(tone(1.0), format=format, subtype=subtype), name="clip")
    if format == "MP3":
        waveform = waveform[:SAMPLE_RATE]
    assert_same_sound(waveform, tone(1.0), tolerance=tolerance)


def test_channels_are_averaged():
    stereo = torch.stack([tone(0.5), tone(0.5, hertz=330.0)], dim=1)
    assert_same_sound(read_audio(encode(stereo, subtype="FLOAT"), name="clip"), stereo.mean(dim=1), tolerance=1e-6)


def test_a_path_its_bytes_and_a_dataset_cell_are_the_same_recording():
    path = CORPUS / "01_rms.flac"  # 16 kHz
    expected = read_audio(path, name="clip")
    for source in (str(path), path.read_bytes(), {"path": str(path), "bytes": None}):
        assert torch.equal(read_audio(source, name="clip"), expected)
    assert torch.equal(read_audio({"path": "gone.flac", "bytes": path.read_bytes()}, name="clip"), expected)


def test_header_tells_the_length_without_decoding():
    assert recorded_seconds(encode(tone(2.5, rate=16_000), rate=16_000), name="clip") == 2.5


def test_wav_of_a_waveform_reads_back(tmp_path):
    waveform = tone(0.3)
    write_wav(tmp_path / "clip.wav", waveform)
    assert_same_sound(read_audio(tmp_path / "clip.wav", name="clip"), waveform, tolerance=1e-4)
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
        (encode(torch.tensor([0.1, float("nan"), 0.1]), subtype="FLOAT"), "NaN or infinite samples"),
        (encode(torch.tensor([0.1, float("inf"), 0.1]), subtype="FLOAT"), "NaN or infinite samples"),
        (encode(tone(0.2) * 32_768, subtype="FLOAT"), "divide by 32768"),
        (encode(torch.zeros(0)), "no samples"),
        (broken_flac(), "broken audio"),
        (silence_of_rate(24), "sample rate is 24 Hz"),
    ],
    # Named: the header of a float wav holds the time, so that two processes would make two names of its bytes.
    ids="words empty nothing missing nan infinite loud no_samples broken slow".split(),
)
def test_what_is_no_recording_is_named(source, message):
    with pytest.raises(InputError, match=message) as error:
        read_audio(source, name="corpus/metadata.csv row 7")
    assert str(error.value).startswith("corpus/metadata.csv row 7: ")


def test_a_text_file_named_wav_is_refused(tmp_path):
    (tmp_path / "clip.wav").write_text("Glue the sheet to the dark blue background.")
    with pytest.raises(InputError, match="not audio that can be read .*; use wav, flac, ogg or mp3"):
        read_audio(tmp_path / "clip.wav", name="clip.wav")


def test_a_folder_is_no_recording(tmp_path):
    with pytest.raises(InputError, match="Is a directory"):
        read_bytes(tmp_path, name="clip")


def test_an_odd_rate_does_not_build_a_huge_filter():
    exact = [Fraction(rate, SAMPLE_RATE) for rate in range(4_000, 200_000, 7)]
    ratios = [ratio.limit_denominator(audio._RATIO_LIMIT) for ratio in exact]
    assert max(ratio.numerator * ratio.denominator for ratio in ratios) < 10**7
