"""How long an mp3 is, whatever its header says or does not say."""

import numpy as np
import pytest

from higgs_recipes.audio.mp3 import FRAMES
from tests.helpers.audio_files import decode, encode, half, with_cover, without_info
from tests.helpers.tiny_codec import tone


SECONDS = 2.16
DELAY = 0.07  # what encoder and decoder add to a file that does not say so


def mp3(rate: int = 24_000, *, mode: str = "VARIABLE", seconds: float = SECONDS, hertz: float = 220.0) -> bytes:
    return encode(tone(seconds, rate=rate, hertz=hertz), rate=rate, format="MP3", bitrate_mode=mode)


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 24_000, 32_000, 44_100, 48_000])
@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE", "AVERAGE"])
@pytest.mark.parametrize("wrap", [lambda file: file, with_cover], ids=["bare", "cover"])
def test_without_an_info_frame_frames_are_counted(rate, mode, wrap):
    samples, recording = decode(wrap(without_info(mp3(rate, mode=mode))))
    assert recording.flaw is None and recording.rate == rate
    assert SECONDS <= recording.expected_seconds == recording.seconds <= SECONDS + 2 * DELAY
    assert abs(np.abs(samples[rate // 2 : rate]).max() - 0.3) < 0.02


def test_the_length_of_an_info_frame_is_exact():
    samples, recording = decode(mp3())
    assert recording.seconds == SECONDS and recording.flaw is None
    assert np.abs(samples[:, 0] - tone(SECONDS).numpy())[500:-500].max() < 0.01


def test_a_stereo_file_and_one_with_tags_at_its_end():
    stereo = np.stack([tone(SECONDS), tone(SECONDS, hertz=330)], axis=1)
    file = encode(stereo, rate=44_100, format="MP3")
    for tags in (b"", b"TAG" + bytes(125), b"APETAGEX" + bytes(24), bytes(20_000)):
        _, recording = decode(file + tags)
        assert recording.channels == 2 and recording.flaw is None
        assert recording.num_frames == len(stereo)


def test_of_a_file_copied_by_half_the_info_frame_tells_the_rest():
    _, recording = decode(half(mp3()))
    assert recording.flaw == f"truncated: {recording.seconds:.2f} s of 2.16 s are there"
    assert 0.8 < recording.seconds < 1.2


def test_without_an_info_frame_a_cut_frame_tells_that_something_is_missing():
    file = without_info(mp3())
    _, recording = decode(file[:-10])
    assert recording.flaw == f"truncated: {recording.seconds:.2f} s are there, its last frame is incomplete"
    assert recording.seconds == pytest.approx(decode(file)[1].seconds - 0.024)


@pytest.mark.parametrize("strip", [lambda file: file, without_info], ids=["info", "bare"])
def test_two_files_joined_are_read_to_the_end(strip):
    first, second = mp3(hertz=220), mp3(seconds=1.0, hertz=440)
    samples, recording = decode(strip(first) + strip(second))
    lengths = [decode(strip(file))[1].num_frames for file in (first, second)]
    assert recording.flaw is None and abs(recording.num_frames - sum(lengths)) <= 600
    assert np.abs(samples[-12_000:-2_000]).max() > 0.25


def test_joined_files_of_other_rates_are_refused():
    with pytest.raises(ValueError, match="joined into one file: 24000 Hz with 1 .*, then 44100 Hz with 1 "):
        decode(mp3(24_000) + mp3(44_100))


def test_an_info_frame_that_states_too_little_or_nothing_does_not_end_the_file():
    file = bytearray(mp3())
    at = max(file.find(b"Info"), file.find(b"Xing")) + 8
    for stated in (3, 0):
        file[at : at + 4] = stated.to_bytes(4, "big")
        _, recording = decode(bytes(file))
        assert recording.flaw is None and SECONDS <= recording.seconds <= SECONDS + 2 * DELAY


def test_zeros_behind_the_audio_are_not_audio():
    whole = without_info(mp3())
    assert decode(whole + bytes(50_000))[1].num_frames == decode(whole)[1].num_frames
    assert decode(whole + bytes(50_000))[1].flaw is None
    _, recording = decode(half(mp3()) + bytes(5_000))
    assert recording.flaw == f"truncated: {recording.seconds:.2f} s of 2.16 s are there"


@pytest.mark.parametrize("num_zeros", [100, 5_998, 5_999, 70_000])
def test_zeros_before_the_audio_are_skipped(num_zeros):
    _, recording = decode(bytes(num_zeros) + mp3())
    assert recording.flaw is None and recording.seconds == SECONDS


def test_a_hole_in_the_audio_is_named():
    file = without_info(mp3())
    middle = len(half(file))
    _, recording = decode(file[:middle] + bytes(6_000) + file[middle:])
    assert recording.flaw.startswith(f"broken audio: {recording.seconds:.2f} s are there, what follows 1.")
    assert recording.seconds == pytest.approx(decode(file)[1].seconds, abs=0.05)


def test_a_file_that_was_cut_out_of_a_stream_begins_at_its_first_whole_frame():
    file = without_info(mp3())
    samples, recording = decode(file[100:])
    assert recording.flaw is None and SECONDS - DELAY < recording.seconds < SECONDS + DELAY


def test_a_fraunhofer_header_tells_the_length_too():
    file = mp3()
    length = FRAMES[file[:3]].length
    vbri = bytearray(length)
    vbri[:4], vbri[36:42] = file[:4], b"VBRI\0\1"
    for num_frames, flaw in [(91, None), (92, None), (182, "truncated: 2.19 s of 4.32 s are there")]:
        vbri[50:54] = num_frames.to_bytes(4, "big")
        _, recording = decode(bytes(vbri) + without_info(file))
        assert recording.seconds == pytest.approx(91 * 576 / 24_000, abs=0.03) and recording.flaw == flaw


@pytest.mark.parametrize("seed", range(20))
def test_any_damage_leaves_a_recording_or_a_message(seed):
    """No damage ends in another error, and what is read is never longer than the file's frames."""
    generator = np.random.default_rng(seed)
    file = bytearray(mp3() if seed % 2 else without_info(mp3()))
    for _ in range(int(generator.integers(1, 20))):
        at, size = int(generator.integers(len(file))), int(generator.integers(1, 200))
        file[at : at + size] = generator.integers(0, 256, size, dtype=np.uint8).tobytes()[: len(file) - at]
    try:
        _, recording = decode(bytes(file))
    except ValueError:
        return
    assert recording.seconds < SECONDS + 1
