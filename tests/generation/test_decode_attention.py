"""The attention kernels, run by triton's interpreter on a CPU, against torch's own attention."""

import os
import subprocess
import sys

import pytest

from tests.helpers.paths import ROOT


CHECK = """
import torch
from torch.nn.functional import scaled_dot_product_attention
from higgs_recipes.generation.decode_attention import kernel_attention


def compare(query, keys, values, places, num_positions):
    attended = kernel_attention(places, num_positions)(query, keys, values)
    is_visible = (torch.arange(keys.shape[2]) <= places.clamp(max=num_positions - 1)[:, None])[:, None, None]
    arguments = {"attn_mask": is_visible, "enable_gqa": True}
    expected = scaled_dot_product_attention(query[:, :, None], keys, values, **arguments).flatten(1)
    torch.testing.assert_close(attended, expected, atol=1e-5, rtol=0)


torch.manual_seed(0)
for streams, positions in ((1, 1), (2, 200), (17, 320)):
    for heads, key_heads, head_dim in ((6, 2, 16), (4, 4, 32)):
        keys, values = (torch.randn(streams, key_heads, positions + 40, head_dim) for _ in range(2))
        query = torch.randn(streams, heads + key_heads, head_dim)[:, :heads]  # as it is cut out of a projection
        places = torch.randint(0, positions, (streams,))
        places[0], places[-1] = 0, positions - 1
        compare(query, keys, values, places, positions)
# A slot that is out of use may be further than what the others read.
compare(torch.randn(2, 4, 16), torch.randn(2, 2, 300, 16), torch.randn(2, 2, 300, 16), torch.tensor([50, 290]), 64)
"""


def test_kernels_give_what_attention_with_a_mask_gives():
    pytest.importorskip("triton")
    # A process of its own: the variable is read when triton is imported.
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, "-c", CHECK], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
