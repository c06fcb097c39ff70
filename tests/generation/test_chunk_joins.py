import torch

from higgs_recipes.audio.clipping import silent_edges
from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.generation.chunk_joins import FADE_SECONDS, joined_chunks
from tests.helpers.tiny_codec import tone


def clip(silent_start: float, silent_end: float, *, seconds: float = 0.4) -> torch.Tensor:
    edges = [torch.zeros(round(silence * SAMPLE_RATE)) for silence in (silent_start, silent_end)]
    return torch.cat([edges[0], tone(seconds), edges[1]])


def join(clips: list[torch.Tensor], pauses: list[float]) -> torch.Tensor:
    return torch.cat(list(joined_chunks(iter(clips), pauses)))


def test_the_pause_is_as_stated_whatever_the_silence_of_the_clips():
    for silence in (0.0, 0.1, 0.2, 0.9):
        joined = join([clip(0.0, silence), clip(silence, 0.0)], [0.4, 0.4])
        assert len(joined) == round((0.4 + 0.4 + 0.4) * SAMPLE_RATE), silence
        assert not joined[round(0.41 * SAMPLE_RATE) : round(0.79 * SAMPLE_RATE)].any()


def test_the_outer_ends_are_kept():
    joined = join([clip(0.3, 0.1), clip(0.1, 0.1), clip(0.1, 0.5)], [0.4, 0.2, 0.8])
    assert silent_edges(joined, rate=SAMPLE_RATE) == (0.3, 0.5)
    assert len(joined) == round((0.3 + 0.4 + 0.4 + 0.4 + 0.2 + 0.4 + 0.5) * SAMPLE_RATE)


def test_one_clip_is_unchanged():
    waveform = clip(0.2, 0.3)
    assert torch.equal(join([waveform], [0.4]), waveform)


def test_a_clip_that_is_cut_off_makes_no_click():
    joined = join([torch.ones(SAMPLE_RATE), torch.ones(SAMPLE_RATE)], [0.1, 0.1])
    steps = joined.diff().abs()
    assert steps.max() <= 1.01 / (FADE_SECONDS * SAMPLE_RATE)


def test_silent_and_tiny_clips_are_joined():
    joined = join([torch.zeros(2400), torch.ones(1), torch.zeros(2400)], [0.1, 0.1, 0.1])
    assert len(joined) == 2400 + 1 + 2400 + 2 * 2400


def test_only_one_clip_is_read_at_a_time():
    read = []

    def clips():
        for index in range(3):
            read.append(index)
            yield clip(0.0, 0.0)

    parts = joined_chunks(clips(), [0.4] * 3)
    next(parts)
    assert read == [0]
