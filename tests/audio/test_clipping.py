import pytest
import torch

from higgs_recipes.audio.clipping import count_clipped, silent_edges
from higgs_recipes.audio.io import read_measured
from tests.helpers.audio_files import encode_audio
from tests.helpers.tiny_codec import tone


def test_clipped_samples_are_counted_as_by_a_slow_loop():
    generator = torch.Generator().manual_seed(0)
    samples = torch.randint(-2, 3, (400, 2), generator=generator).float() / 2  # a fifth at each end of the scale
    expected = 0
    for channel in samples.T.tolist():
        for index, sample in enumerate(channel):
            start, end = index, index
            while start > 0 and channel[start - 1] == sample:
                start -= 1
            while end + 1 < len(channel) and channel[end + 1] == sample:
                end += 1
            expected += abs(sample) == 1 and end - start >= 2
    assert count_clipped(samples) == expected > 10
    assert count_clipped(torch.ones(2, 1)) == 0


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "FLOAT", "ULAW", "ALAW"])
@pytest.mark.parametrize("rate", [24_000, 44_100])
def test_clipping_is_detected_in_every_sample_format_and_loudness_is_not(subtype, rate):
    loud, clipped = tone(1.0, loudness=0.9, rate=rate), tone(1.0, loudness=2.0, rate=rate).clamp(-1, 1)
    _, levels = read_measured(encode_audio(loud, subtype=subtype, rate=rate), name="loud")
    assert (levels.rate, levels.clipped) == (rate, 0)
    _, levels = read_measured(encode_audio(clipped, subtype=subtype, rate=rate), name="clipped")
    # |sin| exceeds 0.5 in two thirds of a period.
    assert levels.clipped == pytest.approx(rate * 2 / 3, rel=0.05)


def test_clipping_of_one_channel_counts_although_the_mean_is_not_clipped():
    stereo = torch.stack([tone(0.5, loudness=2.0).clamp(-1, 1), torch.zeros(12_000)], dim=1)
    waveform, levels = read_measured(encode_audio(stereo), name="clip")
    assert waveform.abs().max() < 0.6 and levels.clipped == pytest.approx(8_000, rel=0.05)


def test_silence_is_relative_to_the_loudest_frame():
    noise = 1e-4 * torch.randn(9_600, generator=torch.Generator().manual_seed(0))
    waveform = torch.cat([noise, tone(0.5), noise[:4_800]])
    assert silent_edges(waveform, rate=24_000) == (0.4, 0.2)
    assert silent_edges(torch.cat([300 * noise, tone(0.5)]), rate=24_000) == (0.0, 0.0)
    assert silent_edges(torch.zeros(24_000), rate=24_000) == (1.0, 0.0)
    assert silent_edges(tone(0.4999), rate=24_000) == (0.0, 0.0)
