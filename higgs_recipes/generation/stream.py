"""Decode a text while it is generated: pieces of its waveform that join to the waveform of the whole text.

A piece is decoded once the codec's reach behind it is known (see `audio.codec_windows`), so the joined pieces equal
the waveform that is decoded at once, except for float32 rounding: 1e-6 of the loudest sample in the tests.

Generation goes on while the next piece is waited for.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import closing
from itertools import accumulate, repeat
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from higgs_recipes.audio.clipping import silent_edges
from higgs_recipes.audio.codec import Codec
from higgs_recipes.audio.codec_windows import decode_reach, decode_window
from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.generation.chunk_joins import FADE_SECONDS, joined_chunks
from higgs_recipes.generation.engine import Engine
from higgs_recipes.generation.generate import build_prompts
from higgs_recipes.generation.jobs import Clip, Job
from higgs_recipes.generation.long_text import SpokenText, chunk_request
from higgs_recipes.generation.prefill import Prompt


FIRST_STEPS = 4  # 160 ms: the codec's reach behind them and the delay of the codebooks take longer to generate
GROWTH = 1.5  # playback does not pause if generation is faster than real time by this factor


class Piece(NamedTuple):
    """A piece of a clip.

    Attributes:
        waveform: (N,) float32 on the CPU.
        clip: what is known of the clip, or of the clips of all chunks of a text; all of it with the last piece.
        is_last: whether it is the last piece.
    """

    waveform: Tensor
    clip: Clip
    is_last: bool


def piece_ends() -> Iterator[int]:
    """The number of steps up to the end of each piece; the later a piece, the longer it is.

    >>> ends = piece_ends()
    >>> [next(ends) for _ in range(6)]
    [4, 6, 9, 14, 21, 32]
    """
    return accumulate(repeat(GROWTH), lambda end, growth: round(end * growth + 0.25), initial=FIRST_STEPS)


def stream_clip(engine: Engine, prompt: Prompt, codec: Codec) -> Iterator[Piece]:
    """Generate a clip and yield its pieces. Closing the iterator cancels the clip: its slot is free for another one.

    Several streams may share an engine, in one thread or in many.
    """
    reach = decode_reach(codec)
    job = Job(prompt, deque(), report_steps=(end + reach.after for end in piece_ends()))
    start = 0
    with closing(engine.results([job])) as results:
        for result in results:
            codes = result.clip.codes
            stop = len(codes) if result.is_complete else len(codes) - reach.after
            if stop > start:  # a report may be shorter than it was due: EOS has begun
                waveform = decode_window(codec, codes, start=start, stop=stop, reach=reach)
                yield Piece(waveform, result.clip, result.is_complete)
                start = stop


def stream_text(
    engine: Engine, tokenizer: PreTrainedTokenizerBase, codec: Codec, spoken: SpokenText, *, buffer_size: int | None
) -> Iterator[Piece]:
    """Generate a text and yield its pieces; those of several chunks join to `chunk_joins.joined_chunks`.

    The first chunk comes in pieces, without what the join may change at its end. Each further chunk is one piece,
    since the silence at its start is measured against its loudest part.

    Args:
        buffer_size: number of preceding chunks in the prompt of a chunk; None: all.
    """
    clips: list[Clip] = []

    def next_prompt() -> Prompt:
        codes = [clip.codes for clip in clips]
        request = chunk_request(spoken, len(clips), codes, buffer_size=buffer_size)
        return build_prompts([request], tokenizer, engine.model.config)[0]

    if len(spoken.chunks) == 1:
        yield from stream_clip(engine, next_prompt(), codec)
        return
    first, num_sent = torch.zeros(0), 0
    for piece in stream_clip(engine, next_prompt(), codec):
        first = torch.cat([first, piece.waveform])
        unchanged = _end_of_sound(first) - round(FADE_SECONDS * SAMPLE_RATE)
        if unchanged > num_sent and not piece.is_last:
            yield Piece(first[num_sent:unchanged], piece.clip, False)
            num_sent = unchanged
    clips.append(piece.clip)

    def waveforms() -> Iterator[Tensor]:
        yield first
        while len(clips) < len(spoken.chunks):
            clips.extend(engine.generate([next_prompt()]))
            yield codec.decode([clips[-1].codes])[0]

    num_parts = 2 * len(spoken.chunks) - 1  # a pause before each chunk but the first
    for index, part in enumerate(joined_chunks(waveforms(), [chunk.pause for chunk in spoken.chunks])):
        known = Clip(torch.cat([clip.codes for clip in clips]), all(clip.stopped for clip in clips))
        yield Piece(part[num_sent:] if index == 0 else part, known, index == num_parts - 1)


def _end_of_sound(waveform: Tensor) -> int:
    """The number of samples up to the silence at the end of a waveform; louder sound behind it does not change it."""
    start, end = silent_edges(waveform, rate=SAMPLE_RATE)
    is_silent = start + end >= len(waveform) / SAMPLE_RATE
    return 0 if is_silent else len(waveform) - round(end * SAMPLE_RATE)
