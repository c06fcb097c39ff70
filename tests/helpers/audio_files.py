"""Audio files in any container, sample format and rate, whole and damaged; FFmpeg and sox are not needed."""

import io
import struct
from pathlib import Path

import numpy as np
import soundfile
from torch import Tensor

from higgs_recipes.audio.decoding import Recording
from higgs_recipes.audio.mp3 import FRAMES
from higgs_recipes.constants import SAMPLE_RATE


def encode(samples: Tensor | np.ndarray, *, rate: int = SAMPLE_RATE, format: str = "WAV", **kind) -> bytes:
    """Samples (N,) or (N, channels) as the bytes of an audio file."""
    file = io.BytesIO()
    soundfile.write(file, np.asarray(samples), rate, format=format, **kind)
    return file.getvalue()


def write_noise(path: Path, *, seconds: float, rate: int, channels: int = 2, **kind: str) -> Path:
    """White noise of -20 dB of full scale as an audio file."""
    samples = 0.1 * np.random.default_rng(0).standard_normal((round(seconds * rate), channels))
    soundfile.write(path, samples, rate, **kind)
    return path


def half(content: bytes) -> bytes:
    """The first half of a file."""
    return content[: len(content) // 2]


def without_info(mp3: bytes) -> bytes:
    """An mp3 of soundfile without its first frame, which states the length."""
    length = FRAMES[mp3[:3]].length
    assert b"Info" in mp3[:length] or b"Xing" in mp3[:length]
    return mp3[length:]


def with_cover(mp3: bytes, *, size: int = 300_000) -> bytes:
    """An mp3 behind an ID3 tag with a picture of this many bytes, in which sync words occur."""
    length = bytes((size >> shift) & 127 for shift in (21, 14, 7, 0))
    return b"ID3\x03\0\0" + length + (b"\xff\xfb\x90\x64" + b"JFIF" * 7) * (size // 32) + bytes(size % 32) + mp3


def of_unknown_length(flac: bytes) -> bytes:
    """A FLAC file as written to a pipe, without its length."""
    return flac[:21] + bytes((flac[21] & 0xF0, 0, 0, 0, 0)) + flac[26:]


def with_data_size(wav: bytes, size: int) -> bytes:
    """A wav file whose header states this many bytes of audio."""
    at = wav.index(b"data") + 4
    return wav[:at] + struct.pack("<I", size) + wav[at + 4 :]


def ogg_pages(ogg: bytes) -> list[bytes]:
    pages = []
    while ogg:
        length = 27 + ogg[26] + sum(ogg[27 : 27 + ogg[26]])
        pages.append(ogg[:length])
        ogg = ogg[length:]
    return pages


def decode(content: bytes) -> tuple[np.ndarray, Recording]:
    """Samples (N, channels) of a file, and the recording that was read to its end."""
    with Recording(content) as recording:
        return np.concatenate([np.zeros((0, recording.channels)), *recording.blocks()]), recording
