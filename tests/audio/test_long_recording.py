import doctest

import numpy as np
import pytest
import soundfile
import torch
import torchaudio

from higgs_recipes.audio import decoders
from higgs_recipes.audio import long_recording as recordings
from higgs_recipes.audio.io import resampling_ratio
from higgs_recipes.audio.long_recording import LongRecording, slowed
from higgs_recipes.audio.vad import FRAME_SAMPLES, VAD_RATE, SpeechDetector
from higgs_recipes.errors import InputError
from higgs_recipes.ingest import segmentation as cutting
from higgs_recipes.ingest.segmentation import cut_segments


@pytest.mark.parametrize("module", [cutting, recordings])
def test_examples_in_the_docstrings_hold(module):
    assert doctest.testmod(module, extraglobs={"torch": torch}).failed == 0


def write_noise(path, *, seconds: float, rate: int, channels: int = 2, **kind):
    samples = 0.1 * np.random.default_rng(0).standard_normal((round(seconds * rate), channels))
    soundfile.write(path, samples, rate, **kind)
    return path


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 47_999, 48_000, 96_000])
def test_pieces_join_to_the_recording_read_whole(tmp_path, rate, monkeypatch):
    monkeypatch.setattr(recordings, "PIECE_SECONDS", 0.7)
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


def test_memory_does_not_grow_with_the_recording(tmp_path, monkeypatch):
    monkeypatch.setattr(recordings, "PIECE_SECONDS", 1.0)
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
def test_what_is_no_recording_is_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(InputError, match=message):
        LongRecording(tmp_path / "a.wav")


def test_samples_that_are_no_sound_are_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full(24_000, np.nan, dtype=np.float32), 24_000, subtype="FLOAT")
    with pytest.raises(InputError, match="NaN or infinite samples"):
        LongRecording(tmp_path / "a.wav")


@pytest.mark.parametrize("container", ["wav", "flac", "ogg", "mp3"])
def test_of_a_truncated_recording_what_is_there_is_read(tmp_path, container):
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


def test_a_recording_that_grew_shorter_since_it_was_read_is_refused(tmp_path):
    path = write_noise(tmp_path / "a.wav", seconds=4, rate=24_000)
    with LongRecording(path) as recording:
        contents = recording.contents
    write_noise(path, seconds=2, rate=24_000)
    with (
        LongRecording(path, contents=contents) as recording,
        pytest.raises(InputError, match="it ends at 2.0 s"),
    ):
        list(recording.pieces(VAD_RATE))


def test_channels_that_cancel_out_are_one_channel(tmp_path):
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


def test_slowed_sound_is_longer_by_a_twentieth():
    assert len(slowed(torch.zeros(24_000))) == 25_200


def test_how_a_recording_is_cut_into_pieces_does_not_change_what_is_heard():
    threads = torch.get_num_threads()
    detector = SpeechDetector()
    assert torch.get_num_threads() == threads
    waveform = 0.1 * torch.randn(10 * FRAME_SAMPLES + 100, generator=torch.Generator().manual_seed(0))
    whole = detector.frames([waveform])
    pieces = detector.frames(waveform.split(700))
    assert len(whole[0]) == len(whole[1]) == 11
    assert all(torch.equal(a, b) for a, b in zip(whole, pieces, strict=True))


KNOBS = {"frame_seconds": 0.1, "min_seconds": 1, "max_seconds": 3, "min_pause": 0.2, "max_pause": 1}


def frames(*runs: tuple[int, float]) -> torch.Tensor:
    """The probabilities of runs of (frames, probability)."""
    return torch.tensor([probability for count, probability in runs for _ in range(count)])


def test_speech_without_a_pause_is_not_cut_within_a_word():
    (segment,) = cut_segments(frames((5, 0), (50, 1), (1, 0), (50, 1), (5, 0)), **KNOBS)
    assert segment.flaw == "no pause to cut at: 10.30 s of speech without one of 0.2 s"


def test_speech_at_the_edge_of_a_recording_is_cut_off():
    first, last = cut_segments(frames((20, 1), (20, 0), (20, 1)), **KNOBS)
    assert first.flaw.startswith("cut off") and last.flaw.startswith("cut off")


def test_silence_has_no_segments():
    assert cut_segments(frames((100, 0.1)), **KNOBS) == []
    assert cut_segments(torch.zeros(0), **KNOBS) == []


def test_any_speech_lies_in_segments_in_order_that_do_not_overlap():
    generator = torch.Generator().manual_seed(0)
    for _ in range(30):
        lengths = torch.randint(1, 25, (60,), generator=generator).tolist()
        probabilities = frames(*[(length, float(index % 2)) for index, length in enumerate(lengths)])
        segments = cut_segments(probabilities, **KNOBS)
        for before, after in zip(segments, segments[1:], strict=False):
            assert before.end <= after.start + 1e-3
        for index, probability in enumerate(probabilities.tolist()):
            inside = any(each.start <= index / 10 + 0.05 <= each.end for each in segments)
            assert inside or not probability
        for segment in segments:
            assert segment.flaw or 1 <= segment.end - segment.start <= 3 + 1e-3
            for edge in (segment.start, segment.end):
                at = min(int(edge * 10 + 1e-6), len(probabilities) - 1)
                assert segment.flaw or not probabilities[at]
