"""A recording is read to its end, in blocks, and whatever its header says."""

import io

import numpy as np
import pytest
import soundfile
import torch

from higgs_recipes.audio import decoders
from higgs_recipes.audio.decoding import ChannelMix, Recording, mix_channels, open_source
from higgs_recipes.errors import InputError
from tests.helpers.audio_files import decode, encode, half, with_data_size
from tests.helpers.tiny_codec import tone


RATE = 24_000


def test_gsm_is_read_although_it_cannot_be_sought():
    content = encode(tone(2.16, rate=8_000), rate=8_000, format="WAV", subtype="GSM610")
    with soundfile.SoundFile(io.BytesIO(content)) as file:
        assert not file.seekable()
    assert decode(content)[1].seconds == 2.16


@pytest.mark.parametrize("size", [1_000, 5_000, 2**18])
@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG", "MP3"])
def test_how_large_blocks_are_does_not_matter(format, size, monkeypatch):
    content = encode(np.stack([tone(2.0), tone(2.0, hertz=300)], axis=1), rate=RATE, format=format)
    whole, _ = decode(content)
    monkeypatch.setattr(decoders, "_BLOCK", 2 * size)
    with Recording(content) as recording:
        blocks = list(recording.blocks())
    assert max(map(len, blocks)) <= size
    assert np.array_equal(np.concatenate(blocks), whole)


def test_it_can_be_read_twice():
    with Recording(half(encode(tone(2.0), rate=RATE, format="FLAC"))) as recording:
        first, flaw = torch.cat(list(recording.blocks())), recording.flaw
        next(recording.blocks())  # a reading that is given up
        assert torch.equal(torch.cat(list(recording.blocks())), first) and recording.flaw == flaw


def test_memory_holds_a_block_of_a_recording_of_an_hour(tmp_path):
    path = tmp_path / "long.wav"
    header = encode(np.zeros(0), rate=RATE)
    with path.open("wb") as file:
        file.write(with_data_size(header, 2 * 3_600 * RATE))
        file.truncate(len(header) + 2 * 3_600 * RATE)
    with Recording(path) as recording:
        assert max(len(block) for block in recording.blocks()) <= 2**18
        assert recording.seconds == recording.expected_seconds == 3_600


@pytest.mark.parametrize("rate", [1, 24, 3_999, 768_001, 10_000_000, 2_000_000_000])
@pytest.mark.parametrize("format", ["WAV", "AIFF", "CAF", "W64", "AU"])
def test_a_rate_that_no_recording_has_is_named(format, rate):
    if format == "AIFF" and rate == 2_000_000_000:
        return  # more than libsndfile writes
    with pytest.raises(
        InputError, match=f"sample rate out of range: {rate} Hz, the header is broken; export it again"
    ):
        Recording(encode(tone(0.1), rate=rate, format=format))


@pytest.mark.parametrize("rate", [4_000, 768_000])
def test_rates_at_the_bounds_are_read(rate):
    assert decode(encode(tone(0.1), rate=rate))[1].rate == rate


class FailingDisk:
    """A file whose disk fails behind the header."""

    def __init__(self, file):
        self.file = file
        self.close, self.seek = file.close, file.seek
        self.num_read = 0

    def read(self, size):
        return self.file.read(size)

    def readinto(self, buffer):
        self.num_read += 1
        if self.num_read > 6:
            raise OSError(5, "Input/output error")
        return self.file.readinto(buffer)


def test_an_error_of_the_disk_is_not_the_end_of_the_file():
    with Recording(encode(tone(20.0), rate=RATE)) as recording:
        recording.file = FailingDisk(recording.file)
        recording.opened[0].raw.file = recording.file
        with pytest.raises(InputError, match="cannot be read: Input/output error; copy it again"):
            list(recording.blocks())


def test_sources(tmp_path):
    content = encode(tone(0.2), rate=RATE)
    (tmp_path / "a.wav").write_bytes(content)
    for source in (
        content,
        tmp_path / "a.wav",
        str(tmp_path / "a.wav"),
        {"path": str(tmp_path / "a.wav"), "bytes": None},
        {"path": "elsewhere/a.wav", "bytes": content},
    ):
        file, size, name = open_source(source)
        with file:
            assert (file.read(), size) == (content, len(content))
        assert name == ("" if isinstance(source, bytes) else "a.wav")


def test_a_link_to_a_recording_is_one(tmp_path):
    (tmp_path / "a.wav").write_bytes(encode(tone(0.2), rate=RATE))
    (tmp_path / "link.wav").symlink_to("a.wav")
    (tmp_path / "lost.wav").symlink_to("nowhere.wav")
    with Recording(tmp_path / "link.wav") as recording:
        assert recording.expected_seconds == pytest.approx(0.2)
    with pytest.raises(InputError, match="cannot be read: No such file"):
        Recording(tmp_path / "lost.wav")


def test_a_wav_without_audio_has_no_samples():
    assert decode(encode(np.zeros(0), rate=RATE))[1].num_frames == 0


def test_channels_are_averaged_unless_they_cancel():
    left, right = tone(1.0), tone(1.0, hertz=331.0)
    for channels, expected in [
        ([left], left),
        ([left, right], (left + right) / 2),
        ([left, left], left),
        ([left, torch.zeros_like(left)], left / 2),
        ([0.9 * left, -left], -left),
        ([left, -left, right, -right], None),
    ]:
        samples = torch.stack(channels, dim=1)
        mix = ChannelMix()
        for block in samples.split(7_000):
            mix.add(block)
        mixed = mix_channels(samples, mix.channel)
        assert expected is None or torch.allclose(mixed, expected)
        assert mixed.square().mean() > 0.01
    silence = ChannelMix()
    silence.add(torch.zeros(100, 2))
    assert silence.channel is None
