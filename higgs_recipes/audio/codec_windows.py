"""Decode part of a clip so that it equals the same part of the whole clip's waveform.

A sample depends on the codes of some steps before and after its own, the reach of the codec. The decoder of
HiggsAudioV2TokenizerModel is convolutional: its reach is 10 steps on either side. Griffin-Lim of `mel_rvq` looks ahead
by a fixed number of frames too, but its initial phases add up from the start of the clip.

Equal means the same arithmetic: samples differ by float32 rounding only, 1e-6 of the loudest sample in the tests.
"""

from typing import NamedTuple

from torch import Tensor, nn

from higgs_recipes.audio.codec import Codec
from higgs_recipes.audio.mel_rvq import MelRVQModel
from higgs_recipes.constants import HOP


class Reach(NamedTuple):
    """The steps around a step that its samples depend on.

    Attributes:
        before: number of earlier steps; None: all of them.
        after: number of later steps.
    """

    before: int | None
    after: int


def decode_reach(codec: Codec) -> Reach:
    """The reach of a codec's decoder."""
    if isinstance(codec.model, MelRVQModel):
        config = codec.model.config
        overlap = config.n_fft // config.frame_hop
        # Each iteration reaches overlap - 1 frames, the last transform half of a window; the restorer one step.
        frames = config.phase_iterations * (overlap - 1) + overlap // 2
        return Reach(None, -(-frames // config.frames_per_step) + 1)
    first, last = convolution_reach(codec.model.acoustic_decoder, num_samples=HOP)
    return Reach(-first, last)


def convolution_reach(decoder: nn.Module, *, num_samples: int) -> tuple[int, int]:
    """First and last input of a stack of convolutions that its outputs 0 to `num_samples` - 1 depend on.

    Args:
        decoder: its convolutions are applied one after the other, in the order of `modules()`.

    >>> convolution_reach(nn.Conv1d(1, 1, kernel_size=3, dilation=2, padding=2), num_samples=10)
    (-2, 11)
    >>> convolution_reach(nn.ConvTranspose1d(1, 1, kernel_size=4, stride=2, padding=1), num_samples=2)
    (-1, 1)
    """
    convolutions = [module for module in decoder.modules() if isinstance(module, (nn.Conv1d, nn.ConvTranspose1d))]
    first, last = 0, num_samples - 1
    for module in reversed(convolutions):
        (kernel,), (stride,), (padding,), (dilation,) = (
            *(module.kernel_size, module.stride, module.padding, module.dilation),
        )
        if isinstance(module, nn.ConvTranspose1d):  # output o reads the inputs i with 0 <= o + padding - i*stride < K
            first, last = -((kernel - 1 - first - padding) // stride), (last + padding) // stride
        else:
            first, last = first * stride - padding, last * stride - padding + (kernel - 1) * dilation
    return first, last


def decode_window(codec: Codec, codes: Tensor, *, start: int, stop: int, reach: Reach) -> Tensor:
    """The samples ((stop - start) * HOP,) of steps start to stop of a clip, float32 on the CPU.

    Args:
        codes: codes (T, C) of the clip from its start; at least `reach.after` steps after `stop`, or the whole clip.
        reach: `decode_reach(codec)`.
    """
    first = 0 if reach.before is None else max(0, start - reach.before)
    (waveform,) = codec.decode([codes[first : stop + reach.after]])
    return waveform[(start - first) * HOP : (stop - first) * HOP].clone()
