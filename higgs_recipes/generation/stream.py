"""Decode a clip while it is generated: pieces of its waveform that join to the waveform of the whole clip.

A piece is decoded once the codec's reach behind it is known (see `audio.codec_windows`), so the joined pieces equal
the waveform that is decoded at once, except for float32 rounding: 1e-6 of the loudest sample in the tests.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import closing
from itertools import accumulate, repeat
from typing import NamedTuple

from torch import Tensor

from higgs_recipes.audio.codec import Codec
from higgs_recipes.audio.codec_windows import decode_reach, decode_window
from higgs_recipes.generation.engine import Engine
from higgs_recipes.generation.jobs import Clip, Job
from higgs_recipes.generation.prefill import Prompt


FIRST_STEPS = 4  # 160 ms: the codec's reach behind them and the delay of the codebooks take longer to generate
GROWTH = 1.5  # playback does not pause if generation is faster than real time by this factor


class Piece(NamedTuple):
    """A piece of a clip.

    Attributes:
        waveform: (N,) float32 on the CPU.
        clip: what is known of the clip; all of it with the last piece.
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
