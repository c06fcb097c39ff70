"""The pieces of a stream join to the waveform of the whole clip, and come while it is generated."""

from itertools import islice, takewhile

import pytest
import torch

from higgs_recipes.audio.codec import load_codec
from higgs_recipes.audio.codec_windows import decode_reach
from higgs_recipes.configs.inference import SamplingConfig
from higgs_recipes.constants import HOP
from higgs_recipes.generation.engine import open_engine
from higgs_recipes.generation.stream import piece_ends, stream_clip
from tests.generation.test_engine import count_steps, ending_model, endless_model, make_prompts, run
from tests.helpers.paths import ROOT
from tests.helpers.tiny_codec import tiny_codec


@pytest.fixture(scope="module")
def endless():
    return endless_model()


@pytest.fixture(scope="module")
def mel_rvq():
    return load_codec(ROOT / "recipes/tiny/mel_rvq", revision=None, device="cpu")


@pytest.mark.parametrize("codec_name", ["higgs", "mel_rvq"])
@pytest.mark.parametrize(("check_every", "checks_in_flight"), [(1, 0), (2, 1)])
def test_joined_pieces_equal_the_waveform_decoded_at_once(endless, mel_rvq, codec_name, check_every, checks_in_flight):
    codec = tiny_codec() if codec_name == "higgs" else mel_rvq
    prompts = make_prompts(endless.config, count=2)
    (clip,) = run(endless, prompts[:1], max_seconds=1.6)
    (whole,) = codec.decode([clip.codes])
    with open_engine(endless, sampling=SamplingConfig(max_seconds=1.6)) as engine:
        engine.check_every, engine.checks_in_flight = check_every, checks_in_flight
        pieces = list(stream_clip(engine, prompts[0], codec))
    joined = torch.cat([piece.waveform for piece in pieces])
    assert joined.shape == whole.shape and (joined - whole).abs().max() < 1e-6 * whole.abs().max()
    assert [piece.is_last for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert torch.equal(pieces[-1].clip.codes, clip.codes) and not pieces[-1].clip.stopped
    if check_every == 1:
        known = 40 - decode_reach(codec).after
        lengths = torch.tensor([len(piece.waveform) // HOP for piece in pieces])
        assert lengths.cumsum(0).tolist() == [*takewhile(lambda end: end <= known, piece_ends()), 40]


def test_clips_that_end_by_themselves_are_streamed_to_their_end():
    model = ending_model()
    prompts = make_prompts(model.config)
    clips = run(model, prompts, max_seconds=1.6)
    assert any(clip.stopped for clip in clips) and len({len(clip.codes) for clip in clips}) > 3
    with open_engine(model, sampling=SamplingConfig(max_seconds=1.6)) as engine:
        for prompt, clip in zip(prompts, clips, strict=True):
            *_, last = pieces = list(stream_clip(engine, prompt, tiny_codec()))
            (whole,) = tiny_codec().decode([clip.codes])
            joined = torch.cat([piece.waveform for piece in pieces])
            assert last.clip.stopped == clip.stopped and torch.equal(last.clip.codes, clip.codes)
            assert joined.shape == whole.shape and (joined - whole).abs().max() < 1e-6 * whole.abs().max()


def test_the_first_piece_comes_before_the_clip_is_complete_and_closing_ends_it(endless):
    (prompt,) = make_prompts(endless.config, count=1)
    with open_engine(endless, sampling=SamplingConfig(max_seconds=4.0)) as engine:
        list(islice(stream_clip(engine, prompt, tiny_codec()), 1))  # allocates the slots
        num_slots = count_steps(engine)
        pieces = stream_clip(engine, prompt, tiny_codec())
        assert next(pieces).waveform.shape == (4 * HOP,)
        assert len(num_slots) == 4 + 10 + 8  # the codec's reach, and the delay of the codebooks
        pieces.close()
        engine.generate([prompt])
        assert set(num_slots) == {1}


def test_several_streams_share_the_engine(endless):
    prompts = sorted(make_prompts(endless.config, count=3), key=lambda prompt: -len(prompt.ids))
    clips = run(endless, prompts, max_seconds=1.6)
    with open_engine(endless, sampling=SamplingConfig(max_seconds=1.6, batch_size=3)) as engine:
        engine.reserve(3, 0)  # as a `Speaker` does
        streams = [stream_clip(engine, prompt, tiny_codec()) for prompt in prompts]
        firsts = [next(stream) for stream in streams]
        num_slots = count_steps(engine)
        for first, stream, clip in zip(firsts, streams, clips, strict=True):
            pieces = [first, *stream]
            assert torch.equal(pieces[-1].clip.codes, clip.codes)
    assert len(num_slots) <= 48  # the clips were generated at the same time
