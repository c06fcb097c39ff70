"""Headers that state too much, too little or nothing: the audio is what is in the file."""

import math
import struct

import numpy as np
import pytest
import torch

from higgs_recipes.audio.decoding import Recording
from tests.helpers.audio_files import decode, encode, half, of_unknown_length, ogg_pages, with_data_size, without_info
from tests.helpers.tiny_codec import tone


RATE = 24_000
SAMPLES = tone(2.16) + 0.1 * torch.randn(51_840, generator=torch.Generator().manual_seed(0)).clamp(-2, 2)
KINDS = [
    *[("WAV", subtype) for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW")],
    *[("WAV", subtype) for subtype in ("GSM610", "IMA_ADPCM", "MS_ADPCM", "G721_32")],
    *[("AIFF", "PCM_16"), ("AIFF", "PCM_24"), ("AIFF", "FLOAT"), ("AIFF", "GSM610"), ("AIFF", "DWVW_16")],
    *[("CAF", "PCM_16"), ("CAF", "ALAC_16"), ("W64", "PCM_16"), ("W64", "GSM610"), ("RF64", "PCM_24")],
    *[("AU", "PCM_16"), ("AU", "ULAW"), ("NIST", "PCM_16"), ("WAVEX", "PCM_16"), ("VOC", "PCM_16"), ("SVX", "PCM_16")],
    *[("FLAC", "PCM_16"), ("FLAC", "PCM_24"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")],
]
ADPCM_BLOCK = 0.06  # seconds; the last block is filled up


@pytest.mark.parametrize(("format", "subtype"), KINDS)
def test_every_format_and_codec_is_read_to_its_end(format, subtype):
    samples, recording = decode(encode(SAMPLES, rate=RATE, format=format, subtype=subtype))
    assert recording.flaw is None
    assert recording.seconds == pytest.approx(2.16, abs=ADPCM_BLOCK if "ADPCM" in subtype else 1e-9)
    assert recording.expected_seconds == pytest.approx(recording.seconds)
    assert np.sqrt(np.square(samples[:, 0]).mean()) == pytest.approx(float(SAMPLES.square().mean().sqrt()), rel=0.2)


@pytest.mark.parametrize(("format", "subtype"), [kind for kind in KINDS if kind[0] not in ("VOC", "SVX")])
def test_half_of_a_file_is_truncated(format, subtype):
    content = half(encode(SAMPLES.repeat(3), rate=RATE, format=format, subtype=subtype))
    _, recording = decode(content)
    assert 1.5 < recording.seconds < 3.5
    assert recording.flaw.startswith(f"truncated: {recording.seconds:.2f} s ")
    if format != "OGG":  # which does not state how long it is
        total = float(recording.flaw.split()[4])
        assert total == pytest.approx(6.48, abs=0.4)


@pytest.mark.parametrize("size", [0, 8, 2**32 - 1, 2**32 - 37, 0x7FFFF000 - 36, 0x7FFFFF00, 0x80000000, 20_000])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "GSM610"])
def test_a_wav_that_was_never_closed_is_read_to_the_end_of_the_file(size, subtype):
    wav = with_data_size(encode(SAMPLES, rate=RATE, subtype=subtype), size)
    if subtype == "GSM610" and size == 20_000:
        return  # more than there is
    for riff in (wav, wav[:4] + b"\xff" * 4 + wav[8:], wav[:4] + bytes(4) + wav[8:]):
        _, recording = decode(riff)
        assert recording.flaw is None and recording.seconds == pytest.approx(2.16, abs=0.01)


def unclosed(format: str) -> bytes:
    """A file as it is on the disk before its header is written again, or as it comes out of a pipe."""
    content = encode(SAMPLES, rate=RATE, format=format, subtype="PCM_16")
    sizes = {
        "AU": [(8, ">I", (0, 2**32 - 1))],
        "AIFF": [(content.find(b"SSND") + 4, ">I", (0, 8, 0x7F000008)), (content.find(b"COMM") + 10, ">I", (0,))],
        "CAF": [(content.find(b"data") + 4, ">q", (-1, 0))],
        "W64": [(content.find(b"data") + 16, "<q", (24, 2**63 - 1, 0))],
        "RF64": [(content.find(b"ds64") + 16, "<Q", (0,))],
    }
    versions = [content]
    for offset, kind, values in sizes[format]:
        packed = [struct.pack(kind, value) for value in values]
        versions = [old[:offset] + new + old[offset + len(new) :] for old in versions for new in packed]
    return versions


@pytest.mark.parametrize("format", ["AU", "AIFF", "CAF", "W64", "RF64"])
def test_other_files_that_were_never_closed(format):
    for content in unclosed(format):
        _, recording = decode(content)
        assert recording.flaw is None and recording.seconds == pytest.approx(2.16)


def test_chunks_behind_the_audio_are_not_audio():
    wav = encode(SAMPLES, rate=RATE)
    for chunk in (b"LIST" + struct.pack("<I", 5000) + b"INFO" * 1250, b"id3 " + struct.pack("<I", 4) + bytes(4)):
        assert decode(wav + chunk)[1].num_frames == len(SAMPLES)
    empty = with_data_size(wav[: wav.index(b"data") + 8], 0) + b"LIST" + struct.pack("<I", 4) + b"INFO"
    assert decode(empty)[1].num_frames == 0


def test_a_wav_of_more_than_four_gigabytes(tmp_path):
    """Sparse; its sizes have 32 bits, of which nothing fits."""
    size = 5_000_000_000
    header = encode(np.zeros((0, 2)), rate=48_000, subtype="PCM_16")
    for stated in (0, 2**32 - 1, size % 2**32):
        with (tmp_path / "long.wav").open("wb") as file:
            file.write(with_data_size(header, stated))
            file.truncate(len(header) + size)
        with Recording(tmp_path / "long.wav") as recording:
            assert recording.expected_seconds == size / 4 / 48_000


@pytest.mark.parametrize("strip", [lambda file: file, of_unknown_length])
def test_a_flac_file_of_unknown_length_is_read_to_its_end(strip):
    content = strip(encode(SAMPLES, rate=RATE, format="FLAC"))
    samples, recording = decode(content)
    assert recording.seconds == 2.16 and recording.flaw is None
    assert np.allclose(samples[:, 0], SAMPLES, atol=1e-4)
    assert decode(content + b"TAG" + bytes(125))[1].flaw is None


def test_of_a_flac_file_of_unknown_length_a_cut_frame_tells_that_something_is_missing():
    _, recording = decode(half(of_unknown_length(encode(SAMPLES, rate=RATE, format="FLAC"))))
    assert recording.flaw == f"truncated: {recording.seconds:.2f} s are there, its last frame is incomplete"


def test_a_damaged_flac_file_is_read_up_to_the_damage():
    content = bytearray(encode(0.1 * np.random.default_rng(0).standard_normal(6 * RATE), rate=RATE, format="FLAC"))
    content[len(content) // 3] ^= 0xFF
    _, recording = decode(bytes(content))
    assert 1.5 < recording.seconds < 2.1
    assert recording.flaw.startswith(f"broken audio: {recording.seconds:.2f} s of 6.00 s are there, ")


@pytest.mark.parametrize(
    ("format", "subtype"),
    [("WAV", None), ("RF64", None), ("AIFF", None), ("W64", None), ("AU", None), ("FLAC", None), ("OGG", "VORBIS")]
    + [("OGG", "OPUS")],
)
def test_two_files_joined_are_read_to_the_end(format, subtype):
    first = encode(SAMPLES, rate=RATE, format=format, subtype=subtype)
    second = encode(tone(1.0, hertz=440, loudness=0.5), rate=RATE, format=format, subtype=subtype)
    samples, recording = decode(first + second)
    assert recording.flaw is None and recording.seconds == pytest.approx(3.16)
    assert recording.expected_seconds == pytest.approx(3.16)
    assert np.abs(samples[-20_000:]).max() == pytest.approx(0.55, abs=0.1)


def test_joined_files_of_other_rates_are_refused():
    with pytest.raises(ValueError, match="joined into one file: 24000 Hz with 1 .*, then 16000 Hz with 1 "):
        decode(encode(SAMPLES, rate=24_000, format="FLAC") + encode(SAMPLES, rate=16_000, format="FLAC"))


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_file_without_its_last_page_is_truncated(subtype):
    pages = ogg_pages(encode(SAMPLES, rate=RATE, format="OGG", subtype=subtype))
    _, recording = decode(b"".join(pages[:-1]))
    assert recording.flaw == f"truncated: {recording.seconds:.2f} s are there, its last page is missing"
    holed = b"".join([*pages[:2], bytes(len(pages[2])), *pages[3:]])
    assert decode(holed)[1].flaw.endswith("are there, pages of it are missing")
    assert decode(b"".join(pages) + bytes(9_000))[1].flaw is None


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_file_with_a_damaged_page_is_broken(subtype):
    """Decoders skip a page whose checksum is wrong, a second of the recording."""
    content = bytearray(encode(SAMPLES, rate=RATE, format="OGG", subtype=subtype))
    assert decode(bytes(content))[1].flaw is None
    content[len(content) // 2] ^= 1
    _, recording = decode(bytes(content))
    assert recording.flaw.startswith("broken audio: ") and recording.flaw.endswith("a page of it is damaged")


def test_mp3_in_a_wav_file_is_counted_by_its_frames():
    frames = without_info(encode(SAMPLES, rate=RATE, format="MP3", bitrate_mode="VARIABLE"))
    format = struct.pack("<4sIHHIIHH", b"fmt ", 16, 0x55, 1, RATE, 8_000, 1, 0)
    wav = b"RIFF" + struct.pack("<I", 36 + len(frames)) + b"WAVE" + format + b"data" + struct.pack("<I", len(frames))
    _, recording = decode(wav + frames)
    assert 2.16 <= recording.seconds < 2.3 and recording.flaw is None


def test_a_file_name_with_a_tag_before_it():
    tag = b"ID3\x03\0\0\0\0\0\x0a" + bytes(10)
    for format in ("WAV", "FLAC", "MP3"):
        assert decode(tag + encode(SAMPLES, rate=RATE, format=format))[1].seconds == 2.16


def test_the_header_of_a_flac_file_may_state_less_than_there_is():
    content = bytearray(encode(SAMPLES, rate=RATE, format="FLAC"))
    content[24:26] = (5_000).to_bytes(2, "big")
    assert decode(bytes(content))[1].num_frames == len(SAMPLES)


def test_a_clip_is_not_searched_to_the_end_of_a_huge_file(tmp_path):
    content = encode(SAMPLES, rate=RATE, format="FLAC")
    path = tmp_path / "sparse.flac"
    path.write_bytes(content)
    with path.open("r+b") as file:
        file.truncate(2**31)
    with Recording(path, limit=30.0) as recording:
        assert sum(len(block) for block in recording.blocks()) == len(SAMPLES) and recording.flaw is None


@pytest.mark.parametrize("format", ["WAV", "AIFF", "CAF", "W64", "AU", "FLAC", "OGG", "NIST", "RF64"])
def test_any_damage_leaves_a_recording_or_a_message(format):
    """No damage of a header ends in another error or in a recording longer than its bytes."""
    whole = encode(tone(0.3), rate=RATE, format=format)
    for seed in range(40):
        generator = np.random.default_rng(seed)
        content = bytearray(whole)
        for _ in range(int(generator.integers(1, 6))):
            content[int(generator.integers(min(len(content), 200)))] = int(generator.integers(256))
        try:
            _, recording = decode(bytes(content))
        except ValueError:
            continue
        assert math.isfinite(recording.seconds) and recording.num_frames <= 50 * len(whole)
