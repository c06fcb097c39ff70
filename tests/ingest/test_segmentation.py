"""Where a recording is cut, given the probability of speech in each frame."""

import torch

from higgs_recipes.ingest.segmentation import cut_segments


OPTIONS = {"frame_seconds": 0.1, "min_seconds": 1, "max_seconds": 3, "min_pause": 0.2, "max_pause": 1}


def frames(*runs: tuple[int, float]) -> torch.Tensor:
    """The probabilities of runs of (frames, probability)."""
    return torch.tensor([probability for count, probability in runs for _ in range(count)])


def test_speech_without_a_pause_is_not_cut_within_a_word():
    (segment,) = cut_segments(frames((5, 0), (50, 1), (1, 0), (50, 1), (5, 0)), **OPTIONS)
    assert segment.flaw.reason == "no pause to cut at: 10.30 s of speech without one of 0.2 s"


def test_speech_at_the_edge_of_a_recording_is_a_flaw():
    first, last = cut_segments(frames((20, 1), (20, 0), (20, 1)), **OPTIONS)
    assert first.flaw.reason.startswith("cut off") and last.flaw.reason.startswith("cut off")


def test_silence_has_no_segments():
    assert cut_segments(frames((100, 0.1)), **OPTIONS) == []
    assert cut_segments(torch.zeros(0), **OPTIONS) == []


def test_segments_contain_all_speech_in_order_without_overlap():
    generator = torch.Generator().manual_seed(0)
    for _ in range(30):
        lengths = torch.randint(1, 25, (60,), generator=generator).tolist()
        probabilities = frames(*[(length, float(index % 2)) for index, length in enumerate(lengths)])
        segments = cut_segments(probabilities, **OPTIONS)
        for before, after in zip(segments, segments[1:], strict=False):
            assert before.end <= after.start + 1e-3
        for index, probability in enumerate(probabilities.tolist()):
            inside = any(segment.start <= index / 10 + 0.05 <= segment.end for segment in segments)
            assert inside or not probability
        for segment in segments:
            assert segment.flaw or 1 <= segment.end - segment.start <= 3 + 1e-3
            for edge in (segment.start, segment.end):
                at = min(int(edge * 10 + 1e-6), len(probabilities) - 1)
                assert segment.flaw or not probabilities[at]
