"""A window of a clip is decoded to the same samples as the whole clip, and with no more steps than that needs."""

import json

import pytest
import torch
from torch import nn
from transformers import AutoModel, DacConfig, HiggsAudioV2TokenizerModel

from higgs_recipes.audio.codec import load_codec
from higgs_recipes.audio.codec_windows import Reach, convolution_reach, decode_reach, decode_window
from higgs_recipes.constants import HOP
from tests.helpers.paths import ROOT
from tests.helpers.tiny_codec import tiny_codec


def random_codes(num_steps: int) -> torch.Tensor:
    return torch.randint(0, 1024, (num_steps, 8), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def mel_rvq():
    return load_codec(ROOT / "recipes/tiny/mel_rvq", revision=None, device="cpu")


def test_a_decoder_of_the_published_shape_reaches_ten_steps():
    config = json.loads((ROOT / "recipes/higgs-3b/codec.json").read_text(encoding="utf-8"))["acoustic_model_config"]
    with torch.device("meta"):
        decoder = AutoModel.from_config(DacConfig(**config)).decoder
    HiggsAudioV2TokenizerModel._adjust_dac_decoder(decoder)
    assert convolution_reach(decoder, num_samples=HOP) == (-10, 10)


def test_the_reach_of_convolutions_is_the_input_that_changes_the_output():
    torch.manual_seed(0)
    decoder = nn.Sequential(
        nn.Conv1d(1, 1, kernel_size=5, padding=2),
        nn.ConvTranspose1d(1, 1, kernel_size=6, stride=3, padding=2, output_padding=1),
        nn.Conv1d(1, 1, kernel_size=3, dilation=4, padding=4),
    )
    inputs = torch.zeros(1, 1, 30, requires_grad=True)
    decoder(inputs)[..., 45:51].sum().backward()  # outputs of inputs 15 and 16
    changed = inputs.grad[0, 0].nonzero().flatten()
    first, last = convolution_reach(decoder, num_samples=6)
    assert (changed[0].item(), changed[-1].item()) == (15 + first, 15 + last)


def test_a_window_equals_the_same_part_of_the_clip(mel_rvq):
    for codec in (tiny_codec(), mel_rvq):
        codes, reach = random_codes(60), decode_reach(codec)
        (whole,) = codec.decode([codes])
        for start, stop in ((0, 3), (3, 20), (25, 26), (40, 60)):
            window = decode_window(codec, codes[: stop + reach.after], start=start, stop=stop, reach=reach)
            error = (window - whole[start * HOP : stop * HOP]).abs().max()
            assert window.shape == ((stop - start) * HOP,) and error < 1e-6 * whole.abs().max(), (start, stop)


def test_griffin_lim_needs_all_earlier_steps_and_a_fixed_number_of_later_ones(mel_rvq):
    assert decode_reach(mel_rvq) == Reach(None, 14)
