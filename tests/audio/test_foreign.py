"""Formats that libsndfile does not read are decoded by FFmpeg where it is installed, and named where it is not."""

import io
import sys
import tempfile
from pathlib import Path

import av
import numpy as np
import pytest

from higgs_recipes.audio.decoding import Recording
from higgs_recipes.audio.foreign import not_audio
from higgs_recipes.audio.io import read_audio
from higgs_recipes.errors import InputError
from tests.helpers.audio_files import decode, half
from tests.helpers.tiny_codec import tone


RATE = 48_000
FORMATS = {  # file name -> FFmpeg's container and codec, and what messages call the format
    "a.m4a": ("ipod", "aac", "MPEG-4 with AAC or ALAC"),
    "a.mp4": ("mp4", "aac", "MPEG-4 with AAC or ALAC"),
    "a lossless.m4a": ("ipod", "alac", "MPEG-4 with AAC or ALAC"),
    "a.mov": ("mov", "pcm_s16le", "MPEG-4 with AAC or ALAC"),
    "a.3gp": ("3gp", "aac", "3GPP with AMR or AAC"),
    "a.aac": ("adts", "aac", "AAC in ADTS"),
    "a.webm": ("webm", "libopus", "WebM"),
    "a.mka": ("matroska", "flac", "Matroska"),
    "a.wma": ("asf", "wmav2", "Windows Media"),
    "a.ogg": ("ogg", "flac", "Ogg FLAC"),
    "a.ac3": ("ac3", "ac3", "AC-3"),
    "a.wv": ("wv", "wavpack", "WavPack"),
    "a.tta": ("tta", "tta", "True Audio"),
    "a.avi": ("avi", "pcm_s16le", "AVI video"),
    "a.flv": ("flv", "aac", "Flash video"),
}


def write(container: str, codec: str, *, channels: int = 1, options: dict[str, str] | None = None) -> bytes:
    """A tone of 2.16 s as FFmpeg writes it."""
    layout = "mono" if channels == 1 else "stereo"
    tones = np.stack([tone(2.16, rate=RATE).numpy()] * channels)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "audio")
        with av.open(path, "w", format=container, options=options or {}) as output:
            stream = output.add_stream(codec, rate=RATE, layout=layout, bit_rate=64_000)
            frame = av.AudioFrame.from_ndarray(tones, format="fltp", layout=layout)
            frame.sample_rate, frame.pts = RATE, 0
            resampler = av.AudioResampler(stream.format, layout, RATE, frame_size=stream.frame_size or 1024)
            for converted in [*resampler.resample(frame), *resampler.resample(None)]:
                output.mux(stream.encode(converted))
            output.mux(stream.encode(None))
        return path.read_bytes()


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return {name: write(container, codec) for name, (container, codec, _) in FORMATS.items()}


@pytest.mark.parametrize("name", FORMATS)
def test_decoded_to_its_end(files, name):
    samples, recording = decode(files[name])
    assert recording.flaw is None and recording.rate == RATE and recording.channels == 1
    assert recording.seconds == pytest.approx(2.16, abs=0.11)
    assert np.abs(samples[RATE // 2 : RATE]).max() == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize("name", FORMATS)
def test_named_with_the_command_that_converts_it_where_ffmpeg_is_not_installed(files, name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / name).write_bytes(files[name])
    with pytest.raises(InputError) as error:
        read_audio(tmp_path / name, name="recording")
    quoted = "'a lossless.m4a' 'a lossless.wav'" if " " in name else f"{name} a.wav"
    assert str(error.value).startswith(f"recording: not decoded here: {FORMATS[name][2]}")
    assert f"; convert it (ffmpeg -i {quoted}) or install " in str(error.value)
    assert "pip install 'av>=18,<19'" in str(error.value)


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "a.ac3"])  # half is at the end of a frame
def test_half_of_a_file_is_truncated(files, name):
    try:
        _, recording = decode(half(files[name]))
    except InputError as error:  # the index is at the end
        assert str(error).startswith("truncated: ") or name == "a.wv"
        return
    assert recording.flaw.startswith(f"truncated: {recording.seconds:.2f} s ") and recording.seconds < 1.9


@pytest.mark.parametrize("codec", ["ac3", "eac3"])
def test_a_frame_of_ac3_that_is_cut_is_noticed(codec):
    content = write(codec, codec)
    assert decode(content)[1].flaw is None
    assert decode(content[:-7])[1].flaw.endswith("the last part of the file is incomplete")


def test_an_index_at_the_beginning_states_the_length():
    content = write("mp4", "aac", options={"movflags": "faststart"})
    _, recording = decode(half(content))
    assert recording.flaw == f"truncated: {recording.seconds:.2f} s of 2.16 s are there"


@pytest.mark.parametrize(
    "name", ["a.aac", "a.webm", "a.mka", "a.ogg", "a.wma", "a.wv", "a.avi", "a.flv", "a.tta", "a.ac3"]
)
def test_two_files_joined_are_read_to_the_end(files, name):
    _, recording = decode(files[name] * 2)
    assert recording.flaw is None and recording.seconds == pytest.approx(4.32, abs=0.25)


def test_stereo_and_a_live_stream_without_a_length():
    content = write("webm", "libopus", channels=2, options={"live": "1"})
    _, recording = decode(content)
    assert recording.channels == 2 and recording.expected_seconds is None
    assert recording.seconds == pytest.approx(2.16, abs=0.05) and recording.flaw is None
    assert decode(content[:-500])[1].flaw.startswith("truncated: ")


def test_text_is_no_playlist(tmp_path):
    """FFmpeg would open the files and addresses that a playlist names."""
    (tmp_path / "secret.flac").write_bytes(b"")
    for text in (
        f"ffconcat version 1.0\nfile {tmp_path}/secret.flac\n",
        "#EXTM3U\n#EXTINF:1,\nhttp://localhost/a.aac\n",
    ):
        (tmp_path / "a.m4a").write_text(text)
        with pytest.raises(InputError, match=r"not audio that can be read \(text\)"):
            Recording(tmp_path / "a.m4a")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS"),
        (b"\n<!DOCTYPE html><html></html>", "a web page"),
        (b"<HTML>", "a web page"),
        (b"%PDF-1.7", "a PDF document"),
        (b"PK\x03\x04" + bytes(90), "a zip archive"),
        (b"\x1f\x8b\x08" + bytes(90), "a gzip archive"),
        (b"\xff\xd8\xff\xe0" + bytes(90), "a JPEG picture"),
        (b"a.txt".ljust(257, b"\0") + b"ustar\0" + bytes(300), "a tar archive"),
        (bytes(100_000), "only zeros"),
        (b"MThd" + bytes(90), "a MIDI file"),
        ("Was ich hörte.".encode(), "text"),
        (bytes(range(1, 200)) * 9, "unknown format"),
    ],
)
def test_what_is_not_audio_is_named(content, what):
    assert not_audio(io.BytesIO(content)).startswith(what)
    with pytest.raises(InputError, match=rf"not audio that can be read \({what}.*\); use wav, flac, ogg or mp3"):
        Recording(content)


@pytest.mark.parametrize("name", FORMATS)
def test_any_damage_leaves_a_recording_or_a_message(files, name):
    for seed in range(8):
        generator = np.random.default_rng(seed)
        content = bytearray(files[name])
        for _ in range(10):
            content[int(generator.integers(min(len(content), 2_000)))] = int(generator.integers(256))
        try:
            samples, recording = decode(bytes(content))
        except InputError as error:
            assert str(error)
            continue
        assert np.isfinite(samples).all() and recording.num_frames == len(samples)
