"""The products of a decode step, run by triton's interpreter on a CPU, against torch's own."""

from tests.helpers.triton import run_interpreted


CHECK = """
import torch
from torch.testing import assert_close
from higgs_recipes.generation.decode_linear import finish_single, linear, project_single, tiled_linear
from higgs_recipes.generation.decode_step import finish_layer, project_states
from higgs_recipes.generation.decode_weights import Int8Weight, LayerWeights, project

torch.manual_seed(0)
hidden_size, inner_size = 24, 140
for dtype, is_int8 in ((torch.float32, False), (torch.float16, True)):
    tolerance = 1e-5 if dtype == torch.float32 else 1e-2
    shapes = [(40, hidden_size), (hidden_size, hidden_size), (2 * inner_size, hidden_size)]
    shapes.append((hidden_size, inner_size))
    weights = [(torch.randn(shape) / shape[1] ** 0.5).to(dtype) for shape in shapes]
    norm = torch.rand(hidden_size).to(dtype) + 0.5
    if is_int8:
        weights = [Int8Weight.quantize(weight) for weight in weights]
    layer = LayerWeights(norm, weights[0], weights[1], norm.flip(0), weights[2], weights[3])
    hidden, attended = torch.randn(2, 1, hidden_size).to(dtype)
    expected = project_states(hidden, layer, epsilon=1e-5)
    assert_close(project_single(hidden, layer, epsilon=1e-5), expected, atol=tolerance, rtol=tolerance)
    expected = finish_layer(hidden, attended, layer, epsilon=1e-5)
    assert_close(finish_single(hidden, attended, layer, epsilon=1e-5), expected, atol=tolerance, rtol=tolerance)
    for num_streams in (2, 17):
        states = torch.randn(num_streams, inner_size).to(dtype)
        expected = project(states, layer.down)
        for function in (linear, tiled_linear):
            product = function(states, layer.down, shared_bytes=100_000)
            assert_close(product, expected, atol=tolerance, rtol=tolerance)
"""


def test_the_kernels_give_what_torch_gives():
    run_interpreted(CHECK)
