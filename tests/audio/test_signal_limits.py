from fractions import Fraction

from higgs_recipes.audio.io import resampling_ratio
from higgs_recipes.audio.signal_limits import MAX_FILTER_SIZE, MAX_RATE, MIN_RATE
from higgs_recipes.constants import SAMPLE_RATE


def test_unusual_rates_do_not_need_large_resampling_filters():
    exact = [Fraction(rate, SAMPLE_RATE) for rate in range(MIN_RATE, MAX_RATE, 7)]
    ratios = [resampling_ratio(rate, SAMPLE_RATE) for rate in range(MIN_RATE, MAX_RATE, 7)]
    assert max(ratio.numerator * ratio.denominator for ratio in ratios) <= MAX_FILTER_SIZE
    assert max(abs(ratio / true - 1) for ratio, true in zip(ratios, exact, strict=True)) < 1e-3
