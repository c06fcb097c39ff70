import torch

from higgs_recipes.audio.pretrained import resample_for_metrics
from higgs_recipes.audio.vad import FRAME_SAMPLES, FRAME_SECONDS, VAD_RATE, SpeechDetector
from tests.helpers.tiny_codec import tone
from tests.helpers.two_voices import recording


def test_results_do_not_depend_on_the_pieces_of_a_recording():
    threads = torch.get_num_threads()
    detector = SpeechDetector()
    assert torch.get_num_threads() == threads
    waveform = 0.1 * torch.randn(10 * FRAME_SAMPLES + 100, generator=torch.Generator().manual_seed(0))
    whole = detector.frames([waveform])
    pieces = detector.frames(waveform.split(700))
    assert len(whole[0]) == len(whole[1]) == 11
    assert all(torch.equal(a, b) for a, b in zip(whole, pieces, strict=True))


def test_speech_is_detected_between_silences():
    speech, silence = resample_for_metrics(recording(0)), torch.zeros(VAD_RATE)
    probabilities, powers = SpeechDetector().frames([silence, speech, silence])
    first, last = round(1 / FRAME_SECONDS), round((1 + len(speech) / VAD_RATE) / FRAME_SECONDS)
    assert probabilities[first:last].median() > 0.9
    assert probabilities[: first - 1].max() < 0.5 and probabilities[last + 10 :].max() < 0.5
    assert powers[: first - 1].max() == 0 and powers[first:last].max() > 1e-3


def test_the_power_of_a_frame_is_its_mean_square():
    _, powers = SpeechDetector().frames([tone(1.0, hertz=1_000.0, loudness=0.5, rate=VAD_RATE)])
    torch.testing.assert_close(powers[:31], torch.full((31,), 0.125), atol=1e-3, rtol=0)
