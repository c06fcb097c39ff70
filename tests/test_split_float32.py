"""Split products: float32's result, of parts that hold no more than TF32 does."""

import torch
from torch import nn

from higgs_recipes.split_float32 import SplitConv1d, SplitLinear, split, use_split_products


def test_the_parts_are_tf32_and_their_sum_is_the_number():
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0)) * 10.0 ** torch.arange(-5, 5).repeat(100)
    high, low = split(values)
    assert torch.equal(high + low, values)
    assert torch.equal(high.view(torch.int32) & 0x1FFF, torch.zeros(1000, dtype=torch.int32))
    assert (low.abs() <= values.abs() * 2**-11).all() and low.abs().max() > 0
    assert torch.equal(split(torch.tensor([0.0, -0.0]))[0], torch.zeros(2))


def test_layers_give_float32_s_result_and_all_else_stays():
    torch.manual_seed(0)
    plain = nn.Sequential(
        nn.Conv1d(5, 8, 7, stride=2, padding=3, dilation=2),
        nn.ELU(),
        nn.Conv1d(8, 8, 3, groups=2, padding=1),
        nn.Flatten(),
        nn.Linear(8 * 15, 4, bias=False),
    ).requires_grad_(False)
    states, keys = torch.randn(2, 5, 35), list(plain.state_dict())
    expected, first = plain(states), plain[0](states)
    use_split_products(plain)
    assert [type(layer) for layer in plain] == [SplitConv1d, nn.ELU, nn.Conv1d, nn.Flatten, SplitLinear]
    assert list(plain.state_dict()) == keys
    torch.testing.assert_close(plain(states), expected, atol=1e-5, rtol=1e-5)
    # What the parts leave out is far below what TF32 alone would.
    rounded = torch.conv1d(
        split(states)[0],
        split(plain[0].weight)[0],
        plain[0].bias,
        plain[0].stride,
        plain[0].padding,
        plain[0].dilation,
    )
    assert (plain[0](states) - first).abs().max() < 0.02 * (rounded - first).abs().max()
