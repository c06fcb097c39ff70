"""The attention kernel, run by triton's interpreter on a CPU, against torch's own attention."""

from tests.helpers.triton import run_interpreted


CHECK = """
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers.models.higgs_audio_v2.modeling_higgs_audio_v2 import rotate_half
from higgs_recipes.generation.decode_attention import kernel_attention


def compare(streams, heads, key_heads, head_dim, places, num_positions, capacity):
    keys, values = (torch.randn(streams, key_heads, capacity, head_dim) for _ in range(2))
    projected = torch.randn(streams, (heads + 2 * key_heads) * head_dim)
    cos, sin = torch.randn(2, capacity, head_dim).unbind()
    expected_keys, expected_values = keys.clone(), values.clone()
    attended = kernel_attention(places, num_positions, cos, sin)(projected, keys, values)

    query, key, value = projected.unflatten(1, (-1, head_dim)).split([heads, key_heads, key_heads], dim=1)
    query, key = (x * cos[places][:, None] + rotate_half(x) * sin[places][:, None] for x in (query, key))
    used = places < num_positions
    rows = torch.arange(streams)[used]
    expected_keys[rows, :, places[used]], expected_values[rows, :, places[used]] = key[used], value[used]
    is_visible = (torch.arange(capacity) <= places.clamp(max=num_positions - 1)[:, None])[:, None, None]
    arguments = {"attn_mask": is_visible, "enable_gqa": True}
    expected = scaled_dot_product_attention(query[:, :, None], expected_keys, expected_values, **arguments).flatten(1)
    torch.testing.assert_close(attended, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(keys, expected_keys, atol=1e-5, rtol=0)
    assert torch.equal(values, expected_values)


torch.manual_seed(0)
for streams, positions, heads, key_heads, head_dim in (
    (1, 1, 6, 2, 16), (2, 200, 6, 2, 16), (2, 70, 4, 4, 32), (17, 300, 2, 1, 16)
):
    places = torch.randint(0, positions, (streams,))
    places[0], places[-1] = 0, positions - 1
    compare(streams, heads, key_heads, head_dim, places, positions, positions + 40)
# A slot that is out of use may be further than what the others read: its key is not written.
compare(2, 4, 2, 16, torch.tensor([50, 290]), 64, 300)
"""


def test_the_kernel_gives_what_attention_with_a_mask_gives():
    run_interpreted(CHECK)
