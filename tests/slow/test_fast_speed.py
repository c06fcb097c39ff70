"""The fast path on a GPU: float32 to 1e-5, bf16 as near as the plain path, no host wait, no new graph when warm."""

import pytest

from tests.slow.fast_speed import compare, measure


@pytest.mark.gpu
@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_gpu_gives_the_plain_path_s_numbers(method):
    distances = compare(method)
    assert distances["float32_fast"]["loss"] < 1e-5 and distances["float32_fast"]["gradient"] < 1e-5
    for name in ("loss", "gradient"):
        for arithmetic in ("bf16", "autocast"):
            # Both are rounded, but not alike; and a loss can be near by chance.
            allowed = 1.5 * distances[f"{arithmetic}_plain"][name] + 2e-4
            assert distances[f"{arithmetic}_fast"][name] < allowed, (arithmetic, name, distances)
            assert distances[f"{arithmetic}_compiled"][name] < allowed, (arithmetic, name, distances)


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
def test_a_warm_step_waits_for_nothing_and_compiles_nothing(compiled):
    figures = measure(method="full", fast=True, compiled=compiled)  # raises where the host waits
    warm, end = figures["graphs_when_warm_and_at_the_end"]
    assert warm == end and (warm > 0) is compiled
