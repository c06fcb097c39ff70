import pytest
import torch

from higgs_recipes.audio.clipping import count_clipped, silent_edges
from higgs_recipes.audio.io import read_measured
from tests.audio.test_io import encode
from tests.helpers.tiny_codec import tone


def test_flat_tops_are_counted_as_a_loop_counts_them():
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


@pytest.mark.parametrize("kind", ["PCM_U8", "PCM_16", "PCM_24", "FLOAT", "ULAW", "ALAW"])
@pytest.mark.parametrize("rate", [24_000, 44_100])
def test_a_clipped_recording_is_found_in_any_form_and_a_loud_one_is_not(kind, rate):
    loud, clipped = tone(1.0, loudness=0.9, rate=rate), tone(1.0, loudness=2.0, rate=rate).clamp(-1, 1)
    _, levels = read_measured(encode(loud, subtype=kind, rate=rate), name="loud")
    assert (levels.rate, levels.clipped) == (rate, 0)
    _, levels = read_measured(encode(clipped, subtype=kind, rate=rate), name="clipped")
    # |sin| is above a half for two thirds of the time.
    assert levels.clipped == pytest.approx(rate * 2 / 3, rel=0.05)


def test_one_clipped_channel_is_clipped_though_the_mean_is_not():
    stereo = torch.stack([tone(0.5, loudness=2.0).clamp(-1, 1), torch.zeros(12_000)], dim=1)
    waveform, levels = read_measured(encode(stereo), name="clip")
    assert waveform.abs().max() < 0.6 and levels.clipped == pytest.approx(8_000, rel=0.05)


def test_silence_is_what_lies_far_below_the_loudest():
    noise = 1e-4 * torch.randn(9_600, generator=torch.Generator().manual_seed(0))
    waveform = torch.cat([noise, tone(0.5), noise[:4_800]])
    assert silent_edges(waveform, rate=24_000) == (0.4, 0.2)
    assert silent_edges(torch.cat([300 * noise, tone(0.5)]), rate=24_000) == (0.0, 0.0)
    assert silent_edges(torch.zeros(24_000), rate=24_000) == (1.0, 0.0)
    assert silent_edges(tone(0.4999), rate=24_000) == (0.0, 0.0)
